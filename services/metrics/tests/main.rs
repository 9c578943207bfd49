//! The metrics service on a real bus and a real database. Identity is a small service of the test's own; agents
//! are real connections that its callout lets in.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::type_complexity
)]

mod main {
    pub mod catalogue;
    pub mod cluster;
    pub mod end;
    pub mod history;
    pub mod inventory;
    pub mod legacy;
    pub mod list;
    pub mod locks;
    pub mod mirror;
    pub mod partition;
    pub mod plan;
    pub mod presence;
    pub mod readiness;
    pub mod sample;
    pub mod selection;
    pub mod session;
    pub mod tenancy;
    pub mod world;
}
