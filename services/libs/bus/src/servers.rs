//! Which server is tried next: first to last, as the list says, and from the first again whenever a connection was lost.
//! The client's own loop does that too, but it waits its whole patience for a server that a firewall hides, at each
//! return; and it does not say which server it uses.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::{ReconnectToServer, Server, ServerAddr, Statistics};
use tokio::net::TcpStream;

use crate::error::BusError;

/// How long a server that did not work before may take to accept a connection, while there is another to try.
const KNOCK: Duration = Duration::from_secs(3);
/// The same, when it took too long the last time: a firewall that drops. Presence forgives an absence of two seconds.
const KNOCK_AGAIN: Duration = Duration::from_millis(500);

/// The turn among the servers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    /// The client's counters, once there is a client.
    statistics: OnceLock<Arc<Statistics>>,
    place: Mutex<Place>,
}

#[derive(Debug, Default)]
struct Place {
    /// How many connections there had been at the last choice.
    connects: u64,
    /// Who is next.
    next: usize,
    /// Who was chosen.
    chosen: Option<String>,
    /// Who did not open the last time.
    hidden: HashSet<String>,
}

impl Servers {
    /// Follows this client.
    pub(crate) fn follow(&self, statistics: Arc<Statistics>) {
        if self.statistics.set(statistics).is_err() {
            tracing::debug!("the client is followed already");
        }
    }

    /// The URL that was chosen last: the one in use, while there is a connection.
    pub(crate) fn chosen(&self) -> Option<String> {
        self.place().chosen.clone()
    }

    /// The next one to try; the client waits before it connects.
    pub(crate) async fn choose(&self, pool: Vec<Server>) -> Option<ReconnectToServer> {
        let mut index = self.begin(&pool);
        let last = pool.len().checked_sub(1)?;
        while index < last {
            let server = pool.get(index)?;
            if !is_doubtful(server) || self.is_open(&server.addr).await {
                break;
            }
            index += 1;
        }
        let addr = pool.get(index)?.addr.clone();
        let mut place = self.place();
        place.next = if index < last { index + 1 } else { 0 };
        place.chosen = Some(addr.as_url_str().to_owned());
        Some(ReconnectToServer { addr, delay: None })
    }

    /// Where to begin: where the turn is, or at the first when there was a connection since.
    fn begin(&self, pool: &[Server]) -> usize {
        let connects = self
            .statistics
            .get()
            .map_or(0, |statistics| statistics.connects.load(Ordering::Relaxed));
        let mut place = self.place();
        if connects == place.connects {
            let failed = pool.iter().find(|server| {
                Some(server.addr.as_url_str()) == place.chosen.as_deref()
                    && server.failed_attempts > 0
            });
            if let Some(Server {
                addr,
                last_error: Some(reason),
                ..
            }) = failed
            {
                let server = addr.as_url_str();
                tracing::info!(
                    server,
                    reason,
                    "this bus server does not take the connection"
                );
            }
        } else {
            place.connects = connects;
            place.next = 0;
        }
        if place.next < pool.len() {
            place.next
        } else {
            0
        }
    }

    /// Whether anything accepts a connection there. In a task of its own: the client wants a future that others may share.
    async fn is_open(&self, addr: &ServerAddr) -> bool {
        let server = addr.as_url_str();
        let patience = if self.place().hidden.contains(server) {
            KNOCK_AGAIN
        } else {
            KNOCK
        };
        let (host, port) = (addr.host().to_owned(), addr.port());
        let knock = tokio::spawn(async move {
            let connected = TcpStream::connect((host, port));
            matches!(tokio::time::timeout(patience, connected).await, Ok(Ok(_)))
        });
        let is_open = knock.await.unwrap_or(false);
        let mut place = self.place();
        if is_open {
            place.hidden.remove(server);
        } else if place.hidden.insert(server.to_owned()) {
            tracing::info!(
                server,
                "this bus server cannot be reached; the next one is tried"
            );
        }
        is_open
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that never worked, or not the last time.
fn is_doubtful(server: &Server) -> bool {
    !server.did_connect || server.failed_attempts > 0
}

/// Whether agents may be told to connect there: a bus URL, and none without encryption by WebSocket, except on the same
/// machine. (`nats://` is for networks that are trusted; the server says whether it speaks TLS there.)
///
/// # Errors
/// [`BusError::Config`], in words that name the URL.
pub fn check_agent_url(url: &str) -> Result<(), BusError> {
    let addr: ServerAddr = url
        .parse()
        .map_err(|error| BusError::Config(format!("`{url}`: {error}")))?;
    if addr.host().is_empty() {
        return Err(BusError::Config(format!("`{url}` names no host")));
    }
    if addr.scheme() == "ws" && !is_loopback(addr.host()) {
        return Err(BusError::Config(format!(
            "`{url}`: ws:// is not encrypted and only for this very machine (127.0.0.1, ::1, localhost); use wss://"
        )));
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_told_nothing_unencrypted_by_websocket_except_on_their_own_machine() {
        for url in [
            "nats://bus.example:4222",
            "tls://bus.example",
            "wss://fleet.example.org/nats",
            "ws://127.0.0.1:8080/nats",
            "ws://[::1]:8080/nats",
            "ws://localhost/nats",
        ] {
            assert!(check_agent_url(url).is_ok(), "{url}");
        }
        for url in [
            "ws://fleet.example.org/nats",
            "ws://192.0.2.1:8080/nats",
            "ws://localhost.example.org/nats",
            "https://fleet.example.org/nats",
            "nats://",
            "::",
        ] {
            let error = check_agent_url(url).expect_err(url);
            assert!(error.to_string().contains(url), "{error}");
        }
    }
}
