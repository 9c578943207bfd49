//! The service's SQL: [`job`], [`page`] (which executions a list shows), [`execution`] (as what), [`enqueue`], [`change`]
//! (cancel and retry), [`settings`], [`log`], [`idempotency`] for users; [`session`], [`claim`], [`finish`], [`chunk`] for workers;
//! [`lanes`] what waits, for the dispatcher; [`limits`] counters; [`chores`] what time does; [`row`] what several tables hold alike,
//! [`mod@left`] batches of several statements.

pub mod change;
pub mod chores;
pub mod chunk;
pub mod claim;
pub mod enqueue;
pub mod execution;
pub mod finish;
pub mod idempotency;
pub mod job;
pub mod lanes;
mod left;
pub mod limits;
pub mod log;
pub mod page;
pub mod row;
pub mod session;
pub mod settings;
