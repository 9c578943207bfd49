//! Tests of the bus library on a real nats-server.
#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

extern crate dashfleet_bus as bus;

mod main {
    mod events;
    mod servers;
    mod unread;
    mod worker;
}
