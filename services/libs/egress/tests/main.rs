//! The way out: every range by a table, and the client against real servers on the loopback.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

extern crate dashfleet_egress as egress;

mod main {
    pub mod decision;
    pub mod encrypted;
    pub mod redirects;
    pub mod requests;
    pub mod rules;
    pub mod server;
}
