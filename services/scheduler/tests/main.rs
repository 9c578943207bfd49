//! The scheduler on a real bus and a real database. Workers are played by the tests, which speak the real protocol.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod main {
    pub mod dispatch;
    pub mod lease;
    pub mod limits;
    pub mod run;
    pub mod stage;
}
