//! Presence as it was: each change of a machine, and its availability day by day.

use chrono::{DurationRound, TimeDelta};
use contract::metrics::{
    Availability, AvailabilityGet, AvailabilityOfDay, PresenceChange, PresenceHistory,
    PresenceHistoryPage,
};
use contract::{Grant, Problem};
use domain::Timestamp;
use domain::access::MACHINES_READ;
use serde::{Deserialize, Serialize};

use crate::app::{App, page};
use crate::error::MetricsError;
use crate::store;

/// How long changes are kept.
pub const KEPT: TimeDelta = TimeDelta::days(400);
/// The longest range of availability.
const DAYS_MAX: i64 = 92;

/// Where a page of changes ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    at: Timestamp,
    version: i64,
}

impl App {
    /// A page of a machine's changes of presence, the newest first.
    ///
    /// # Errors
    /// FORBIDDEN; INVALID naming `from`, `limit` or `cursor`; NOT_FOUND; UNAVAILABLE.
    pub async fn presence_history(
        &self,
        grant: &Grant,
        request: PresenceHistory,
    ) -> Result<PresenceHistoryPage, MetricsError> {
        grant.require(MACHINES_READ)?;
        let limit = page::limit(request.limit)?;
        check_range(request.from, request.to)?;
        let before = match &request.cursor {
            Some(cursor) => {
                let place = page::place::<Place>(cursor)?;
                Some((place.at.utc(), place.version))
            }
            None => None,
        };
        let mut tx = self.pools.tenant_read(grant.org).await?;
        if !store::machine::exists(&mut tx, request.machine_id).await? {
            return Err(Problem::not_found("machine").into());
        }
        let mut found = store::history::page(
            &mut tx,
            request.machine_id,
            request.from.utc(),
            request.to.utc(),
            before,
            limit as i64 + 1,
        )
        .await?;
        drop(tx);
        let more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = match found.last() {
            Some(last) if more => Some(page::cursor(&Place {
                at: last.at.into(),
                version: last.version,
            })?),
            _ => None,
        };
        let items = found.into_iter().map(|change| PresenceChange {
            at: change.at.into(),
            online: change.online,
            reason: change.reason,
        });
        Ok(PresenceHistoryPage {
            items: items.collect(),
            next_cursor,
        })
    }

    /// How much of each day (UTC) a machine was online.
    ///
    /// # Errors
    /// FORBIDDEN; INVALID naming `from` or `to`; NOT_FOUND; UNAVAILABLE.
    pub async fn availability_get(
        &self,
        grant: &Grant,
        request: &AvailabilityGet,
    ) -> Result<Availability, MetricsError> {
        grant.require(MACHINES_READ)?;
        check_range(request.from, request.to)?;
        let day = TimeDelta::days(1);
        let whole = |time: Timestamp| {
            time.utc()
                .duration_trunc(day)
                .map_err(|_| Problem::invalid("from", "is out of the calendar"))
        };
        let from = whole(request.from)?;
        let to = whole(request.to)?;
        let to = if to == request.to.utc() { to } else { to + day };
        if (to - from).num_days() > DAYS_MAX {
            let message = format!("must be at most {DAYS_MAX} days after `from`");
            return Err(Problem::invalid("to", message).into());
        }
        let mut tx = self.pools.tenant_read(grant.org).await?;
        if !store::machine::exists(&mut tx, request.machine_id).await? {
            return Err(Problem::not_found("machine").into());
        }
        let days = store::history::availability(&mut tx, request.machine_id, from, to).await?;
        drop(tx);
        Ok(Availability {
            items: days.into_iter().map(of_day).collect(),
        })
    }
}

fn check_range(from: Timestamp, to: Timestamp) -> Result<(), Problem> {
    if from >= to {
        return Err(Problem::invalid("from", "must be before `to`"));
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // a day has 86,400,000 milliseconds
fn of_day(day: store::history::Day) -> AvailabilityOfDay {
    let share = day.online_ms as f64 / day.observed_ms.max(1) as f64;
    AvailabilityOfDay {
        day: day.day.to_string(),
        observed_ms: day.observed_ms,
        online_ms: day.online_ms,
        percent: (share * 100_000.0).round() / 1_000.0,
    }
}
