//! This crate is the domain: what DashFleet's words mean, free of I/O and of async.
//!
//! Rooms: [`ids`] typed identifiers, [`time`] timestamps as they travel, [`action`] the life of an action,
//! [`job`] what may be asked of a job, [`builtin`] the handlers that are always there and what they take, [`execution`] the life of its executions, [`machine`] the states of a machine and what an operator says of it, [`access`] roles and scopes, [`labels`] labels
//! and selectors, [`health`] the health score, [`network`] addresses as limits count them,
//! [`request`] what HTTP requests that tenants aim may be like, [`text`] characters that deceive.

pub mod access;
pub mod action;
pub mod builtin;
pub mod execution;
pub mod health;
pub mod ids;
pub mod job;
pub mod labels;
pub mod machine;
pub mod network;
pub mod request;
pub mod text;
pub mod time;

pub use ids::{
    ActionId, CredentialId, DeploymentId, ExecutionId, JobId, JournalId, MachineId, OrgId,
    SessionId, UserId,
};
pub use time::Timestamp;
