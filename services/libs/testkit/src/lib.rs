//! This crate is the test kit: a real PostgreSQL per test process, a real nats-server per world, each in its own
//! folder and on free ports, ended with the process that started them, however it ends.
//!
//! Rooms: [`postgres`], [`nats`], [`folder`] where they live, [`keeper`] who ends them, [`traces`] a collector
//! of spans, [`action`] what a played service answers, [`random`] seeded randomness, [`wait`] patience.

// A test that cannot have its servers must fail, loudly; the launcher says by variables where they are.
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

pub mod action;
pub mod folder;
pub mod keeper;
pub mod nats;
pub mod postgres;
pub mod random;
pub mod traces;
pub mod wait;

pub use folder::Folder;
pub use nats::Nats;
pub use postgres::{Postgres, TestDatabase};
pub use traces::Collector;
pub use wait::eventually;
