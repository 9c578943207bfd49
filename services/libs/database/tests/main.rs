//! Tests of the database library on a real PostgreSQL.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

extern crate dashfleet_database as database;

#[path = "main/group_commit.rs"]
mod group_commit;
#[path = "main/outbox.rs"]
mod outbox;
#[path = "main/probe.rs"]
mod probe;
