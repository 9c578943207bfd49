//! This crate is the cross-service tests. Its library is what they share: [`product`] the whole product as the
//! launcher runs it, [`clustered`] its programs on several nats-servers, [`api`] its HTTP API, [`agent`] agents of the
//! test's own, [`wire`] network paths that can be cut, [`storm`] the end of anything at any moment, [`witness`] what handlers
//! wrote down, [`random`] seeded randomness, [`processor`] what processes cost.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

pub mod agent;
pub mod api;
pub mod clustered;
pub mod debian;
pub mod processor;
pub mod product;
pub mod storm;
pub mod wire;
pub mod witness;

pub use agent::TestAgent;
pub use api::Api;
pub use clustered::Clustered;
pub use product::Product;
pub use storm::Storm;
pub use testkit::random;
pub use wire::Wire;
