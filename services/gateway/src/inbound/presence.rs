//! When machines were there.

use chrono::Duration;
use contract::metrics::{Availability, AvailabilityGet, PresenceHistory, PresenceHistoryPage};
use domain::Timestamp;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};

use super::parameter::{Id, Limit, Maybe, Word, range};
use crate::caller::Caller;
use crate::document::Tag;
use crate::json::Passed;
use crate::owners::Owners;
use crate::refusal::{Question, Refusal};

/// From this long ago on, when `from` is absent.
const SINCE: Duration = Duration::days(7);

/// The operations.
pub struct Presences {
    owners: Owners,
}

impl Presences {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(prefix_path = "/api/v1/machines", tag = "Tag::Machines")]
impl Presences {
    /// List when a machine came and went
    ///
    /// The newest change first. Changes are kept for 400 days.
    #[oai(
        path = "/:id/presence",
        method = "get",
        operation_id = "machine_presence_list"
    )]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the query
    async fn history(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
        /// From this time on; seven days ago when absent.
        from: Query<Maybe<Word<Timestamp>>>,
        /// Before this time; now when absent.
        to: Query<Maybe<Word<Timestamp>>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<PresenceHistoryPage>, Refusal<Question>> {
        let (from, to) = range(from.0, to.0, SINCE)?;
        let question = PresenceHistory {
            machine_id: id.0.0.into(),
            from,
            to,
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Get a machine's availability
    ///
    /// How much of each day (UTC) it was online, of the time in which it was enrolled. At most 92 days at once.
    #[oai(
        path = "/:id/availability",
        method = "get",
        operation_id = "machine_availability_get"
    )]
    async fn availability(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
        /// From the day of this time on; seven days ago when absent.
        from: Query<Maybe<Word<Timestamp>>>,
        /// To the day of this time; now when absent.
        to: Query<Maybe<Word<Timestamp>>>,
    ) -> Result<Passed<Availability>, Refusal<Question>> {
        let (from, to) = range(from.0, to.0, SINCE)?;
        let question = AvailabilityGet {
            machine_id: id.0.0.into(),
            from,
            to,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }
}
