//! A worker as the tests play it: it speaks the real protocol, and does only what it is told.

use std::time::Duration;

use bus::Bus;
use contract::Problem;
use contract::run::{
    Assignment, Finish, FinishVerdict, Offer, Place, RunBegin, RunClaim, RunClaimed, RunEnd,
    RunFinish, RunLease, RunProgress, RunRenew,
};
use domain::execution::Outcome;
use uuid::Uuid;

use super::PATIENCE;

const ASKING: Duration = Duration::from_secs(5);

/// A worker's life.
#[derive(Clone)]
pub struct Worker {
    pub bus: Bus,
    pub session: Uuid,
}

impl Worker {
    pub async fn begin(bus: Bus, replaces: Option<Uuid>) -> Self {
        Self::begin_of(bus, replaces, 5).await
    }

    /// The same, with so many slots.
    pub async fn begin_of(bus: Bus, replaces: Option<Uuid>, concurrency: i32) -> Self {
        let worker = Self {
            bus,
            session: Uuid::now_v7(),
        };
        let begin = RunBegin {
            session_id: worker.session,
            worker: "test".into(),
            concurrency,
            replaces,
        };
        testkit::eventually("the session begins", PATIENCE, || async {
            worker.bus.service_call(&begin, None, ASKING).await.ok()
        })
        .await;
        worker
    }

    pub async fn renew(&self) -> Result<RunLease, Problem> {
        self.renew_with(Vec::new()).await
    }

    /// Renews, and says how far these are.
    pub async fn renew_with(&self, progress: Vec<RunProgress>) -> Result<RunLease, Problem> {
        let renew = RunRenew {
            session_id: self.session,
            progress,
            given: false,
        };
        self.bus.service_call(&renew, None, ASKING).await
    }

    /// What it has had for longer than a lease.
    pub async fn given(&self) -> Vec<Offer> {
        let renew = RunRenew {
            session_id: self.session,
            progress: Vec::new(),
            given: true,
        };
        let lease: RunLease = self.bus.service_call(&renew, None, ASKING).await.unwrap();
        lease.given
    }

    pub async fn try_claim(&self, offers: &[Offer]) -> Result<Vec<Assignment>, Problem> {
        let claim = RunClaim {
            want: 0,
            returned: Vec::new(),
            session_id: self.session,
            offers: offers.to_vec(),
        };
        let claimed: RunClaimed = self.bus.service_call(&claim, None, ASKING).await?;
        Ok(claimed.granted)
    }

    pub async fn claim(&self, offers: &[Offer]) -> Vec<Assignment> {
        self.try_claim(offers).await.unwrap()
    }

    /// Claims these, and says by which places it has them.
    pub async fn places(&self, offers: &[Offer]) -> Vec<Place> {
        let granted = self.claim(offers).await;
        granted.iter().map(|granted| granted.place).collect()
    }

    /// Claims one that it must be given.
    pub async fn place(&self, offer: Offer) -> Place {
        self.places(&[offer]).await[0]
    }

    pub async fn finish(&self, place: Place, outcome: Outcome) -> FinishVerdict {
        self.finish_all(&[place], outcome).await[0]
    }

    /// Says how it ended, and that counts.
    pub async fn conclude(&self, place: Place, outcome: Outcome) {
        let verdict = self.finish(place, outcome).await;
        assert_eq!(verdict, FinishVerdict::Applied, "{outcome:?} of {place:?}");
    }

    /// Gives back one whose handler did not begin.
    pub async fn hand_back(&self, place: Place) {
        let finish = RunFinish {
            items: vec![Finish {
                unbegun: true,
                ..finish(place, Outcome::HandedBack)
            }],
        };
        let answer = self.bus.service_call(&finish, None, ASKING).await;
        assert_eq!(answer.unwrap().verdicts, [FinishVerdict::Applied]);
    }

    pub async fn finish_all(&self, places: &[Place], outcome: Outcome) -> Vec<FinishVerdict> {
        let each: Vec<_> = places.iter().map(|place| (*place, outcome)).collect();
        self.finish_each(&each).await
    }

    /// Says in one question how each ended.
    pub async fn finish_each(&self, each: &[(Place, Outcome)]) -> Vec<FinishVerdict> {
        let item = |(place, outcome): &(Place, Outcome)| finish(*place, *outcome);
        let finish = RunFinish {
            items: each.iter().map(item).collect(),
        };
        let answer = self.bus.service_call(&finish, None, ASKING).await;
        answer.unwrap().verdicts
    }

    pub async fn end(&self) {
        let end = RunEnd {
            session_id: self.session,
        };
        self.bus.service_call(&end, None, ASKING).await.unwrap();
    }
}

pub fn finish(place: Place, outcome: Outcome) -> Finish {
    let failed = !matches!(outcome, Outcome::Completed | Outcome::HandedBack);
    Finish {
        place,
        outcome,
        duration_ms: 1,
        result: (outcome == Outcome::Completed).then(|| serde_json::json!({ "done": true })),
        error: failed.then(|| contract::execution::ExecutionError {
            message: "it did not work".into(),
            stack: None,
        }),
        permanent: false,
        unbegun: false,
    }
}
