//! The service's SQL: [`action`] actions of one organisation, [`fan_out`] one for each of many machines,
//! [`idempotency`] keys, [`report`] what agents say (group commit), [`machine`] the mirror and presence, [`sync`]
//! journals and offers, [`deadline`] what time does,
//! [`ended`] what the server ends, [`audit`] what it signed of identity's chains.

pub mod action;
pub mod audit;
pub mod deadline;
pub mod ended;
pub mod fan_out;
pub mod idempotency;
pub mod legacy;
pub mod machine;
pub mod report;
pub mod row;
pub mod sync;
