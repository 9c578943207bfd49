//! Machines as users see them: lists and single ones.

use chrono::{DateTime, Utc};
use contract::metrics::{
    Machine, MachineGet, MachineList, MachinePage, MachineSort, Transport, Trust,
};
use contract::{Grant, Problem};
use database::DatabaseError;
use domain::access::MACHINES_READ;
use domain::labels::Selector;
use domain::{MachineId, OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use crate::app::sample::health_of;
use crate::app::{App, page};
use crate::error::MetricsError;
use crate::store;
use crate::store::machine::{Details, Filter, Key};

/// Where a page of machines ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    sort: MachineSort,
    key: PlaceKey,
    id: MachineId,
}

/// The key of the last machine of a page: a name, or microseconds since the epoch, or a score.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum PlaceKey {
    Text(String),
    Number(i64),
}

impl Place {
    fn of(sort: MachineSort, id: MachineId, key: &Key) -> Self {
        let key = match key {
            Key::Hostname(name) => PlaceKey::Text(name.clone()),
            Key::LastSeen(at) => PlaceKey::Number(at.timestamp_micros()),
            Key::Health(score) => PlaceKey::Number(i64::from(*score)),
        };
        Self { sort, key, id }
    }

    fn key(self, sort: MachineSort) -> Option<(Key, MachineId)> {
        if self.sort != sort {
            return None;
        }
        let key = match (sort, self.key) {
            (MachineSort::Hostname | MachineSort::HostnameDesc, PlaceKey::Text(name))
                if !name.contains('\0') =>
            {
                Key::Hostname(name)
            }
            (MachineSort::LastSeen | MachineSort::LastSeenDesc, PlaceKey::Number(micros)) => {
                // PostgreSQL's calendar is shorter than chrono's.
                let sane = DateTime::<Utc>::from_timestamp_micros(micros)
                    .filter(|at| *at >= DateTime::UNIX_EPOCH && at.timestamp() < 253_402_300_800);
                Key::LastSeen(sane?)
            }
            (MachineSort::Health | MachineSort::HealthDesc, PlaceKey::Number(score)) => {
                Key::Health(i16::try_from(score).ok()?)
            }
            _ => return None,
        };
        Some((key, self.id))
    }
}

/// The selector that a text says.
///
/// # Errors
/// INVALID naming `selector`.
pub(crate) fn selector(text: &str) -> Result<Selector, Problem> {
    text.parse()
        .map_err(|error: domain::labels::LabelError| Problem::invalid(error.path, error.message))
}

/// Why a machine stands where it stands, for a person. `reason` is the quarantine's or presence's own.
pub(crate) fn status_reason(status: &str, reason: Option<&str>) -> Option<String> {
    match status {
        "REVOKED" => Some("revoked".to_owned()),
        "QUARANTINED" => Some(reason.unwrap_or("quarantined").to_owned()),
        // It went offline when it was quarantined, over HTTP, and it no longer is.
        "OFFLINE" if reason == Some("quarantined") => Some("released; no report since".to_owned()),
        _ => reason.map(ToOwned::to_owned),
    }
}

fn machine(details: Details) -> Result<Machine, DatabaseError> {
    let latest_sample = details.sample.map(|Json(sample)| sample);
    let transport: Transport = details.transport.parse().map_err(DatabaseError::Bug)?;
    let reason = if details.status == "QUARANTINED" {
        details.quarantine_reason
    } else {
        Some(details.presence_reason)
    };
    Ok(Machine {
        id: details.id.into(),
        hostname: details.hostname,
        display_name: details.display_name,
        notes: details.notes,
        status_reason: status_reason(&details.status, reason.as_deref()),
        status: details.status.parse().map_err(DatabaseError::Bug)?,
        transport,
        trust: match transport {
            Transport::Nats => Trust::Verified,
            Transport::Http => Trust::Unverified,
        },
        labels: details.labels.0,
        inventory: details.inventory.0,
        health: latest_sample.as_ref().map(health_of),
        latest_sample,
        // The epoch stands for "never".
        last_seen_at: (details.last_seen_at > DateTime::UNIX_EPOCH)
            .then(|| Timestamp::from(details.last_seen_at)),
        enrolled_at: details.enrolled_at.into(),
    })
}

impl App {
    /// A page of the organisation's machines.
    ///
    /// # Errors
    /// FORBIDDEN without the scope; INVALID naming the field.
    pub async fn machine_list(
        &self,
        grant: &Grant,
        request: MachineList,
    ) -> Result<MachinePage, MetricsError> {
        grant.require(MACHINES_READ)?;
        let limit = page::limit(request.limit)?;
        let selector = selector(request.selector.as_deref().unwrap_or_default())?;
        let sort = request.sort;
        let after =
            match &request.cursor {
                Some(cursor) => {
                    let place = page::place::<Place>(cursor)?.key(sort);
                    Some(place.ok_or_else(|| {
                        Problem::invalid("cursor", "is not one that this list gave")
                    })?)
                }
                None => None,
            };
        let Some(labels) = selector.filter() else {
            return Ok(MachinePage {
                items: Vec::new(),
                next_cursor: None,
            });
        };
        let filter = Filter {
            status: request.status.map(domain::machine::MachineStatus::as_str),
            health: request.health.map(domain::health::HealthStatus::as_str),
            labels,
        };
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let found = store::machine::list(&mut tx, sort, &filter, after, limit as i64 + 1).await?;
        drop(tx);
        let found = found
            .into_iter()
            .map(|(key, details)| Ok((key, machine(details)?)))
            .collect::<Result<Vec<_>, DatabaseError>>()?;
        let (keys, machines): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let (items, more) = page::fit(machines, limit)?;
        let last = keys.iter().zip(&items).next_back().filter(|_| more);
        let next_cursor = last
            .map(|(key, last)| page::cursor(&Place::of(sort, last.id, key)))
            .transpose()?;
        Ok(MachinePage { items, next_cursor })
    }

    /// One of the organisation's machines; not before a change of identity's is seen in it, when one is named.
    ///
    /// # Errors
    /// FORBIDDEN without the scope; NOT_FOUND; UNAVAILABLE when identity does not tell of the change in time.
    pub async fn machine_get(
        &self,
        grant: &Grant,
        request: &MachineGet,
    ) -> Result<Machine, MetricsError> {
        grant.require(MACHINES_READ)?;
        let (org, id) = (grant.org, request.machine_id);
        let change = request.change.unwrap_or_default();
        let mut found = self.machine_details(org, id).await?;
        if found.as_ref().map_or(0, |details| details.change) < change {
            self.mirror.refresh().await?;
            found = self.machine_details(org, id).await?;
        }
        let details = found.ok_or_else(|| Problem::not_found("machine"))?;
        if details.change < change {
            return Err(Problem::unavailable("that change is not known here yet").into());
        }
        Ok(machine(details)?)
    }

    async fn machine_details(
        &self,
        org: OrgId,
        id: MachineId,
    ) -> Result<Option<Details>, MetricsError> {
        let mut tx = self.pools.tenant_read(org).await?;
        let found = store::machine::details(&mut tx, &[id.0]).await?;
        drop(tx);
        Ok(found.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_released_is_not_called_quarantined() {
        let reason = |status, reason| status_reason(status, Some(reason));
        assert_eq!(
            reason("OFFLINE", "quarantined").as_deref(),
            Some("released; no report since")
        );
        assert_eq!(
            reason("QUARANTINED", "two machines").as_deref(),
            Some("two machines")
        );
        assert_eq!(reason("OFFLINE", "no report").as_deref(), Some("no report"));
    }

    #[test]
    fn a_place_fits_the_order_it_was_made_for() {
        let id = MachineId::new();
        let place = |sort, key: &Key| Place::of(sort, id, key);
        let name = Key::Hostname("web-1".into());
        assert_eq!(
            place(MachineSort::Hostname, &name).key(MachineSort::Hostname),
            Some((name.clone(), id))
        );
        assert_eq!(
            place(MachineSort::Hostname, &name).key(MachineSort::HostnameDesc),
            None
        );
        assert_eq!(
            place(MachineSort::Health, &name).key(MachineSort::Health),
            None
        );
        let far = Place {
            sort: MachineSort::LastSeen,
            key: PlaceKey::Number(i64::MAX),
            id,
        };
        assert_eq!(far.key(MachineSort::LastSeen), None);
    }
}
