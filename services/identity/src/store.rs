//! identity's SQL, by table. Every statement is a constant, so that a test can prepare it.
//!
//! `…_in_tx` works on the caller's connection; the rest takes a single connection of the system role.

pub mod action_key;
pub mod api_key;
pub mod audit;
pub mod deployment;
pub mod edit;
pub mod enrollment_token;
pub mod idempotency;
pub mod invitation;
pub mod legacy;
pub mod login_failure;
pub mod machine;
pub mod member;
pub mod organization;
pub mod password_reset;
pub mod session;
pub mod user;

/// SHA-256 of a secret: all that is stored of it.
pub type Hash = [u8; 32];
