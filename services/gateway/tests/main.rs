//! The gateway on a real bus. Its owners are small stand-ins that answer by the contract; the real ones are tested
//! together with it elsewhere.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "main/audit.rs"]
mod audit;
#[path = "main/browser.rs"]
mod browser;
#[path = "main/connections.rs"]
mod connections;
#[path = "main/credentials.rs"]
mod credentials;
#[path = "main/document.rs"]
mod document;
#[path = "main/edit.rs"]
mod edit;
#[path = "main/fan_out.rs"]
mod fan_out;
#[path = "main/install.rs"]
mod install;
#[path = "main/job.rs"]
mod job;
#[path = "main/legacy.rs"]
mod legacy;
#[path = "main/logs.rs"]
mod logs;
#[path = "main/messages.rs"]
mod messages;
#[path = "main/operations.rs"]
mod operations;
#[path = "main/pages.rs"]
mod pages;
#[path = "main/people.rs"]
mod people;
#[path = "main/process.rs"]
mod process;
#[path = "main/rates.rs"]
mod rates;
#[path = "main/refusals.rs"]
mod refusals;
#[path = "main/standin.rs"]
mod standin;
#[path = "main/status.rs"]
mod status;
#[path = "main/tunnel.rs"]
mod tunnel;
#[path = "main/world.rs"]
mod world;
