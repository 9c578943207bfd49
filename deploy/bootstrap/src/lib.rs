//! This crate is the bootstrap job: what must be there before the first service starts. Every step makes what is
//! missing and leaves what is there, so it can be run again, also after it died in the middle.
//!
//! Rooms: [`keys`] the keys folder, [`database`] roles and migrations, [`bus`] streams and consumers, [`pools`] the pools of
//! workers that have users and consumers, [`error`].

pub mod bus;
pub mod database;
pub mod error;
pub mod keys;
pub mod pools;

pub use error::BootstrapError;
