//! The scheduler on a real bus and a real database. Identity is a small service of the tests' own, and what workers do is done to
//! the rows, as far as it matters to what users see.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod main {
    pub mod change;
    pub mod change_many;
    pub mod execute;
    pub mod job;
    pub mod list;
    pub mod remove;
    pub mod world;
}
