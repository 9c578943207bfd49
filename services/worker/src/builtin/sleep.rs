//! `builtin/sleep {ms}`: waits, and ends early when it should.

use std::ops::RangeInclusive;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::builtin::Fields;
use crate::handler::{Context, Failure, Handler};

/// How long it may be asked to wait, in milliseconds: at most a day.
const MS: RangeInclusive<u64> = 0..=24 * 3_600 * 1_000;

/// The handler. It returns `{ms}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sleep;

impl Handler for Sleep {
    fn run<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let fields = Fields::new(&context.config, &["ms"])?;
            let ms = fields.required("ms", fields.whole("ms", &MS)?)?;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(ms)) => Ok(json!({ "ms": ms })),
                () = context.cancelled() => Err(Failure::new("woken before its time")),
            }
        })
    }
}
