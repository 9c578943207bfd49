//! The auth callout, on the AUTH connection.

use std::sync::Arc;

use bus::Bus;
use bus::callout::{Attempt, CalloutKeys, serve};

use crate::app::App;

/// Answers callouts until the connection closes for good, from when the keys are known: a replica that begins must not
/// refuse whom the others would admit.
pub async fn run(auth: Bus, keys: CalloutKeys, app: Arc<App>) {
    app.keys.loaded().await;
    let decide = move |attempt: Attempt| {
        let app = app.clone();
        async move { app.callout(&attempt).await }
    };
    if let Err(error) = serve(&auth, keys, decide).await {
        tracing::error!(%error, "callouts are not answered any more");
    }
}
