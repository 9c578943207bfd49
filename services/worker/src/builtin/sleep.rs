//! `builtin/sleep {ms}`: waits, and ends early when it should.

use std::time::Duration;

use domain::builtin::{Given, SleepConfig};
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::handler::{Context, Failure, Handler};

/// The handler. It returns `{ms}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sleep;

impl Handler for Sleep {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let ms = ms(&context.config)?;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(ms)) => Ok(json!({ "ms": ms })),
                () = context.cancelled() => Err(Failure::new("woken before its time")),
            }
        })
    }
}

/// How long it is to wait.
pub(super) fn ms(config: &Map<String, Value>) -> Result<u64, Failure> {
    Ok(SleepConfig::read(Given::of(config))?.ms)
}
