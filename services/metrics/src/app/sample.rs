//! Samples: taken from agents, answered after the commit (law L2); given as a raw range.

use std::sync::Arc;

use bus::AgentSender;
use chrono::Duration;
use contract::agent::{DiskSample, Sample, SampleAnswer, SampleBatch};
use contract::live::Live;
use contract::metrics::{SampleList, SamplePage};
use contract::{Grant, Problem, ProblemKind};
use database::DatabaseError;
use domain::Timestamp;
use domain::access::MACHINES_READ;
use domain::health::{Health, health};
use serde::{Deserialize, Serialize};

use crate::app::{App, bounds, page};
use crate::error::MetricsError;
use crate::metrics::Count;
use crate::store;
use crate::store::sample::{Newest, SampleWrite, SampleWritten};

/// The longest range of one list.
const RANGE_MAX: Duration = bounds::RETENTION;

/// Where a page of samples ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    after: Timestamp,
}

/// A machine's health at a sample: all cores, memory, the fullest disk.
#[must_use]
pub fn health_of(sample: &Sample) -> Health {
    let fullest = sample
        .disks
        .iter()
        .map(|disk| disk.percent)
        .fold(0.0, f64::max);
    health(sample.cpu.percent, sample.memory.percent, fullest)
}

/// Who looks at the disks, as a fault of theirs names it.
const DISKS: &str = "disks";

/// Whether nothing is known of a machine's disks at this sample, because they could not be looked at.
fn lacks_disks(sample: &Sample) -> bool {
    sample.disks.is_empty() && sample.faults.iter().any(|fault| fault.collector == DISKS)
}

/// Who looks at those of network file systems, likewise.
const NETWORK_DISKS: &str = "network-disks";

/// Whether some disks may be missing from this sample, because those who serve them did not answer.
fn lacks_network_disks(sample: &Sample) -> bool {
    let faults = &sample.faults;
    faults.iter().any(|fault| fault.collector == NETWORK_DISKS)
}

fn unwritable(error: serde_json::Error) -> MetricsError {
    tracing::error!(%error, "a sample cannot be written as JSON");
    Problem::new(ProblemKind::Internal, "a sample cannot be written").into()
}

impl App {
    /// Takes a message of samples, and answers after the commit.
    ///
    /// # Errors
    /// INVALID when it is no message of samples; FORBIDDEN when the machine was revoked; UNAVAILABLE when the agent
    /// is to keep what it sent.
    pub async fn sample_report(
        &self,
        from: AgentSender,
        batch: SampleBatch,
    ) -> Result<SampleAnswer, MetricsError> {
        let checked = bounds::check(batch, Timestamp::now())?;
        let count = u32::try_from(checked.accepted.len()).unwrap_or(u32::MAX);
        let newest = self.sample_shown(from, &checked.accepted).await?;
        let write = Arc::new(SampleWrite {
            org: from.org,
            machine: from.machine,
            rows: checked
                .accepted
                .iter()
                .map(|sample| Ok((sample.at.utc(), store::sample::body(sample)?)))
                .collect::<Result<_, _>>()
                .map_err(unwritable)?,
            newest: newest
                .as_ref()
                .map(|sample| {
                    Ok(Newest {
                        at: sample.at.utc(),
                        sample: serde_json::to_string(sample)?,
                        health: health_of(sample),
                    })
                })
                .transpose()
                .map_err(unwritable)?,
        });
        let written = self.machine_write(from, || self.sample_write(&write)).await;
        let refused = match written {
            Ok(written) => {
                if let (Some(sample), true) = (&newest, written.latest) {
                    self.sample_announce(from, sample).await;
                }
                checked.refused
            }
            // What a column does not take now it never takes: the agent must not send it for ever.
            Err(MetricsError::Database(DatabaseError::Data(reason))) => {
                tracing::error!(org = %from.org, machine = %from.machine, reason, "samples within bounds are refused by the database");
                checked.refused + count
            }
            Err(error) => return Err(error),
        };
        self.metrics.add(Count::SamplesRefused, u64::from(refused));
        Ok(SampleAnswer {
            through: checked.through,
            refused,
        })
    }

    /// The newest of a message's samples as the machine is shown by it. While its disks cannot be looked at, they are
    /// what was last known of them: a machine is not healthy because a mount hangs. What is stored as history is what
    /// the agent said.
    async fn sample_shown(
        &self,
        from: AgentSender,
        accepted: &[Sample],
    ) -> Result<Option<Sample>, MetricsError> {
        let Some(mut shown) = accepted.last().cloned() else {
            return Ok(None);
        };
        if !lacks_disks(&shown) {
            if lacks_network_disks(&shown) {
                // What nobody could look at is not gone, and a full disk stays full.
                let mut known = self.sample_disks(from).await?;
                known.retain(|disk| shown.disks.iter().all(|shown| shown.mount != disk.mount));
                // No more than a sample may have, whatever a machine says from one to the next.
                known.truncate(bounds::DEVICES_MAX.saturating_sub(shown.disks.len()));
                for mut disk in known {
                    (disk.read, disk.written) = (None, None);
                    shown.disks.push(disk);
                }
            }
            return Ok(Some(shown));
        }
        let known = accepted.iter().rev().find(|sample| !lacks_disks(sample));
        shown.disks = match known {
            Some(known) => known.disks.clone(),
            None => self.sample_disks(from).await?,
        };
        // Those figures are of then; nobody knows what is read and written now.
        for disk in &mut shown.disks {
            disk.read = None;
            disk.written = None;
        }
        Ok(Some(shown))
    }

    /// The disks of a machine as they were last known; none when nothing is.
    async fn sample_disks(&self, from: AgentSender) -> Result<Vec<DiskSample>, MetricsError> {
        let mut tx = self.pools.tenant_read(from.org).await?;
        let disks = store::sample::disks(&mut tx, from.machine).await?;
        drop(tx);
        Ok(disks)
    }

    async fn sample_write(&self, write: &Arc<SampleWrite>) -> Result<SampleWritten, MetricsError> {
        let written = self.samples.submit(write.clone()).await;
        Ok(written.map_err(|error| match error {
            // The only constraint that a sample can meet is that there is a partition for its day.
            DatabaseError::Constraint(_) => {
                self.maintain.notify_one();
                DatabaseError::Unavailable("a partition is missing and is being made".into())
            }
            other => other,
        })?)
    }

    /// Tells those who look on. Nobody misses it.
    async fn sample_announce(&self, from: AgentSender, sample: &Sample) {
        let data = serde_json::json!({ "machineId": from.machine, "sample": sample, "health": health_of(sample) });
        let live = Live {
            noun: "sample".into(),
            data,
        };
        if let Err(error) = self
            .bus
            .publish_live(from.org, "sample", &from.machine.token(), &live)
            .await
        {
            tracing::debug!(%error, "a live sample was not told");
        }
    }

    /// Raw samples of one machine.
    ///
    /// # Errors
    /// FORBIDDEN without the scope; INVALID naming the field; NOT_FOUND.
    pub async fn sample_list(
        &self,
        grant: &Grant,
        request: SampleList,
    ) -> Result<SamplePage, MetricsError> {
        grant.require(MACHINES_READ)?;
        let limit = page::limit(request.limit)?;
        if request.from >= request.to {
            return Err(Problem::invalid("from", "must be before `to`").into());
        }
        if request.to.since(request.from) > RANGE_MAX {
            return Err(Problem::invalid(
                "to",
                format!("must be at most {} days after `from`", RANGE_MAX.num_days()),
            )
            .into());
        }
        let from = match &request.cursor {
            Some(cursor) => page::place::<Place>(cursor)?
                .after
                .plus(Duration::milliseconds(1))
                .max(request.from),
            None => request.from,
        };
        let mut tx = self.pools.tenant_read(grant.org).await?;
        if !store::machine::exists(&mut tx, request.machine_id).await? {
            return Err(Problem::not_found("machine").into());
        }
        let found = store::sample::list(
            &mut tx,
            request.machine_id,
            from.utc(),
            request.to.utc(),
            limit as i64 + 1,
        )
        .await?;
        drop(tx);
        let (items, more) = page::fit(found, limit)?;
        let next_cursor = match items.last() {
            Some(last) if more => Some(page::cursor(&Place { after: last.at })?),
            _ => None,
        };
        Ok(SamplePage { items, next_cursor })
    }
}
