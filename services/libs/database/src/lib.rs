//! This crate is the database: pools, tenant transactions, group commit, outbox, error translation, setup.
//!
//! Rooms: [`pools`] a service's two roles, [`group_commit`] law L3, [`outbox`] events that leave with a commit,
//! [`audit`] entries that do, `leadership` what one replica does for all, [`rewrap`] sealed columns after a rotation,
//! [`error`] what PostgreSQL's errors mean, [`setup`] roles and migrations (the bootstrap job).
//!
//! SQL lives in `store/` of each service, as `const NAME: &str`, so that a test can prepare every statement.

pub mod audit;
pub mod error;
pub mod group_commit;
mod leadership;
pub mod outbox;
pub mod pools;
pub mod rewrap;
pub mod setup;

pub use audit::{AuditRelay, AuditRow, NotHanded};
pub use error::DatabaseError;
pub use group_commit::{Batch, GroupCommit};
pub use outbox::{OutboxRow, Relay};
pub use pools::{Pools, Tx};
pub use rewrap::{Rewrapped, SealedColumn};
