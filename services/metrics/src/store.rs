//! The service's SQL, one room per noun. Statements are constants, so that a test can prepare each of them.

pub mod history;
pub mod inventory;
pub mod legacy;
pub mod machine;
pub mod mirror;
pub mod partition;
pub mod presence;
pub mod sample;
pub mod selection;
pub mod server;
pub mod session;
