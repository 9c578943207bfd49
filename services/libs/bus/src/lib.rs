//! This crate is the only user of the NATS client: whoever speaks on the bus speaks through it.
//!
//! Rooms: [`connection`] connecting for ever, `servers` to whom and in which order, [`request`] asking with a timeout,
//! [`service`] answering, [`subscription`] hearing, [`events`] publishing and consuming events, [`verifier`] grants, [`trace`] trace
//! headers, [`work`] offers to workers, [`client`] the client's address, [`denied`] refused attempts, [`callout`] deciding who may connect, [`system`] the server's own account, [`setup`] streams and
//! consumers (the bootstrap job), `turns` fairness between agents.

mod audit;
pub mod callout;
pub mod client;
pub mod connection;
pub mod denied;
pub mod error;
pub mod events;
pub mod request;
mod servers;
pub mod service;
pub mod setup;
pub mod subscription;
pub mod system;
pub mod trace;
mod turns;
pub mod verifier;
pub mod work;

pub use connection::{Bus, BusConfig, BusState};
pub use denied::Denials;
pub use error::BusError;
pub use events::{Consumer, Delivery};
pub use request::Unread;
pub use servers::check_agent_url;
pub use service::{AgentSender, Caller, Context, Service};
pub use subscription::{Message, Subscription};
pub use verifier::GrantVerifier;
pub use work::OfferFeed;
