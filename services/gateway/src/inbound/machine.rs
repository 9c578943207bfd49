//! The machines, how they are, and how they were.

use chrono::Duration;
use contract::identity::{MachineRelease, MachineRevoke};
use contract::metrics::{
    Machine, MachineGet, MachineList, MachinePage, MachineSort, SampleList, SamplePage,
};
use domain::Timestamp;
use domain::health::HealthStatus;
use domain::machine::MachineStatus;
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use serde::Deserialize;

use super::parameter::{Id, Limit, Maybe, Word, range};
use crate::caller::Caller;
use crate::document::{Tag, machine as documented};
use crate::json::{Documented, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, Listing, Question, Refusal};

/// Samples from this long ago on, when `from` is absent.
const SAMPLES_SINCE: Duration = Duration::hours(1);

/// The operations.
pub struct Machines {
    owners: Owners,
}

/// The order as the query writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Sort {
    /// By name.
    #[serde(rename = "hostname")]
    Hostname,
    /// By name, Z first.
    #[serde(rename = "-hostname")]
    HostnameDesc,
    /// By when it was last seen, oldest first.
    #[serde(rename = "lastSeen")]
    LastSeen,
    /// By when it was last seen, newest first.
    #[serde(rename = "-lastSeen")]
    LastSeenDesc,
    /// By health score, the worst first.
    #[serde(rename = "health")]
    Health,
    /// By health score, the best first.
    #[serde(rename = "-health")]
    HealthDesc,
}

impl Documented for Sort {
    type Schema = documented::MachineSort;
}

impl From<Sort> for MachineSort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Hostname => Self::Hostname,
            Sort::HostnameDesc => Self::HostnameDesc,
            Sort::LastSeen => Self::LastSeen,
            Sort::LastSeenDesc => Self::LastSeenDesc,
            Sort::Health => Self::Health,
            Sort::HealthDesc => Self::HealthDesc,
        }
    }
}

/// A machine that is no longer accepted.
#[derive(ApiResponse)]
pub enum Revoked {
    /// The machine's key is never accepted again. Its history stays.
    #[oai(status = 204)]
    Done,
}

/// A machine that is trusted again.
#[derive(ApiResponse)]
pub enum Released {
    /// The machine is trusted again, until it contradicts itself anew.
    #[oai(status = 204)]
    Done,
}

impl Machines {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(prefix_path = "/api/v1/machines", tag = "Tag::Machines")]
impl Machines {
    /// List machines
    #[oai(path = "/", method = "get", operation_id = "machine_list")]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the query
    async fn list(
        &self,
        caller: Caller,
        /// Labels to choose by: `env=prod,role!=db,gpu,!legacy`.
        selector: Query<Maybe<String>>,
        /// Only in this status.
        status: Query<Maybe<Word<MachineStatus>>>,
        /// Only in this health.
        health: Query<Maybe<Word<HealthStatus>>>,
        /// The order; by name when absent.
        sort: Query<Maybe<Word<Sort>>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Shown<MachinePage>, Refusal<Listing>> {
        let question = MachineList {
            selector: selector.0.0,
            status: status.0.value(),
            health: health.0.value(),
            sort: sort.0.value().map(MachineSort::from).unwrap_or_default(),
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Shown(self.owners.read(&caller, &question).await?))
    }

    /// Get a machine
    #[oai(path = "/:id", method = "get", operation_id = "machine_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
    ) -> Result<Shown<Machine>, Refusal<Question>> {
        Ok(Shown(
            self.owners
                .read(
                    &caller,
                    &MachineGet {
                        machine_id: id.0.0.into(),
                    },
                )
                .await?,
        ))
    }

    /// Revoke a machine
    ///
    /// Its connection ends within a second, and its key is never accepted again. What it was told to do and had not been
    /// given yet is cancelled.
    #[oai(path = "/:id", method = "delete", operation_id = "machine_revoke")]
    async fn revoke(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
    ) -> Result<Revoked, Refusal<Change>> {
        self.owners
            .write(
                &caller,
                &MachineRevoke {
                    machine_id: id.0.0.into(),
                },
            )
            .await?;
        Ok(Revoked::Done)
    }

    /// Trust a quarantined machine again
    #[oai(
        path = "/:id/release",
        method = "post",
        operation_id = "machine_release"
    )]
    async fn release(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
    ) -> Result<Released, Refusal<Change>> {
        self.owners
            .write(
                &caller,
                &MachineRelease {
                    machine_id: id.0.0.into(),
                },
            )
            .await?;
        Ok(Released::Done)
    }

    /// List a machine's samples
    ///
    /// As they were collected, the oldest first. The latest one comes with the machine.
    #[oai(
        path = "/:id/samples",
        method = "get",
        operation_id = "machine_sample_list"
    )]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the query
    async fn samples(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
        /// From this time on; an hour ago when absent.
        from: Query<Maybe<Word<Timestamp>>>,
        /// Before this time; now when absent.
        to: Query<Maybe<Word<Timestamp>>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Shown<SamplePage>, Refusal<Question>> {
        let (from, to) = range(from.0, to.0, SAMPLES_SINCE)?;
        let question = SampleList {
            machine_id: id.0.0.into(),
            from,
            to,
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Shown(self.owners.read(&caller, &question).await?))
    }
}
