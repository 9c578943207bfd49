//! The people of an organisation, and those who are invited.

use contract::identity::{
    InvitationCancel, InvitationList, InvitationPage, Invited, Member, MemberEdit, MemberGet,
    MemberInvite, MemberList, MemberPage, MemberRemove, MemberReset, OneTimeLink,
};
use domain::access::Role;
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use serde::Deserialize;

use super::parameter::{Id, Limit, Maybe};
use crate::caller::Caller;
use crate::document::Tag;
use crate::json::{Given, Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

/// The operations.
pub struct Users {
    owners: Owners,
}

/// What a user is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Changes {
    /// The role.
    pub role: Role,
}

/// Somebody who is invited.
#[derive(ApiResponse)]
pub enum InvitationCreated {
    /// The invitation.
    #[oai(status = 201)]
    Created(Shown<Invited>),
}

/// A person who is no member any more.
#[derive(ApiResponse)]
pub enum UserRemoved {
    /// The person's sessions here have ended, and the keys that the person made are revoked.
    #[oai(status = 204)]
    Done,
}

/// An invitation that is taken back.
#[derive(ApiResponse)]
pub enum InvitationCancelled {
    /// Its link is void.
    #[oai(status = 204)]
    Done,
}

impl Users {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(prefix_path = "/api/v1/users", tag = "Tag::Users")]
impl Users {
    /// List users
    ///
    /// The people of the organisation, in the order in which their accounts were made. Needs `members:read`.
    #[oai(path = "/", method = "get", operation_id = "user_list")]
    async fn list(
        &self,
        caller: Caller,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<MemberPage>, Refusal<Listing>> {
        let question = MemberList {
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Invite somebody
    ///
    /// Needs `members:write`, and nobody gives a role above their own. The link is mailed, or shown here where mail is not set
    /// up. Inviting again makes a new link; the one before is void.
    #[oai(path = "/", method = "post", operation_id = "user_invite")]
    async fn invite(
        &self,
        caller: Caller,
        body: Given<MemberInvite>,
    ) -> Result<InvitationCreated, Refusal<ChangeWithBody>> {
        let invited = self.owners.write(&caller, &body.0).await?;
        Ok(InvitationCreated::Created(Shown(invited)))
    }

    /// List invitations
    ///
    /// Those that nobody took yet, the oldest first. Needs `members:read`.
    #[oai(
        path = "/invitations",
        method = "get",
        operation_id = "invitation_list"
    )]
    async fn invitations(
        &self,
        caller: Caller,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<InvitationPage>, Refusal<Listing>> {
        let question = InvitationList {
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Take an invitation back
    #[oai(
        path = "/invitations/:id",
        method = "delete",
        operation_id = "invitation_cancel"
    )]
    async fn cancel(
        &self,
        caller: Caller,
        /// The invitation.
        id: Path<Id>,
    ) -> Result<InvitationCancelled, Refusal<Change>> {
        let cancel = InvitationCancel {
            invitation_id: id.0.0,
        };
        self.owners.write(&caller, &cancel).await?;
        Ok(InvitationCancelled::Done)
    }

    /// Get a user
    #[oai(path = "/:id", method = "get", operation_id = "user_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The person.
        id: Path<Id>,
    ) -> Result<Passed<Member>, Refusal<Question>> {
        let question = MemberGet {
            user_id: id.0.0.into(),
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Give a user another role
    ///
    /// Needs `members:write`. Nobody gives a role above their own or changes a user who is above them, and the last OWNER
    /// stays. The same again changes nothing.
    #[oai(path = "/:id", method = "patch", operation_id = "user_edit")]
    async fn edit(
        &self,
        caller: Caller,
        /// The person.
        id: Path<Id>,
        body: Given<Changes>,
    ) -> Result<Shown<Member>, Refusal<ChangeWithBody>> {
        let edit = MemberEdit {
            user_id: id.0.0.into(),
            role: body.0.role,
        };
        Ok(Shown(self.owners.write(&caller, &edit).await?))
    }

    /// Remove a user
    ///
    /// The person's sessions here end within a second, and so do the keys that the person made. Needs `members:write`, unless
    /// it is oneself; the last OWNER stays.
    #[oai(path = "/:id", method = "delete", operation_id = "user_remove")]
    async fn remove(
        &self,
        caller: Caller,
        /// The person.
        id: Path<Id>,
    ) -> Result<UserRemoved, Refusal<Change>> {
        let remove = MemberRemove {
            user_id: id.0.0.into(),
        };
        self.owners.write(&caller, &remove).await?;
        Ok(UserRemoved::Done)
    }

    /// Make a link for a user's new password
    ///
    /// Needs `members:write`. The link is mailed, or shown here where mail is not set up; then only for a user who belongs to
    /// no other organisation, unless a platform administrator asks.
    #[oai(
        path = "/:id/password-reset",
        method = "post",
        operation_id = "user_password_reset"
    )]
    async fn reset(
        &self,
        caller: Caller,
        /// The person.
        id: Path<Id>,
    ) -> Result<Shown<OneTimeLink>, Refusal<Change>> {
        let reset = MemberReset {
            user_id: id.0.0.into(),
        };
        Ok(Shown(self.owners.write(&caller, &reset).await?))
    }
}
