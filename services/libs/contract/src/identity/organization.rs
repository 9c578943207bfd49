//! Organisations.

use domain::access::Role;
use domain::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};

/// `organization.list`: a person's own organisations, a key's one; all for a platform administrator. The oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationList {
    /// At most so many.
    pub limit: u32,
    /// Where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of organisations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationPage {
    /// The organisations.
    pub items: Vec<Organization>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `organization.get`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationGet {
    /// The organisation.
    pub organization_id: OrgId,
}

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Organization {
    /// Its id.
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// What the caller is there; absent when no member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Whether it takes agents of Dash-Fleet.
    pub legacy_enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was closed: no credential of it is accepted any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

/// `organization.create`: a new organisation; whoever makes it is its OWNER.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationCreate {
    /// Its name.
    pub name: String,
    /// By it a repetition is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// `organization.edit`: the same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationEdit {
    /// The organisation.
    pub organization_id: OrgId,
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it takes agents of Dash-Fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_enabled: Option<bool>,
}

/// `organization.close`: none of its credentials is accepted any more. What it has stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationClose {
    /// The organisation.
    pub organization_id: OrgId,
}
