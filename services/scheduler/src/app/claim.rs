//! The claim: what waits becomes RUNNING at this worker, or stays.

use std::sync::Arc;

use contract::run::{ITEMS_MAX, RunClaim, RunClaimed};
use contract::work::Wanted;
use contract::{Problem, ProblemKind};
use futures::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::error::SchedulerError;
use crate::store::claim::{Claim, Claimed};

/// Of how many that began at once those who look on are told.
const SHOWN_MAX: usize = 64;

impl App {
    /// Gives a worker what may begin of what it was offered.
    ///
    /// # Errors
    /// INVALID for too many; NOT_FOUND when the session is over; UNAVAILABLE: ask again, with the same offers.
    pub async fn run_claim(
        &self,
        pool: &str,
        request: RunClaim,
    ) -> Result<RunClaimed, SchedulerError> {
        if request.offers.len() > ITEMS_MAX {
            let text = format!("has {} items; at most {ITEMS_MAX}", request.offers.len());
            return Err(Problem::invalid("offers", text).into());
        }
        if request.returned.len() > ITEMS_MAX {
            let count = request.returned.len();
            let text = format!("has {count} items; at most {ITEMS_MAX}");
            return Err(Problem::invalid("returned", text).into());
        }
        let of: Arc<str> = pool.into();
        // All of them in one, whose answer has a bound.
        let has_first = request.offers.iter().any(|offer| offer.turn == 0);
        let committer = match has_first {
            true => &self.first_claims,
            false => &self.claims,
        };
        let claims = request.offers.iter().map(|offer| {
            committer.submit(Claim {
                pool: of.clone(),
                session: request.session_id,
                offer: *offer,
                token: Uuid::new_v4(),
            })
        });
        // One that is not answered may have begun: the worker asks for all of them again.
        let answers: Vec<Claimed> = join_all(claims)
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        let (mut granted, mut begun, mut refused) = (Vec::new(), Vec::new(), request.returned);
        for (offer, answer) in request.offers.iter().zip(answers) {
            match answer {
                Claimed::NoSession => return Err(no_session().into()),
                Claimed::Refused => {
                    self.metrics.claims.with_label_values(&["refused"]).inc();
                    refused.push(offer.id);
                }
                Claimed::Granted {
                    assignment, fresh, ..
                } => {
                    let result = if fresh { "granted" } else { "repeated" };
                    self.metrics.claims.with_label_values(&[result]).inc();
                    granted.push(*assignment);
                    begun.push(offer.id);
                }
            }
        }
        let wanted = Wanted {
            session: request.session_id,
            offers: request.want,
        };
        self.bell.answered(pool, begun, refused, wanted).await;
        for assignment in granted.iter().take(SHOWN_MAX) {
            let place = assignment.place;
            let shown = json!({ "id": place.id, "jobId": assignment.job_id, "status": "RUNNING", "attempt": place.attempt });
            self.show(place.org, place.id.0, shown).await;
        }
        Ok(RunClaimed { granted })
    }
}

/// A session that is not there (any more).
pub(crate) fn no_session() -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "there is no such session: it has expired, so its handlers must end",
    )
}
