//! This crate is the bus as data: what is said, on which subject, by whom, in which form.
//!
//! Rooms: [`subject`] names and their codec, [`streams`] what JetStream keeps, [`permissions`] who may say and
//! hear what (the one table), [`server_config`] the server's configuration made from it, [`envelope`] the form of
//! a message, [`problem`] the form of a refusal, [`grant`] what a request may do, [`call`] request and reply as
//! types, [`merge`] a field of a patch, [`order`] what an agent obeys; then the messages by their owner: [`identity`], [`action`], [`metrics`],
//! the scheduler's [`job`], [`execution`] and [`run`] (what workers say) and [`work`] (how it is offered),
//! [`agent`] (what agents send), [`audit`] (who did what), [`legacy`] (what agents over HTTP bring about), [`event`], [`live`],
//! [`rate`] (what the gateway's replicas tell each other).

pub mod action;
pub mod agent;
pub mod audit;
pub mod call;
pub mod envelope;
pub mod event;
pub mod execution;
pub mod grant;
pub mod identity;
pub mod job;
pub mod legacy;
pub mod live;
pub mod merge;
pub mod metrics;
pub mod order;
pub mod permissions;
pub mod problem;
pub mod rate;
pub mod run;
pub mod server_config;
pub mod streams;
pub mod subject;
pub mod work;

pub use call::{Audience, Call};
pub use envelope::{Answer, Envelope};
pub use grant::{Author, Grant, Origin};
pub use problem::{FieldError, Problem, ProblemKind};
