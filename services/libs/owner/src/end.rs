//! The end of a service whose background is needed until the last answer is given.

use std::time::Duration;

use bus::Service;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long what is done last may take: the last refused attempts are written down.
const LAST_MAX: Duration = Duration::from_secs(2);

/// Stops hearing and answers what was heard, in `limit`; then ends the background and does what is last. After that nobody
/// hands in anything any more.
pub async fn stop(
    limit: Duration,
    endpoints: Service,
    background: Vec<JoinHandle<()>>,
    last: impl Future<Output = ()>,
) {
    if timeout(limit, endpoints.stop()).await.is_err() {
        tracing::warn!("what was under way did not end in time");
    }
    for task in background {
        task.abort();
    }
    if timeout(LAST_MAX, last).await.is_err() {
        tracing::warn!("the last refused attempts are not written down");
    }
}
