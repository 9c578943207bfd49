//! What waits for a time: when it has come, somebody rings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::store::chores;

/// How often is looked: what is to run at a time begins so much later at most.
const EVERY: Duration = Duration::from_millis(200);
/// How many become due at once.
const AT_ONCE: i64 = 1_000;

/// Looks for ever; replicas share what they find.
pub async fn tick(app: Arc<App>) {
    loop {
        match chores::due_make(app.pools.system(), AT_ONCE).await {
            Ok(due) => {
                let more = due.len() as i64 == AT_ONCE;
                let mut lanes: BTreeMap<String, Vec<_>> = BTreeMap::new();
                for (pool, lane) in due {
                    lanes.entry(pool).or_default().push(lane);
                }
                for (pool, lanes) in lanes {
                    app.bell.waits(&pool, lanes).await;
                }
                if more {
                    continue;
                }
            }
            Err(error) => tracing::debug!(%error, "nothing becomes due for now"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
