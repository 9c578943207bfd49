//! The operations, by noun: decode, ask the owner, encode. The pages that are no part of the API are in [`pages`], the
//! install scripts in [`install`], the routes of Dash-Fleet in [`legacy`], the agents' way to the bus in [`nats`].

pub mod action;
pub mod audit;
pub mod auth;
pub mod enrollment;
pub mod execution;
pub mod idempotency;
pub mod install;
pub mod job;
pub mod key;
pub mod legacy;
pub mod machine;
pub mod member;
pub mod nats;
pub mod organization;
pub mod pages;
pub mod parameter;
pub mod presence;
pub mod status;
pub mod token;

use std::sync::Arc;

use runtime::Shutdown;

use crate::credentials::Credentials;
use crate::owners::Owners;

/// All operations.
pub type Api = (
    auth::Auth,
    organization::Organizations,
    member::Users,
    key::ApiKeys,
    token::EnrollmentTokens,
    enrollment::Enrollments,
    machine::Machines,
    presence::Presences,
    action::Actions,
    job::Jobs,
    execution::Executions,
    execution::settings::ExecutionSettings,
    audit::AuditEvents,
    status::Installation,
);

/// All operations, ready to answer. What they stream ends when the shutdown begins.
#[must_use]
pub fn api(
    owners: &Owners,
    credentials: &Arc<Credentials>,
    status: status::Installation,
    shutdown: &Shutdown,
) -> Api {
    (
        auth::Auth::new(owners.clone(), credentials.clone()),
        organization::Organizations::new(owners.clone()),
        member::Users::new(owners.clone()),
        key::ApiKeys::new(owners.clone(), credentials.clone()),
        token::EnrollmentTokens::new(owners.clone()),
        enrollment::Enrollments::new(owners.clone(), credentials.clone()),
        machine::Machines::new(owners.clone()),
        presence::Presences::new(owners.clone()),
        action::Actions::new(owners.clone()),
        job::Jobs::new(owners.clone()),
        execution::Executions::new(owners.clone(), shutdown.clone()),
        execution::settings::ExecutionSettings::new(owners.clone()),
        audit::AuditEvents::new(owners.clone()),
        status,
    )
}
