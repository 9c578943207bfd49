//! This crate is the cross-service tests. Its library is what they share: [`product`] the whole product as the
//! launcher runs it, [`api`] its HTTP API, [`agent`] agents of the test's own, [`random`] seeded randomness.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

pub mod agent;
pub mod api;
pub mod product;
pub mod random;

pub use agent::TestAgent;
pub use api::Api;
pub use product::Product;
