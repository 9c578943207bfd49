//! This crate is the owner: what every service that owns data does alike, so that each says only what is its own.
//!
//! Rooms: [`connections`] bus and database, by the configuration; [`outboxes`] what leaves a service besides its answers;
//! [`idempotency`] users' keys and what they made; [`error`] what can go wrong where users bring keys.

pub mod connections;
pub mod error;
pub mod idempotency;
pub mod outboxes;

pub use connections::{bus, missing, pools};
pub use error::OwnerError;
pub use outboxes::{Outboxes, audit_rows};
