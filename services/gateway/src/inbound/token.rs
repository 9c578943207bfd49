//! Enrolment tokens.

use contract::identity::{
    EnrollmentToken, EnrollmentTokenCreate, EnrollmentTokenCreated, EnrollmentTokenGet,
    EnrollmentTokenList, EnrollmentTokenPage, EnrollmentTokenRevoke,
};
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};

use super::idempotency::{IdempotencyKey, explain};
use super::parameter::{Id, Limit, Maybe};
use crate::caller::Caller;
use crate::document::Tag;
use crate::json::{Given, Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

/// The operations.
pub struct EnrollmentTokens {
    owners: Owners,
}

/// A new token.
#[derive(ApiResponse)]
pub enum TokenCreated {
    /// The token, with its secret, which is shown this once.
    #[oai(status = 201)]
    Created(
        Shown<EnrollmentTokenCreated>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
}

/// A token that is no more.
#[derive(ApiResponse)]
pub enum TokenRevoked {
    /// No machine enrols with it any more; those that did stay.
    #[oai(status = 204)]
    Done,
}

impl EnrollmentTokens {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(
    prefix_path = "/api/v1/enrollment-tokens",
    tag = "Tag::EnrollmentTokens"
)]
impl EnrollmentTokens {
    /// List enrolment tokens
    ///
    /// The newest first; used up, expired and revoked ones too. Needs `enrollment-tokens:read`.
    #[oai(path = "/", method = "get", operation_id = "enrollment_token_list")]
    async fn list(
        &self,
        caller: Caller,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<EnrollmentTokenPage>, Refusal<Listing>> {
        let question = EnrollmentTokenList {
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Get an enrolment token
    #[oai(path = "/:id", method = "get", operation_id = "enrollment_token_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The token.
        id: Path<Id>,
    ) -> Result<Passed<EnrollmentToken>, Refusal<Question>> {
        let question = EnrollmentTokenGet { token_id: id.0.0 };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Make an enrolment token
    ///
    /// Needs `enrollment-tokens:write`.
    #[oai(path = "/", method = "post", operation_id = "enrollment_token_create")]
    async fn create(
        &self,
        caller: Caller,
        /// 1 to 128 visible ASCII characters of the caller's choice: the same key and body give the same token.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Given<EnrollmentTokenCreate>,
    ) -> Result<TokenCreated, Refusal<ChangeWithBody>> {
        let has_key = key.0.is_some();
        let create = EnrollmentTokenCreate {
            idempotency_key: key.0,
            ..body.0
        };
        let created = self.owners.write(&caller, &create).await;
        let created = created.map_err(|problem| explain(problem, has_key, "token"))?;
        let location = format!("/api/v1/enrollment-tokens/{}", created.enrollment_token.id);
        Ok(TokenCreated::Created(Shown(created), location))
    }

    /// Revoke an enrolment token
    ///
    /// Again, it changes nothing.
    #[oai(
        path = "/:id",
        method = "delete",
        operation_id = "enrollment_token_revoke"
    )]
    async fn revoke(
        &self,
        caller: Caller,
        /// The token.
        id: Path<Id>,
    ) -> Result<TokenRevoked, Refusal<Change>> {
        let revoke = EnrollmentTokenRevoke { token_id: id.0.0 };
        self.owners.write(&caller, &revoke).await?;
        Ok(TokenRevoked::Done)
    }
}
