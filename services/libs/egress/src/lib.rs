//! This crate is the way out: HTTP requests that tenants aim go through it and through nothing else.
//!
//! A tenant says where to; the platform's network is behind us, and its administrators did not mean to open it. So a name
//! is resolved once, by us; when any of its addresses is not public (and was not granted) the request is refused; and
//! the connection goes to exactly an address that was looked at, with the name in SNI and `Host`. No proxy of the environment
//! is asked, no cookie is kept, each redirect is looked at anew.
//!
//! Rooms: [`address`] which addresses are public, [`rules`] what the platform's administrator grants and forbids,
//! [`decision`] may this request go there (pure), [`resolve`] names to addresses, [`client`] doing it, [`request`] what is asked and
//! what comes back, [`pace`] how much of it, [`error`] why not.

pub mod address;
pub mod client;
pub mod decision;
pub mod error;
pub mod pace;
pub mod request;
pub mod resolve;
pub mod rules;

pub use client::Client;
pub use decision::{Outbound, Policy, Refusal, Target, decide};
pub use error::EgressError;
pub use hyper::Method;
pub use request::{Request, Response, Take};
pub use resolve::{Resolve, System};
pub use rules::Rules;
