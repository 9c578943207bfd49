//! The service's SQL: [`action`] actions of one organisation, [`report`] what agents say (group commit),
//! [`machine`] the mirror and presence, [`sync`] journals and offers, [`deadline`] what time does.

pub mod action;
pub mod deadline;
pub mod machine;
pub mod report;
pub mod row;
pub mod sync;
