//! The action service on a real bus and a real database. Identity and metrics are small services of the test's own.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod main {
    pub mod audit;
    pub mod cancel;
    pub mod create;
    pub mod end;
    pub mod fan_out;
    pub mod legacy;
    pub mod recovery;
    pub mod report;
    pub mod stand_ins;
    pub mod sync;
    pub mod world;
}
