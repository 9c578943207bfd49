//! Tests of the agent. Those that need a bus have a real nats-server.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod main {
    pub mod buffer;
    pub mod care;
    pub mod clock;
    pub mod collect;
    pub mod dating;
    pub mod deaf;
    pub mod engine;
    pub mod enrolment;
    pub mod first_word;
    pub mod journal;
    pub mod limits;
    pub mod memory;
    pub mod message;
    pub mod model;
    pub mod orders;
    pub mod outbox;
    pub mod platform;
    pub mod policy;
    pub mod program;
    pub mod sequence;
    pub mod servers;
    pub mod shown_config;
    pub mod state;
    pub mod task;
    pub mod trusted;
    pub mod uninstall;
    pub mod world;
}
