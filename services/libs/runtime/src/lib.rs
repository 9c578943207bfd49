//! This crate is the runtime of every process: configuration, telemetry, health endpoints, shutdown.
//!
//! Rooms: [`config`] the one reader of the environment, [`telemetry`] logs and traces, [`admin`] `/healthz`,
//! `/readyz`, `/metrics`, [`shutdown`] the end, [`process`] how a `main` begins and ends, [`keys`] seed files.

pub mod admin;
pub mod config;
pub mod keys;
pub mod process;
pub mod shutdown;
pub mod telemetry;

pub use config::{ConfigError, Reader};
pub use shutdown::Shutdown;
