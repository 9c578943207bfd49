//! The agent at work: the loop between bus, journal and engine, and what it needs.
//!
//! Rooms: [`core`] the loop, [`outbox`] what is to be said until somebody has it, [`sync`] when to ask what was
//! missed, [`uplink`] samples and inventory on their way, [`execution_log`] the witness of what was executed.

pub mod core;
pub mod execution_log;
pub mod outbox;
pub mod sync;
pub mod uplink;
