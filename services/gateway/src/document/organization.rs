//! Organisations, as the document shows them.

use chrono::{DateTime, Utc};
use contract::identity as message;
use poem_openapi::Object;
use uuid::Uuid;

use super::auth::Role;
use crate::inbound::organization::Changes;
use crate::json::Documented;

/// An organisation. `role` is what the caller is there; absent for somebody who is no member.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Organization {
    /// Its id.
    id: Uuid,
    /// Its name.
    name: String,
    role: Option<Role>,
    /// Whether it takes agents of Dash-Fleet.
    legacy_enabled: bool,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it was closed: no credential of it is accepted any more.
    closed_at: Option<DateTime<Utc>>,
}

/// A page of organisations, the oldest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct OrganizationPage {
    /// The organisations.
    items: Vec<Organization>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// A new organisation.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct OrganizationCreate {
    /// Its name.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
}

/// What changes of an organisation; what is absent stays.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct OrganizationChanges {
    /// Its new name.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    /// Whether it takes agents of Dash-Fleet.
    legacy_enabled: Option<bool>,
}

impl Documented for message::Organization {
    type Schema = Organization;
}

impl Documented for message::OrganizationPage {
    type Schema = OrganizationPage;
}

impl Documented for message::OrganizationCreate {
    type Schema = OrganizationCreate;
}

impl Documented for Changes {
    type Schema = OrganizationChanges;
}
