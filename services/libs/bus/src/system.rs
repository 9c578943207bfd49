//! The server's own account: who is connected, who came and went, and the kick.

use std::time::Duration;

use bytes::Bytes;
use domain::{MachineId, OrgId};
use futures::StreamExt;
use serde::Deserialize;

use crate::connection::Bus;
use crate::error::BusError;
use crate::subscription::Subscription;

/// Connections of one page of one server.
#[derive(Clone, Debug, Deserialize)]
pub struct Connections {
    /// The server.
    pub server: ServerInfo,
    /// The page.
    pub data: ConnectionsPage,
}

/// A server, as its messages name it.
#[derive(Clone, Debug, Deserialize)]
pub struct ServerInfo {
    /// Its id: new after each start.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// When it said so.
    pub time: Option<String>,
}

/// A page of a server's connections.
#[derive(Clone, Debug, Deserialize)]
pub struct ConnectionsPage {
    /// When the page was made.
    pub now: String,
    /// How many connections there are in all pages.
    pub total: usize,
    /// Where the page begins.
    pub offset: usize,
    /// The longest page.
    pub limit: usize,
    /// The connections.
    #[serde(default)]
    pub connections: Vec<Connection>,
}

/// A connection.
#[derive(Clone, Debug, Deserialize)]
pub struct Connection {
    /// Its number on its server.
    pub cid: u64,
    /// When it began.
    pub start: String,
    /// Its user's name: `<org>.<machine>` for an agent.
    #[serde(default)]
    pub authorized_user: String,
    /// Likewise, where the server says it in this field.
    #[serde(default)]
    pub name_tag: String,
}

impl Connection {
    /// The agent behind it; `None` for a service.
    #[must_use]
    pub fn agent(&self) -> Option<(OrgId, MachineId)> {
        contract::subject::agent_of_user(&self.authorized_user)
            .or_else(|| contract::subject::agent_of_user(&self.name_tag))
    }
}

/// `$SYS.ACCOUNT.APP.CONNECT` and `…DISCONNECT`.
#[derive(Clone, Debug, Deserialize)]
pub struct Advisory {
    /// The server that says so.
    pub server: ServerInfo,
    /// The client that it is about.
    pub client: AdvisoryClient,
    /// Why it went; empty when it came.
    #[serde(default)]
    pub reason: String,
}

/// The client of an advisory.
#[derive(Clone, Debug, Deserialize)]
pub struct AdvisoryClient {
    /// Its number on its server.
    pub id: u64,
    /// Its user's name.
    #[serde(default)]
    pub user: String,
    /// Likewise, where the server says it in this field.
    #[serde(default)]
    pub name_tag: String,
    /// When it began.
    #[serde(default)]
    pub start: String,
    /// When it ended.
    #[serde(default)]
    pub stop: Option<String>,
}

impl AdvisoryClient {
    /// The agent behind it; `None` for a service.
    #[must_use]
    pub fn agent(&self) -> Option<(OrgId, MachineId)> {
        contract::subject::agent_of_user(&self.user)
            .or_else(|| contract::subject::agent_of_user(&self.name_tag))
    }
}

/// `$SYS.SERVER.*.STATSZ`: a server's sign of life. (`…SHUTDOWN` carries the bare [`ServerInfo`].)
#[derive(Clone, Debug, Deserialize)]
pub struct ServerStats {
    /// The server.
    pub server: ServerInfo,
}

/// Subject of advisories that a client came.
pub const CONNECT: &str = "$SYS.ACCOUNT.APP.CONNECT";
/// Subject of advisories that a client went.
pub const DISCONNECT: &str = "$SYS.ACCOUNT.APP.DISCONNECT";
/// Subjects of advisories that a server goes down.
pub const SERVER_SHUTDOWN: &str = "$SYS.SERVER.*.SHUTDOWN";
/// Subjects of the servers' regular sign of life.
pub const SERVER_STATS: &str = "$SYS.SERVER.*.STATSZ";

/// A connection of the SYS account.
#[derive(Clone, Debug)]
pub struct SystemBus(Bus);

impl SystemBus {
    /// Wraps a connection that was made with a SYS user's seed.
    #[must_use]
    pub fn new(bus: Bus) -> Self {
        Self(bus)
    }

    /// The connection below.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.0
    }

    /// Hears advisories.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the client is closed.
    pub async fn advisories(&self, subject: &str, group: &str) -> Result<Subscription, BusError> {
        self.0.subscribe_group(subject, group).await
    }

    /// One page of the APP account's connections of every server that answers within `gather`; of one agent
    /// when it is named. There is an end of answers, not a number of servers to wait for.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the client is closed or not connected.
    pub async fn connections(
        &self,
        agent: Option<(OrgId, MachineId)>,
        offset: usize,
        gather: Duration,
    ) -> Result<Vec<Connections>, BusError> {
        let mut question =
            serde_json::json!({ "auth": true, "acc": "APP", "offset": offset, "limit": 4_096 });
        if let (Some((org, machine)), Some(fields)) = (agent, question.as_object_mut()) {
            fields.insert(
                "user".into(),
                contract::subject::agent_user(org, machine).into(),
            );
        }
        if !self.0.is_connected() {
            return Err(BusError::Unavailable("not connected".into()));
        }
        let unavailable = |error: String| BusError::Unavailable(error);
        let inbox = self.0.client.new_inbox();
        let mut answers = self
            .0
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        self.0
            .client
            .publish_with_reply(
                "$SYS.REQ.SERVER.PING.CONNZ",
                inbox,
                Bytes::from(question.to_string()),
            )
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let mut pages = Vec::new();
        let end = tokio::time::Instant::now() + gather;
        while let Ok(Some(message)) = tokio::time::timeout_at(end, answers.next()).await {
            match serde_json::from_slice::<Connections>(&message.payload) {
                Ok(page) => pages.push(page),
                Err(error) => {
                    tracing::warn!(%error, "a server's list of connections cannot be read");
                }
            }
        }
        Ok(pages)
    }

    /// Cuts a connection.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the server did not answer.
    pub async fn kick(&self, server: &str, cid: u64) -> Result<(), BusError> {
        let question = serde_json::json!({ "cid": cid }).to_string();
        let request = async_nats::Request::new()
            .payload(Bytes::from(question))
            .timeout(Some(Duration::from_secs(2)));
        self.0
            .client
            .send_request(format!("$SYS.REQ.SERVER.{server}.KICK"), request)
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        Ok(())
    }
}
