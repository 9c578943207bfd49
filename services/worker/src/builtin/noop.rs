//! `builtin/noop`: does nothing, and so shows what everything else costs.

use std::future::ready;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::handler::{Context, Failure, Handler};

/// The handler. It takes any configuration and returns nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noop;

impl Handler for Noop {
    fn run<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(ready(Ok::<Value, Failure>(Value::Null)))
    }
}
