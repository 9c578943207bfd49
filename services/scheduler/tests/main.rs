//! The scheduler on a real bus and a real database. Workers are played by the tests, which speak the real protocol; tests of what
//! users ask do to the rows what workers do. Identity is a small service of the tests' own.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod main {
    pub mod act;
    pub mod change;
    pub mod change_many;
    pub mod dispatch;
    pub mod event;
    pub mod execute;
    pub mod job;
    pub mod lease;
    pub mod limits;
    pub mod list;
    pub mod log;
    pub mod metrics;
    pub mod mixed;
    pub mod partition;
    pub mod plans;
    pub mod pools;
    pub mod random;
    pub mod remove;
    pub mod retention;
    pub mod rights;
    pub mod run;
    pub mod stage;
    pub mod world;
}
