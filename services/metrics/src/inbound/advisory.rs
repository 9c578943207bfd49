//! Advisories of the bus' servers: connections that begin and end, servers that live and go.
//!
//! Replicas share them (a queue group). What one loses, because it dies or its database is away, the comparison
//! with the servers' lists repairs.

use std::sync::Arc;
use std::time::Duration;

use bus::system::{
    Advisory, CONNECT, DISCONNECT, SERVER_SHUTDOWN, SERVER_STATS, ServerInfo, ServerStats,
};
use bus::{Message, Subscription};
use futures::StreamExt;
use serde::de::DeserializeOwned;

use crate::app::App;

/// How many advisories wait for their commit at once; the next commit takes them all.
const AT_ONCE: usize = 2_000;
/// How long to wait when the client does not subscribe.
const PAUSE: Duration = Duration::from_secs(1);

/// Hears them for ever.
pub async fn run(app: Arc<App>) {
    let (opened, closed, shut_down, lives) = (app.clone(), app.clone(), app.clone(), app.clone());
    tokio::join!(
        hear(&app, CONNECT, async move |advisory: Advisory| opened
            .session_open(&advisory)
            .await),
        hear(&app, DISCONNECT, async move |advisory: Advisory| closed
            .session_close(&advisory)
            .await),
        hear(&app, SERVER_SHUTDOWN, async move |server: ServerInfo| {
            if let Err(error) = shut_down.server_shutdown(&server).await {
                tracing::warn!(%error, "a server's shutdown was not noted; its silence will tell");
            }
        }),
        hear(&app, SERVER_STATS, async move |stats: ServerStats| {
            if let Err(error) = lives.server_heard(&stats.server).await {
                tracing::debug!(%error, "a server's sign of life was not noted");
            }
        }),
    );
}

async fn hear<T: DeserializeOwned>(app: &App, subject: &str, take: impl AsyncFn(T)) {
    loop {
        match app
            .system
            .advisories(subject, contract::metrics::SERVICE)
            .await
        {
            Ok(advisories) => take_all(advisories, &take).await,
            Err(error) => tracing::warn!(%error, subject, "advisories cannot be heard"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn take_all<T: DeserializeOwned>(advisories: Subscription, take: &impl AsyncFn(T)) {
    advisories
        .filter_map(|message: Message| async move {
            match serde_json::from_slice(&message.payload) {
                Ok(advisory) => Some(advisory),
                Err(error) => {
                    tracing::warn!(%error, subject = message.subject, "an advisory cannot be read");
                    None
                }
            }
        })
        .for_each_concurrent(AT_ONCE, async |advisory: T| take(advisory).await)
        .await;
}
