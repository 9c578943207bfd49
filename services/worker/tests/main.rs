//! The worker on a real bus. The scheduler is a small one of the test's own, which speaks the real protocol.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod main {
    pub mod builtins;
    pub mod claims;
    pub mod ends;
    pub mod finishes;
    pub mod leases;
    pub mod logs;
    pub mod pools;
    pub mod scheduler;
    pub mod world;
}
