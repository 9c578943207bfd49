//! Who did what, and whether it is still what was recorded.

use contract::audit::{
    AuditFilter, AuditList, AuditOutcome, AuditPage, AuditVerified, AuditVerify,
};
use domain::Timestamp;
use poem_openapi::OpenApi;
use poem_openapi::param::Query;
use uuid::Uuid;

use self::export::Export;
use super::parameter::{Limit, Maybe, Place, Word};
use crate::caller::Caller;
use crate::document::Tag;
use crate::json::{Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Listing, Refusal};

pub mod export;

/// The operations.
pub struct AuditEvents {
    owners: Owners,
}

impl AuditEvents {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(prefix_path = "/api/v1/audit-events", tag = "Tag::Audit")]
impl AuditEvents {
    /// List who did what
    ///
    /// The latest first. Attempts that were refused are counted together by the minute.
    #[oai(path = "/", method = "get", operation_id = "audit_event_list")]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the query
    async fn list(
        &self,
        caller: Caller,
        /// Only of this person, key or machine.
        actor: Query<Maybe<Word<Uuid>>>,
        /// Only this: `machine.revoke`.
        call: Query<Maybe<String>>,
        /// Only about the thing with this id.
        resource: Query<Maybe<String>>,
        /// Only with this outcome.
        outcome: Query<Maybe<Word<AuditOutcome>>>,
        /// From this time on.
        from: Query<Maybe<Word<Timestamp>>>,
        /// Before this time.
        to: Query<Maybe<Word<Timestamp>>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<AuditPage>, Refusal<Listing>> {
        let question = AuditList {
            filter: AuditFilter {
                actor: actor.0.value(),
                call: call.0.0,
                resource: resource.0.0,
                outcome: outcome.0.value(),
                from: from.0.value(),
                to: to.0.value(),
            },
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Verify that nobody changed what was recorded
    ///
    /// Every entry is computed anew, and held against what the action service signed. A long chain takes several
    /// requests: `next` says where to go on.
    #[oai(path = "/verify", method = "get", operation_id = "audit_event_verify")]
    async fn verify(
        &self,
        caller: Caller,
        /// From this place in the chain on; from the first that is kept when absent.
        from: Query<Maybe<Place>>,
        /// Up to this place; to the last when absent.
        to: Query<Maybe<Place>>,
    ) -> Result<Shown<AuditVerified>, Refusal<Listing>> {
        let question = AuditVerify {
            from: from.0.0.map(|place| place.0),
            to: to.0.0.map(|place| place.0),
        };
        Ok(Shown(self.owners.read_long(&caller, &question).await?))
    }

    /// Export who did what
    ///
    /// One JSON object a line, in the order of the chain. When it cannot be finished, the last line is
    /// `{"problem": {…}}`; the export goes on with `after` of the last entry before.
    #[oai(path = "/export", method = "get", operation_id = "audit_event_export")]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the query
    async fn export(
        &self,
        caller: Caller,
        /// Only of this person, key or machine.
        actor: Query<Maybe<Word<Uuid>>>,
        /// Only this: `machine.revoke`.
        call: Query<Maybe<String>>,
        /// Only about the thing with this id.
        resource: Query<Maybe<String>>,
        /// Only with this outcome.
        outcome: Query<Maybe<Word<AuditOutcome>>>,
        /// From this time on.
        from: Query<Maybe<Word<Timestamp>>>,
        /// Before this time.
        to: Query<Maybe<Word<Timestamp>>>,
        /// Only behind this place in the chain.
        after: Query<Maybe<Place>>,
    ) -> Result<Export, Refusal<Listing>> {
        let filter = AuditFilter {
            actor: actor.0.value(),
            call: call.0.0,
            resource: resource.0.0,
            outcome: outcome.0.value(),
            from: from.0.value(),
            to: to.0.value(),
        };
        let after = after.0.0.map_or(0, |place| place.0);
        Ok(Export::begin(&self.owners, caller, filter, after).await?)
    }
}
