//! identity on a real nats-server and a real PostgreSQL. The files' names say what they promise about.

#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "main/account.rs"]
mod account;
#[path = "main/action_key.rs"]
mod action_key;
#[path = "main/audit.rs"]
mod audit;
#[path = "main/bootstrap.rs"]
mod bootstrap;
#[path = "main/callout.rs"]
mod callout;
#[path = "main/edit.rs"]
mod edit;
#[path = "main/enrollment.rs"]
mod enrollment;
#[path = "main/feed.rs"]
mod feed;
#[path = "main/grant.rs"]
mod grant;
#[path = "main/invitation.rs"]
mod invitation;
#[path = "main/key.rs"]
mod key;
#[path = "main/legacy.rs"]
mod legacy;
#[path = "main/login.rs"]
mod login;
#[path = "main/machine.rs"]
mod machine;
#[path = "main/mail.rs"]
mod mail;
#[path = "main/member.rs"]
mod member;
#[path = "main/organization.rs"]
mod organization;
#[path = "main/outage.rs"]
mod outage;
#[path = "main/principal.rs"]
mod principal;
#[path = "main/proxy.rs"]
mod proxy;
#[path = "main/raw_agent.rs"]
mod raw_agent;
#[path = "main/reset.rs"]
mod reset;
#[path = "main/revocation.rs"]
mod revocation;
#[path = "main/rotation.rs"]
mod rotation;
#[path = "main/tenancy.rs"]
mod tenancy;
#[path = "main/token.rs"]
mod token;
#[path = "main/world.rs"]
mod world;
