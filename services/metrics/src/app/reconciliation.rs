//! What advisories missed: sessions are compared with the servers' own lists of connections, at each connection to
//! the bus and regularly. One replica does it for all.
//!
//! A session counts as missed only if it was recorded before the list was asked for, by the database's clock: then
//! its advisory had been sent, so it must be in the list if it stands. The servers' clocks decide nothing.
//!
//! Until a comparison has been made, a replica that may have missed something takes nobody offline ([`Tracking`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bus::system::{Connection, Connections};
use bus::{BusError, BusState};
use chrono::{DateTime, Utc};
use domain::{MachineId, OrgId};
use futures::StreamExt;
use tokio::sync::Notify;

use crate::app::App;
use crate::app::presence::time;
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

/// Whether this replica knows of everything that happened to connections: it is connected, and has compared since.
#[derive(Debug)]
pub struct Tracking {
    losses: AtomicU64,
    /// The number of losses before the last comparison began.
    compared: AtomicU64,
    lost: Notify,
}

impl Default for Tracking {
    fn default() -> Self {
        Self {
            losses: AtomicU64::new(1),
            compared: AtomicU64::new(0),
            lost: Notify::new(),
        }
    }
}

impl Tracking {
    /// Something was missed, or may have been: compare now.
    pub fn lose(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
        self.lost.notify_one();
    }

    /// Whether nothing was missed since the last comparison began.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.compared.load(Ordering::SeqCst) == self.losses.load(Ordering::SeqCst)
    }
}

/// Compares when the bus comes back, when something was missed, and regularly.
pub async fn run(app: Arc<App>) {
    let mut state = app.system.bus().state();
    loop {
        let connected = matches!(*state.borrow_and_update(), BusState::Connected(_));
        // A turn is a little shorter than the period, so that jitter does not halve the rate.
        let turn = if app.tracking.is_on() {
            app.timing.reconcile.mul_f64(0.9)
        } else {
            ASKED_FOR
        };
        if connected {
            let losses = app.tracking.losses.load(Ordering::SeqCst);
            match app.reconcile(turn).await {
                // What was missed while the lists came may not be in them: then the numbers differ.
                Ok(true) => app.tracking.compared.store(losses, Ordering::SeqCst),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "sessions could not be compared with the servers' lists");
                    tokio::time::sleep(ASKED_FOR).await;
                }
            }
        }
        let pause = if app.tracking.is_on() {
            app.timing.reconcile
        } else {
            ASKED_FOR
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.tracking.lost.notified() => {}
            changed = state.changed() => match changed {
                Ok(()) => app.tracking.lose(),
                Err(_) => return,
            },
        }
    }
}

/// A server's list, whole or not.
#[derive(Debug, Default)]
struct List {
    name: String,
    /// When its first page was made, by the server's clock.
    now: String,
    connections: Vec<Connection>,
    /// The end of what has been read without a gap.
    last_cid: u64,
    whole: bool,
    gap: bool,
}

impl List {
    /// Takes the next page; says whether the list went on. Pages are sorted by cid and overlap: when they do not
    /// touch, something is between them.
    fn take(&mut self, page: Connections) -> bool {
        if self.whole {
            return false;
        }
        self.name = page.server.name;
        let page = page.data;
        if self.now.is_empty() {
            self.now = page.now;
        }
        let first = page
            .connections
            .first()
            .map_or(u64::MAX, |connection| connection.cid);
        self.gap |= page.offset > 0 && first > self.last_cid;
        self.whole = page.offset + page.connections.len() >= page.total;
        let known = self.last_cid;
        self.connections.extend(
            page.connections
                .into_iter()
                .filter(|connection| connection.cid > known),
        );
        self.last_cid = self
            .connections
            .last()
            .map_or(0, |connection| connection.cid);
        self.last_cid > known
    }
}

impl App {
    /// Compares sessions with the servers' lists, unless another replica began to within `since`; says whether it did.
    ///
    /// # Errors
    /// [`MetricsError`] when bus or database is away.
    pub async fn reconcile(&self, since: Duration) -> Result<bool, MetricsError> {
        if !store::server::take_turn(self.pools.system(), since).await? {
            return Ok(false);
        }
        let begun = Instant::now();
        let asked_at = store::server::clock(self.pools.system()).await?;
        let lists = self.lists().await?;
        if lists.is_empty() {
            return Err(BusError::Unavailable("no server gave its list".into()).into());
        }
        for (server_id, list) in lists {
            store::server::heard(self.pools.system(), &server_id, &list.name).await?;
            let repaired = self.reconcile_server(&server_id, &list, asked_at).await?;
            if repaired > 0 {
                tracing::info!(server = server_id, repaired, "advisories had been missed");
                self.metrics.add(Count::SessionsRepaired, repaired);
            }
        }
        self.metrics
            .observe_time(Measure::ReconciliationSeconds, begun.elapsed());
        Ok(true)
    }

    /// Every server's list of connections.
    async fn lists(&self) -> Result<HashMap<String, List>, MetricsError> {
        let mut lists: HashMap<String, List> = HashMap::new();
        let mut offset = 0;
        for _ in 0..PAGES_MAX {
            let pages = self
                .system
                .connections(None, offset, self.timing.gather)
                .await?;
            let mut went_on = false;
            let mut limit = OVERLAP;
            for page in pages {
                limit = page.data.limit;
                went_on |= lists.entry(page.server.id.clone()).or_default().take(page);
            }
            if !went_on || lists.values().all(|list| list.whole) {
                break;
            }
            offset += limit.saturating_sub(OVERLAP).max(1);
        }
        Ok(lists)
    }

    async fn reconcile_server(
        &self,
        server_id: &str,
        list: &List,
        asked_at: DateTime<Utc>,
    ) -> Result<u64, MetricsError> {
        let pool = self.pools.system();
        let listed: Vec<(OrgId, MachineId, i64, &Connection)> = list
            .connections
            .iter()
            .filter_map(|connection| {
                let (org, machine) = connection.agent()?;
                Some((
                    org,
                    machine,
                    i64::try_from(connection.cid).ok()?,
                    connection,
                ))
            })
            .collect();
        let keys: Vec<_> = listed
            .iter()
            .map(|(org, machine, cid, _)| (*org, *machine, *cid))
            .collect();
        let write = |org, machine, cid, (started_at, said_at), heard| SessionWrite {
            org,
            machine,
            server_id: server_id.to_owned(),
            server_name: list.name.clone(),
            cid,
            started_at,
            said_at,
            came_at: Instant::now(),
            heard,
        };
        let mut repairs = Vec::new();
        for place in store::session::unrecorded(pool, server_id, &keys).await? {
            if let Some((org, machine, cid, connection)) = listed.get(place) {
                let began = time(&connection.start)
                    .map_or((asked_at, None), |start| (start, time(&list.now)));
                repairs.push(write(*org, *machine, *cid, began, Heard::Listed(asked_at)));
            }
        }
        if list.whole && !list.gap {
            let cids: Vec<i64> = keys.iter().map(|(_, _, cid)| *cid).collect();
            for (org, machine, cid, started_at) in
                store::session::missing(pool, server_id, asked_at, &cids).await?
            {
                repairs.push(write(
                    org.into(),
                    machine.into(),
                    cid,
                    (started_at, None),
                    Heard::Missed(asked_at),
                ));
            }
        } else {
            tracing::warn!(
                server = server_id,
                "a list has gaps: what it does not show is left for the next"
            );
        }
        let count = repairs.len() as u64;
        let mut handed_in = futures::stream::iter(repairs)
            .map(|repair| self.session_write(repair))
            .buffer_unordered(REPAIRS_AT_ONCE);
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

    #[test]
    fn what_is_lost_during_a_comparison_is_still_lost_after_it() {
        let tracking = Tracking::default();
        let compare = |during: fn(&Tracking)| {
            let before = tracking.losses.load(Ordering::SeqCst);
            during(&tracking);
            tracking.compared.store(before, Ordering::SeqCst);
            tracking.is_on()
        };
        assert!(!tracking.is_on());
        assert!(compare(|_| ()));
        assert!(!compare(Tracking::lose));
        assert!(compare(|_| ()));
    }

    fn page(cids: std::ops::Range<u64>, offset: usize, total: usize) -> Connections {
        let connections = cids
            .map(|cid| Connection {
                cid,
                start: String::new(),
                authorized_user: String::new(),
                name_tag: String::new(),
            })
            .collect();
        let server = ServerInfo {
            id: "S".into(),
            name: "s".into(),
            time: None,
        };
        Connections {
            server,
            data: ConnectionsPage {
                now: String::new(),
                total,
                offset,
                limit: 4,
                connections,
            },
        }
    }

    #[test]
    fn pages_that_overlap_make_a_whole_list() {
        let mut list = List::default();
        list.take(page(1..5, 0, 7));
        assert!(!list.whole);
        list.take(page(4..8, 3, 7));
        assert!(list.whole && !list.gap);
        assert_eq!(
            list.connections
                .iter()
                .map(|connection| connection.cid)
                .collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 6, 7]
        );
    }

    #[test]
    fn pages_that_do_not_touch_have_a_gap() {
        let mut list = List::default();
        list.take(page(1..5, 0, 9));
        list.take(page(6..9, 3, 6));
        assert!(list.gap);
        // So many ended meanwhile that nothing is left where the next page begins.
        let mut list = List::default();
        list.take(page(1..5, 0, 9));
        list.take(page(9..9, 3, 2));
        assert!(list.gap && list.whole);
    }
}
