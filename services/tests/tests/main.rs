//! What crosses services, on real servers: flow, chaos, security, and the rules of the house.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::type_complexity
)]

mod main {
    mod agent_attacks;
    mod audit;
    mod catalogue;
    mod chaos;
    mod coverage;
    mod edit;
    mod executions;
    mod fan_out;
    mod flow;
    mod hostile;
    mod install;
    mod jobs;
    mod key_rotation;
    mod ledger;
    mod legacy;
    mod offline;
    mod people;
    mod permissions;
    mod presence;
    mod rules;
    mod schemathesis;
    mod sql;
    mod stolen_gateway;
    mod trace;
    mod websocket;
}
