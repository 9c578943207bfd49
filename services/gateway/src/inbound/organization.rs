//! Organisations.

use contract::identity::{
    Organization, OrganizationClose, OrganizationCreate, OrganizationEdit, OrganizationGet,
    OrganizationList, OrganizationPage,
};
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use serde::Deserialize;

use super::idempotency::{IdempotencyKey, explain};
use super::parameter::{Id, Limit, Maybe};
use crate::caller::Caller;
use crate::document::Tag;
use crate::json::{Given, Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

/// The operations.
pub struct Organizations {
    owners: Owners,
}

/// What changes of an organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Its name.
    pub name: Option<String>,
    /// Whether it takes agents of Dash-Fleet.
    pub legacy_enabled: Option<bool>,
}

/// A new organisation.
#[derive(ApiResponse)]
pub enum OrganizationCreated {
    /// The organisation; whoever made it is its OWNER.
    #[oai(status = 201)]
    Created(
        Shown<Organization>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
}

impl Organizations {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(prefix_path = "/api/v1/organizations", tag = "Tag::Organizations")]
impl Organizations {
    /// List organisations
    ///
    /// A person's own, a key's one; all for a platform administrator. The oldest first.
    #[oai(path = "/", method = "get", operation_id = "organization_list")]
    async fn list(
        &self,
        caller: Caller,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<OrganizationPage>, Refusal<Listing>> {
        let question = OrganizationList {
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Get an organisation
    #[oai(path = "/:id", method = "get", operation_id = "organization_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The organisation: the one that the credential is of.
        id: Path<Id>,
    ) -> Result<Passed<Organization>, Refusal<Question>> {
        let question = OrganizationGet {
            organization_id: id.0.0.into(),
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Make an organisation
    ///
    /// For platform administrators (`platform:admin`).
    #[oai(path = "/", method = "post", operation_id = "organization_create")]
    async fn create(
        &self,
        caller: Caller,
        /// 1 to 128 visible ASCII characters of the caller's choice: the same key and body give the same organisation.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        body: Given<OrganizationCreate>,
    ) -> Result<OrganizationCreated, Refusal<ChangeWithBody>> {
        let has_key = key.0.is_some();
        let create = OrganizationCreate {
            idempotency_key: key.0,
            ..body.0
        };
        let created = self.owners.write(&caller, &create).await;
        let created = created.map_err(|problem| explain(problem, has_key, "organisation"))?;
        let location = format!("/api/v1/organizations/{}", created.id);
        Ok(OrganizationCreated::Created(Shown(created), location))
    }

    /// Change an organisation
    ///
    /// Needs `organization:write`. The same again changes nothing.
    #[oai(path = "/:id", method = "patch", operation_id = "organization_edit")]
    async fn edit(
        &self,
        caller: Caller,
        /// The organisation.
        id: Path<Id>,
        body: Given<Changes>,
    ) -> Result<Shown<Organization>, Refusal<ChangeWithBody>> {
        let edit = OrganizationEdit {
            organization_id: id.0.0.into(),
            name: body.0.name,
            legacy_enabled: body.0.legacy_enabled,
        };
        Ok(Shown(self.owners.write(&caller, &edit).await?))
    }

    /// Close an organisation
    ///
    /// For platform administrators (`platform:admin`). None of its credentials is accepted any more, and no machine enrols
    /// with its tokens. What it has stays. Again, it changes nothing.
    #[oai(
        path = "/:id/close",
        method = "post",
        operation_id = "organization_close"
    )]
    async fn close(
        &self,
        caller: Caller,
        /// The organisation.
        id: Path<Id>,
    ) -> Result<Shown<Organization>, Refusal<Change>> {
        let close = OrganizationClose {
            organization_id: id.0.0.into(),
        };
        Ok(Shown(self.owners.write(&caller, &close).await?))
    }
}
