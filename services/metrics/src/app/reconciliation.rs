//! What advisories missed: sessions are compared with the servers' own lists of connections, at each connection to
//! the bus and regularly. One replica does it for all.
//!
//! A session counts as missed only if it was recorded before the list was asked for, by the database's clock: then
//! its advisory had been sent, so it must be in the list if it stands. The servers' clocks decide nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::BusState;
use bus::system::{Connection, Connections};
use chrono::{DateTime, Utc};
use domain::{MachineId, OrgId};
use futures::StreamExt;

use crate::app::App;
use crate::error::MetricsError;
use crate::metrics::{Count, Measure};
use crate::store;
use crate::store::session::{Heard, SessionWrite};

/// Pages overlap by so many connections: as many may end between two pages and none is overlooked.
const OVERLAP: usize = 256;
/// The most pages of one comparison.
const PAGES_MAX: usize = 64;
/// A comparison that is asked for waits at least so long after another's.
const ASKED_FOR: Duration = Duration::from_secs(1);
/// How many repairs are handed in at once.
const REPAIRS_AT_ONCE: usize = 1_000;

/// Compares when the bus comes back, when somebody asks for it, and regularly.
pub async fn run(app: Arc<App>) {
    let mut state = app.system.bus().state();
    loop {
        if matches!(*state.borrow_and_update(), BusState::Connected(_)) {
            // Turns are a little shorter than the period, so that jitter does not halve the rate.
            let regularly = app.timing.reconcile.mul_f64(0.9);
            if let Err(error) = app.reconcile(regularly).await {
                tracing::warn!(%error, "sessions could not be compared with the servers' lists");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(app.timing.reconcile) => {}
            () = app.reconcile.notified() => app.reconcile_now().await,
            changed = state.changed() => match changed {
                Ok(()) => app.reconcile_now().await,
                Err(_) => return,
            },
        }
    }
}

/// A server's list, whole or not.
#[derive(Debug, Default)]
struct List {
    name: String,
    connections: Vec<Connection>,
    /// The end of what has been read without a gap.
    last_cid: u64,
    whole: bool,
    gap: bool,
}

impl List {
    /// Takes the next page. Pages are sorted by cid and overlap; when they do not touch, something is between them.
    fn take(&mut self, page: Connections) {
        self.name = page.server.name;
        let page = page.data;
        let first = page.connections.first().map_or(u64::MAX, |connection| connection.cid);
        self.gap |= page.offset > 0 && first > self.last_cid && !page.connections.is_empty();
        self.whole = page.offset + page.connections.len() >= page.total;
        let known = self.last_cid;
        self.connections.extend(page.connections.into_iter().filter(|connection| connection.cid > known));
        self.last_cid = self.connections.last().map_or(0, |connection| connection.cid);
    }
}

impl App {
    async fn reconcile_now(&self) {
        if let Err(error) = self.reconcile(ASKED_FOR).await {
            tracing::warn!(%error, "sessions could not be compared with the servers' lists");
        }
    }

    /// Compares sessions with the servers' lists, unless another replica did within `since`.
    ///
    /// # Errors
    /// [`MetricsError`] when bus or database is away.
    pub async fn reconcile(&self, since: Duration) -> Result<(), MetricsError> {
        if !store::server::take_turn(self.pools.system(), since).await? {
            return Ok(());
        }
        let begun = Instant::now();
        let asked_at = store::server::clock(self.pools.system()).await?;
        for (server_id, list) in self.lists().await? {
            store::server::heard(self.pools.system(), &server_id, &list.name).await?;
            let repaired = self.reconcile_server(&server_id, &list, asked_at).await?;
            if repaired > 0 {
                tracing::info!(server = server_id, repaired, "advisories had been missed");
                self.metrics.add(Count::SessionsRepaired, repaired);
            }
        }
        self.metrics.observe_time(Measure::ReconciliationSeconds, begun.elapsed());
        Ok(())
    }

    /// Every server's list of connections.
    async fn lists(&self) -> Result<HashMap<String, List>, MetricsError> {
        let mut lists: HashMap<String, List> = HashMap::new();
        let mut offset = 0;
        for _ in 0..PAGES_MAX {
            let pages = self.system.connections(None, offset, self.timing.gather).await?;
            let mut limit = 0;
            for page in pages {
                limit = page.data.limit;
                lists.entry(page.server.id.clone()).or_default().take(page);
            }
            if limit == 0 || lists.values().all(|list| list.whole) {
                break;
            }
            offset += limit.saturating_sub(OVERLAP).max(1);
        }
        Ok(lists)
    }

    async fn reconcile_server(&self, server_id: &str, list: &List, asked_at: DateTime<Utc>) -> Result<u64, MetricsError> {
        let pool = self.pools.system();
        let listed: Vec<(OrgId, MachineId, i64, &Connection)> = list
            .connections
            .iter()
            .filter_map(|connection| {
                let (org, machine) = connection.agent()?;
                Some((org, machine, i64::try_from(connection.cid).ok()?, connection))
            })
            .collect();
        let keys: Vec<_> = listed.iter().map(|(org, machine, cid, _)| (*org, *machine, *cid)).collect();
        let write = |org, machine, cid, started_at, heard| SessionWrite { org, machine, server_id: server_id.to_owned(), server_name: list.name.clone(), cid, started_at, heard };
        let mut repairs = Vec::new();
        for place in store::session::unrecorded(pool, server_id, &keys).await? {
            if let Some((org, machine, cid, connection)) = listed.get(place) {
                let started_at = DateTime::parse_from_rfc3339(&connection.start).map_or(asked_at, |time| time.with_timezone(&Utc));
                repairs.push(write(*org, *machine, *cid, started_at, Heard::Listed(asked_at)));
            }
        }
        if list.whole && !list.gap {
            let cids: Vec<i64> = keys.iter().map(|(_, _, cid)| *cid).collect();
            for (org, machine, cid, started_at) in store::session::missing(pool, server_id, asked_at, &cids).await? {
                repairs.push(write(org.into(), machine.into(), cid, started_at, Heard::Missed(asked_at)));
            }
        } else {
            tracing::warn!(server = server_id, "a list has gaps: what it does not show is left for the next");
        }
        let count = repairs.len() as u64;
        let mut handed_in = futures::stream::iter(repairs).map(|repair| self.session_write(repair)).buffer_unordered(REPAIRS_AT_ONCE);
        while let Some(written) = handed_in.next().await {
            written?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::system::{ConnectionsPage, ServerInfo};

    fn page(cids: std::ops::Range<u64>, offset: usize, total: usize) -> Connections {
        let connections = cids.map(|cid| Connection { cid, start: String::new(), authorized_user: String::new(), name_tag: String::new() }).collect();
        let server = ServerInfo { id: "S".into(), name: "s".into(), time: None };
        Connections { server, data: ConnectionsPage { now: String::new(), total, offset, limit: 4, connections } }
    }

    #[test]
    fn pages_that_overlap_make_a_whole_list() {
        let mut list = List::default();
        list.take(page(1..5, 0, 7));
        assert!(!list.whole);
        list.take(page(4..8, 3, 7));
        assert!(list.whole && !list.gap);
        assert_eq!(list.connections.iter().map(|connection| connection.cid).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn pages_that_do_not_touch_have_a_gap() {
        let mut list = List::default();
        list.take(page(1..5, 0, 9));
        list.take(page(6..9, 3, 6));
        assert!(list.gap);
    }
}
