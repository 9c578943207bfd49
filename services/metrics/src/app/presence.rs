//! Presence: connections that begin and end, and what follows for machines. What is decided is decided in the
//! database (`store::presence`); here it is told to others.

use std::time::{Duration, Instant};

use bus::AgentSender;
use bus::system::{Advisory, ServerInfo};
use chrono::{DateTime, Utc};
use contract::Problem;
use contract::agent::{Noted, Stopping};
use contract::live::Live;
use contract::metrics::{Presence, PresenceGet, PresencePage};
use database::DatabaseError;

use crate::app::{App, Standing};
use crate::error::MetricsError;
use crate::metrics::Count;
use crate::store;
use crate::store::presence::PresenceChange;
use crate::store::session::{ClosedBy, Heard, SessionWrite};

/// The most machines of one answer to `presence.get`.
const CHANGES_MAX: u32 = 1_000;
/// The longest reason of a stop that is kept, in characters.
const REASON_MAX_CHARS: usize = 100;

/// Why nats-server closed a connection: by whose doing, and in words. The texts are nats-server 2.15's (its type
/// `ClosedState`); a server that goes down or into lame duck mode says `Server Shutdown`. A stale connection is
/// the client's silence: a frozen machine must not count as online for the grace of a server's restart.
#[must_use]
pub fn closed(reason: &str) -> (ClosedBy, String) {
    let (by, words) = match reason {
        "Client Closed" | "Read Error" | "Write Error" | "TLS Handshake Failure" => {
            (ClosedBy::Client, "connection lost")
        }
        "Stale Connection" => (ClosedBy::Client, "no answer"),
        "Kicked" | "Credentials Revoked" => (ClosedBy::Client, "disconnected by the server"),
        "Server Shutdown" => (ClosedBy::Server, "server shut down"),
        "Authentication Expired" => (ClosedBy::Server, "login expired"),
        "Slow Consumer (Pending Bytes)" | "Slow Consumer (Write Deadline)" => {
            (ClosedBy::Server, "too slow to listen")
        }
        "Maximum Connections Exceeded" | "Maximum Account Connections Exceeded" => {
            (ClosedBy::Server, "too many connections")
        }
        // Violations of the protocol and of limits: the client misbehaved, and comes back at once or not at all.
        other => {
            return (
                ClosedBy::Client,
                other
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(REASON_MAX_CHARS)
                    .collect::<String>()
                    .to_lowercase(),
            );
        }
    };
    (by, words.to_owned())
}

/// A time as a server writes it.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.with_timezone(&Utc))
}

impl App {
    /// A connection began.
    pub async fn session_open(&self, advisory: &Advisory) {
        self.session_heard(advisory, Heard::Opened).await;
    }

    /// A connection ended.
    pub async fn session_close(&self, advisory: &Advisory) {
        let (by, reason) = closed(&advisory.reason);
        self.session_heard(advisory, Heard::Closed { by, reason })
            .await;
    }

    async fn session_heard(&self, advisory: &Advisory, heard: Heard) {
        // Services connect too; only agents have presence.
        let Some((org, machine)) = advisory.client.agent() else {
            return;
        };
        let (Ok(cid), Some(started_at)) = (
            i64::try_from(advisory.client.id),
            time(&advisory.client.start),
        ) else {
            tracing::warn!(
                server = advisory.server.id,
                cid = advisory.client.id,
                "an advisory cannot be understood"
            );
            return;
        };
        let (server_id, server_name) = (advisory.server.id.clone(), advisory.server.name.clone());
        let write = SessionWrite {
            org,
            machine,
            server_id,
            server_name,
            cid,
            started_at,
            said_at: advisory.server.time.as_deref().and_then(time),
            came_at: Instant::now(),
            heard,
        };
        if let Err(error) = self.session_write(write).await {
            tracing::warn!(%error, "an advisory is lost; the servers' lists will tell");
            self.tracking.lose();
        }
    }

    pub(crate) async fn session_write(&self, write: SessionWrite) -> Result<(), DatabaseError> {
        if let Some(change) = self.sessions.submit(write).await? {
            self.presence_announce(&[change]).await;
        }
        Ok(())
    }

    /// A server gave a sign of life.
    ///
    /// # Errors
    /// [`MetricsError::Database`].
    pub async fn server_heard(&self, server: &ServerInfo) -> Result<(), MetricsError> {
        Ok(store::server::heard(self.pools.system(), &server.id, &server.name).await?)
    }

    /// A server goes down: it said so.
    ///
    /// # Errors
    /// [`MetricsError::Database`].
    pub async fn server_shutdown(&self, server: &ServerInfo) -> Result<(), MetricsError> {
        tracing::info!(server = server.id, "a bus server goes down");
        self.server_sessions_close(&server.id, "server shut down", None)
            .await
    }

    /// A server has been silent for too long. Its connections count as ended until they show again.
    ///
    /// # Errors
    /// [`MetricsError::Database`].
    pub async fn server_lost(&self, server_id: &str) -> Result<(), MetricsError> {
        tracing::warn!(
            server = server_id,
            silence_ms = self.timing.silence.as_millis(),
            "a bus server is lost"
        );
        self.server_sessions_close(server_id, "server lost", Some(self.timing.silence))
            .await
    }

    /// Ends a server's sessions, some thousands a transaction, and forgets it with the last. With `silence` only for
    /// as long as it is silent, and only by inference.
    async fn server_sessions_close(
        &self,
        server_id: &str,
        reason: &str,
        silence: Option<Duration>,
    ) -> Result<(), MetricsError> {
        loop {
            let mut tx = self.pools.system_tx().await?;
            store::presence::lock_in_tx(&mut tx).await?;
            if let Some(silence) = silence
                && !store::server::is_silent_in_tx(&mut tx, server_id, silence).await?
            {
                return Ok(());
            }
            let machines = store::session::close_of_server_in_tx(
                &mut tx,
                server_id,
                reason,
                silence.is_some(),
            )
            .await?;
            if machines.is_empty() {
                store::server::forget_in_tx(&mut tx, server_id).await?;
                tx.commit().await?;
                self.metrics
                    .add(Count::ServersLost, u64::from(silence.is_some()));
                return Ok(());
            }
            let changes =
                store::presence::decide_in_tx(&mut tx, &machines, self.timing.graces).await?;
            tx.commit().await?;
            self.presence_announce(&changes).await;
        }
    }

    /// Tells of changes that are committed: the outbox has the events, those who look on get the rest.
    pub async fn presence_announce(&self, changes: &[PresenceChange]) {
        if changes.is_empty() {
            return;
        }
        self.relay.wake();
        for change in changes {
            self.metrics.add(
                if change.online {
                    Count::MachinesCame
                } else {
                    Count::MachinesWent
                },
                1,
            );
            tracing::debug!(machine = %change.id, online = change.online, reason = change.presence_reason, "presence");
            self.machine_announce(
                change.org_id.into(),
                change.id.into(),
                &change.status,
                Some(&change.presence_reason),
            )
            .await;
        }
    }

    /// Tells those who look on how a machine stands now.
    pub(crate) async fn machine_announce(
        &self,
        org: domain::OrgId,
        machine: domain::MachineId,
        status: &str,
        reason: Option<&str>,
    ) {
        let data = serde_json::json!({ "id": machine, "status": status, "statusReason": crate::app::machine::status_reason(status, reason) });
        if let Err(error) = self
            .bus
            .publish_live(
                org,
                "machine",
                &machine.token(),
                &Live {
                    noun: "machine".into(),
                    data,
                },
            )
            .await
        {
            tracing::debug!(%error, "a live change was not told");
        }
    }

    /// An agent stops of its own will: when its connection ends, that is why.
    ///
    /// # Errors
    /// FORBIDDEN when the machine was revoked; UNAVAILABLE when it is not known yet.
    pub async fn stopping_report(
        &self,
        from: AgentSender,
        stopping: Stopping,
    ) -> Result<Noted, MetricsError> {
        let reason: String = stopping
            .reason
            .chars()
            .filter(|c| !c.is_control())
            .take(REASON_MAX_CHARS)
            .collect();
        self.machine_write(from, || self.stopping_write(from, &reason))
            .await?;
        Ok(Noted { noted: true })
    }

    async fn stopping_write(
        &self,
        from: AgentSender,
        reason: &str,
    ) -> Result<Standing, MetricsError> {
        let mut tx = self.pools.tenant_tx(from.org).await?;
        let standing = store::machine::set_stopping(&mut tx, from.machine, reason).await?;
        tx.commit().await?;
        Ok(standing)
    }

    /// Which machines' presence changed after a version.
    ///
    /// # Errors
    /// INVALID naming `limit`; UNAVAILABLE.
    pub async fn presence_get(&self, request: PresenceGet) -> Result<PresencePage, MetricsError> {
        if !(1..=CHANGES_MAX).contains(&request.limit) {
            return Err(
                Problem::invalid("limit", format!("must be from 1 to {CHANGES_MAX}")).into(),
            );
        }
        let mut rows = store::presence::changes(
            self.pools.system(),
            request.after,
            i64::from(request.limit) + 1,
        )
        .await?;
        let more = rows.len() > request.limit as usize;
        rows.truncate(request.limit as usize);
        let items = rows
            .into_iter()
            .map(|(org, machine, online, version)| Presence {
                org: org.into(),
                machine_id: machine.into(),
                online,
                version,
            });
        Ok(PresencePage {
            items: items.collect(),
            more,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_will_gets_the_long_grace() {
        for reason in [
            "Server Shutdown",
            "Authentication Expired",
            "Slow Consumer (Pending Bytes)",
            "Maximum Connections Exceeded",
        ] {
            assert_eq!(closed(reason).0, ClosedBy::Server, "{reason}");
        }
        for reason in [
            "Client Closed",
            "Read Error",
            "Write Error",
            "Stale Connection",
            "Kicked",
            "Protocol Violation",
            "Something New",
        ] {
            assert_eq!(closed(reason).0, ClosedBy::Client, "{reason}");
        }
        assert_eq!(closed("Parse Error").1, "parse error");
    }
}
