//! Tests of the database library on a real PostgreSQL.
#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

extern crate dashfleet_database as database;

mod main {
    mod audit;
    mod error;
    mod group_commit;
    mod lost_host;
    mod outbox;
    mod pools;
    mod probe;
    mod rewrap;
    mod tenant;
}
