//! Tests of the contract.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

extern crate dashfleet_contract as contract;

mod main {
    mod snapshots;
}
