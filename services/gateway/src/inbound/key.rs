//! API keys.

use std::sync::Arc;

use contract::identity::{
    ApiKey, ApiKeyCreate, ApiKeyCreated, ApiKeyEdit, ApiKeyGet, ApiKeyList, ApiKeyPage,
    ApiKeyRevoke,
};
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use serde::Deserialize;

use super::idempotency::{IdempotencyKey, explain};
use super::parameter::{Id, Limit, Maybe};
use crate::caller::Caller;
use crate::credentials::Credentials;
use crate::document::Tag;
use crate::json::{Given, Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

/// The operations.
pub struct ApiKeys {
    owners: Owners,
    credentials: Arc<Credentials>,
}

/// What changes of a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Changes {
    /// Its name.
    pub name: String,
}

/// A new key.
#[derive(ApiResponse)]
pub enum KeyCreated {
    /// The key, with its secret, which is shown this once.
    #[oai(status = 201)]
    Created(
        Shown<ApiKeyCreated>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
}

/// A key that is no more.
#[derive(ApiResponse)]
pub enum KeyRevoked {
    /// The key is never accepted again.
    #[oai(status = 204)]
    Done,
}

impl ApiKeys {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners, credentials: Arc<Credentials>) -> Self {
        Self {
            owners,
            credentials,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/api-keys", tag = "Tag::ApiKeys")]
impl ApiKeys {
    /// List API keys
    ///
    /// The newest first; revoked ones too. Needs `api-keys:read`.
    #[oai(path = "/", method = "get", operation_id = "api_key_list")]
    async fn list(
        &self,
        caller: Caller,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<ApiKeyPage>, Refusal<Listing>> {
        let question = ApiKeyList {
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Get an API key
    #[oai(path = "/:id", method = "get", operation_id = "api_key_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The key.
        id: Path<Id>,
    ) -> Result<Passed<ApiKey>, Refusal<Question>> {
        let question = ApiKeyGet {
            key_id: id.0.0.into(),
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Make an API key
    ///
    /// For people: needs `api-keys:write`, which no key has. A key never has more than whoever made it has at that moment, and
    /// ends when that person leaves.
    #[oai(path = "/", method = "post", operation_id = "api_key_create")]
    async fn create(
        &self,
        caller: Caller,
        /// 1 to 128 visible ASCII characters of the caller's choice: the same key and body give the same key.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Given<ApiKeyCreate>,
    ) -> Result<KeyCreated, Refusal<ChangeWithBody>> {
        let has_key = key.0.is_some();
        let create = ApiKeyCreate {
            idempotency_key: key.0,
            ..body.0
        };
        let created = self.owners.write(&caller, &create).await;
        let created = created.map_err(|problem| explain(problem, has_key, "key"))?;
        let location = format!("/api/v1/api-keys/{}", created.api_key.id);
        Ok(KeyCreated::Created(Shown(created), location))
    }

    /// Rename an API key
    #[oai(path = "/:id", method = "patch", operation_id = "api_key_edit")]
    async fn edit(
        &self,
        caller: Caller,
        /// The key.
        id: Path<Id>,
        body: Given<Changes>,
    ) -> Result<Shown<ApiKey>, Refusal<ChangeWithBody>> {
        let edit = ApiKeyEdit {
            key_id: id.0.0.into(),
            name: body.0.name,
        };
        Ok(Shown(self.owners.write(&caller, &edit).await?))
    }

    /// Revoke an API key
    ///
    /// It is refused everywhere within a second. Again, it changes nothing.
    #[oai(path = "/:id", method = "delete", operation_id = "api_key_revoke")]
    async fn revoke(
        &self,
        caller: Caller,
        /// The key.
        id: Path<Id>,
    ) -> Result<KeyRevoked, Refusal<Change>> {
        let key_id = id.0.0.into();
        self.owners.write(&caller, &ApiKeyRevoke { key_id }).await?;
        // Other replicas hear of it; this one knows.
        self.credentials.revoke(key_id);
        Ok(KeyRevoked::Done)
    }
}
