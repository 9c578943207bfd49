//! API keys and enrolment tokens, as the document shows them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contract::identity as message;
use poem_openapi::{Enum, Object};
use uuid::Uuid;

use super::auth::Role;
use crate::inbound::key::Changes;
use crate::json::Documented;

/// What a key is for.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ApiKeyKind {
    /// The API.
    Api,
    /// The routes of Dash-Fleet, and nothing else.
    Legacy,
}

/// A key, without its secret. `role` is the most that it can; absent for a legacy key.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ApiKey {
    /// Its id.
    id: Uuid,
    /// Its name.
    name: String,
    kind: ApiKeyKind,
    role: Option<Role>,
    /// What of that it has; all of it when absent, nothing when empty.
    scopes: Option<Vec<String>>,
    /// Where it is taken from, such as `10.0.0.0/8`; from everywhere when absent.
    networks: Option<Vec<String>>,
    /// How many machines may be bound to it; of a legacy key only.
    machine_cap: Option<u32>,
    /// Who made it: it never has more than that person has now. Absent for one that was there before anybody.
    created_by: Option<Uuid>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it expires; never when absent.
    expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    revoked_at: Option<DateTime<Utc>>,
}

/// A new key, with its secret. `role` is the most that it can; absent for a legacy key.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ApiKeyCreated {
    /// Its id.
    id: Uuid,
    /// Its name.
    name: String,
    kind: ApiKeyKind,
    role: Option<Role>,
    /// What of that it has; all of it when absent, nothing when empty.
    scopes: Option<Vec<String>>,
    /// Where it is taken from, such as `10.0.0.0/8`; from everywhere when absent.
    networks: Option<Vec<String>>,
    /// How many machines may be bound to it; of a legacy key only.
    machine_cap: Option<u32>,
    /// Who made it: it never has more than that person has now. Absent for one that was there before anybody.
    created_by: Option<Uuid>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it expires; never when absent.
    expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    revoked_at: Option<DateTime<Utc>>,
    /// `dfk_…` or `dfl_…`, for the `Authorization` header. It is shown this once.
    key: String,
}

/// A page of keys, the newest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ApiKeyPage {
    /// The keys.
    items: Vec<ApiKey>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// A key to be made. `kind` is `API` when absent, and then `role` is required: the most that the key can, not above the role
/// of whoever makes it. A key of the kind `LEGACY` has no role.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ApiKeyCreate {
    /// Its name.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    kind: Option<ApiKeyKind>,
    role: Option<Role>,
    /// What of that it has, as `resource:verb`: all of it when absent, nothing when empty. For the kind `LEGACY` required, of
    /// `legacy:agent` and `legacy:operator`.
    #[oai(validator(max_items = 64))]
    scopes: Option<Vec<String>>,
    /// Where it is taken from, such as `10.0.0.0/8` or a single address; from everywhere when absent.
    #[oai(validator(min_items = 1, max_items = 64))]
    networks: Option<Vec<String>>,
    /// How many machines may be bound to it; required for the kind `LEGACY`, and only there.
    #[oai(validator(minimum(value = "1"), maximum(value = "100000")))]
    machine_cap: Option<u32>,
    /// When it expires; never when absent.
    expires_at: Option<DateTime<Utc>>,
}

/// What changes of a key.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ApiKeyChanges {
    /// Its new name.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
}

/// An enrolment token, without its secret.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct EnrollmentToken {
    /// Its id.
    id: Uuid,
    /// Its name.
    name: String,
    /// What its machines are labelled with, whatever they ask for.
    labels: HashMap<String, String>,
    /// How many machines may enrol with it.
    uses: u32,
    /// How many still may.
    uses_left: u32,
    /// How many may in an hour, which begins with the first of them; absent: as many as it has uses.
    hourly_cap: Option<u32>,
    /// The person or key that made it; absent for one that was there before anybody.
    created_by: Option<Uuid>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it expires.
    expires_at: DateTime<Utc>,
    /// When it was revoked.
    revoked_at: Option<DateTime<Utc>>,
}

/// A new enrolment token, with its secret.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct EnrollmentTokenCreated {
    /// Its id.
    id: Uuid,
    /// Its name.
    name: String,
    /// What its machines are labelled with, whatever they ask for.
    labels: HashMap<String, String>,
    /// How many machines may enrol with it.
    uses: u32,
    /// How many still may.
    uses_left: u32,
    /// How many may in an hour, which begins with the first of them; absent: as many as it has uses.
    hourly_cap: Option<u32>,
    /// The person or key that made it; absent for one that was there before anybody.
    created_by: Option<Uuid>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it expires.
    expires_at: DateTime<Utc>,
    /// When it was revoked.
    revoked_at: Option<DateTime<Utc>>,
    /// `dfe_…`, for the enrolment of machines. It is shown this once.
    token: String,
}

/// A page of enrolment tokens, the newest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct EnrollmentTokenPage {
    /// The tokens.
    items: Vec<EnrollmentToken>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// An enrolment token to be made.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct EnrollmentTokenCreate {
    /// Its name.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    /// What its machines are labelled with: these win over labels that a machine asks for.
    labels: Option<HashMap<String, String>>,
    /// How many machines may enrol with it; one when absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    uses: Option<u32>,
    /// How many may in an hour, which begins with the first of them; as many as it has uses when absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    hourly_cap: Option<u32>,
    /// When it expires: in thirty days when absent, in a year at most.
    expires_at: Option<DateTime<Utc>>,
}

impl Documented for message::ApiKey {
    type Schema = ApiKey;
}

impl Documented for message::ApiKeyCreated {
    type Schema = ApiKeyCreated;
}

impl Documented for message::ApiKeyPage {
    type Schema = ApiKeyPage;
}

impl Documented for message::ApiKeyCreate {
    type Schema = ApiKeyCreate;
}

impl Documented for message::EnrollmentToken {
    type Schema = EnrollmentToken;
}

impl Documented for message::EnrollmentTokenCreated {
    type Schema = EnrollmentTokenCreated;
}

impl Documented for message::EnrollmentTokenPage {
    type Schema = EnrollmentTokenPage;
}

impl Documented for message::EnrollmentTokenCreate {
    type Schema = EnrollmentTokenCreate;
}

impl Documented for Changes {
    type Schema = ApiKeyChanges;
}
