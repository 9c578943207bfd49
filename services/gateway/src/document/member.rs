//! The people of an organisation, as the document shows them.

use chrono::{DateTime, Utc};
use contract::identity as message;
use poem_openapi::Object;
use uuid::Uuid;

use super::auth::Role;
use crate::inbound::member::Changes;
use crate::json::Documented;

/// A person in an organisation.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct User {
    /// The person.
    id: Uuid,
    /// The person's address.
    email: String,
    /// The person's name.
    name: String,
    role: Role,
    /// When the person joined.
    joined_at: DateTime<Utc>,
    /// When a session of the person was last used here, to the minute.
    last_seen_at: Option<DateTime<Utc>>,
}

/// A page of users, in the order in which their accounts were made.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct UserPage {
    /// The users.
    items: Vec<User>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// Somebody to be invited.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct UserInvite {
    /// Whom.
    #[oai(validator(min_length = 1, max_length = 320))]
    email: String,
    role: Role,
}

/// Somebody who is invited.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Invitation {
    /// Its id.
    id: Uuid,
    /// Whom.
    email: String,
    role: Role,
    /// When.
    created_at: DateTime<Utc>,
    /// Until when its link works.
    expires_at: DateTime<Utc>,
    /// Whether the mail has yet to leave.
    mail_pending: bool,
}

/// Somebody who is invited, with the link when it is not mailed.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct InvitationCreated {
    /// Its id.
    id: Uuid,
    /// Whom.
    email: String,
    role: Role,
    /// When.
    created_at: DateTime<Utc>,
    /// Until when its link works.
    expires_at: DateTime<Utc>,
    /// Whether the mail has yet to leave.
    mail_pending: bool,
    /// What the invited person opens, shown this once: a path on this server where it does not know its own address. Absent
    /// when it is mailed.
    link: Option<String>,
}

/// A page of invitations, the oldest first.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct InvitationPage {
    /// The invitations.
    items: Vec<Invitation>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// What a user is from now on.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct UserChanges {
    role: Role,
}

/// A link that works once.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct OneTimeLink {
    /// What the person opens, shown this once: a path on this server where it does not know its own address. Absent when it
    /// is mailed.
    link: Option<String>,
    /// Until when it works.
    expires_at: DateTime<Utc>,
}

impl Documented for message::Member {
    type Schema = User;
}

impl Documented for message::MemberPage {
    type Schema = UserPage;
}

impl Documented for message::MemberInvite {
    type Schema = UserInvite;
}

impl Documented for message::Invited {
    type Schema = InvitationCreated;
}

impl Documented for message::InvitationPage {
    type Schema = InvitationPage;
}

impl Documented for message::OneTimeLink {
    type Schema = OneTimeLink;
}

impl Documented for Changes {
    type Schema = UserChanges;
}
