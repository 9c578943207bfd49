//! This installation: what answers, and the keys with which its grants are verified.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::action::ActionList;
use contract::grant::Jwks;
use contract::identity::JwksGet;
use contract::job::JobList;
use contract::metrics::MachineList;
use contract::{Call, ProblemKind};
use poem_openapi::OpenApi;
use tokio::sync::Mutex;

use crate::config::Patience;
use crate::document::Tag;
use crate::document::status::{PartStatus, Status};
use crate::json::Shown;
use crate::owners::Owners;
use crate::refusal::{Open, Refusal};

/// How long an answer is given again.
const STATUS_FRESH: Duration = Duration::from_secs(1);
/// How long keys are given again while identity answers.
const KEYS_FRESH: Duration = Duration::from_secs(60);
/// How long old keys are given while it does not.
const KEYS_KEPT: Duration = Duration::from_secs(5);

/// The operations. Both are open, so both are asked of the owners at most once in a while, by one at a time.
pub struct Installation {
    owners: Owners,
    read: Duration,
    status: Duration,
    last_status: Arc<Mutex<Option<(Instant, Status)>>>,
    last_keys: Arc<Mutex<Option<(Instant, Jwks)>>>,
}

impl Installation {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners, patience: &Patience) -> Self {
        Self {
            owners,
            read: patience.read,
            status: patience.status,
            last_status: Arc::default(),
            last_keys: Arc::default(),
        }
    }

    /// Whether an owner answers: a refusal is an answer too.
    async fn answers<C: Call>(&self, question: C) -> bool {
        match self.owners.read_open(&question, self.status).await {
            Ok(_) => true,
            Err(problem) => !matches!(
                problem.kind,
                ProblemKind::Unavailable | ProblemKind::OutcomeUnknown
            ),
        }
    }

    async fn ask(&self) -> Status {
        let (identity, action, scheduler, metrics) = tokio::join!(
            self.answers(JwksGet {}),
            self.answers(ActionList {
                limit: 1,
                ..ActionList::default()
            }),
            self.answers(JobList {
                enabled: None,
                limit: 1,
                cursor: None,
            }),
            self.answers(MachineList {
                limit: 1,
                ..MachineList::default()
            }),
        );
        let bus = self.owners.bus_is_connected();
        Status::of(vec![
            PartStatus::new("bus", bus),
            PartStatus::new("identity", identity),
            PartStatus::new("action", action),
            PartStatus::new("scheduler", scheduler),
            PartStatus::new("metrics", metrics),
        ])
    }
}

#[OpenApi(tag = "Tag::Service")]
impl Installation {
    /// What answers
    ///
    /// Open to everybody. The status of the response is 200 as long as the gateway itself answers.
    #[oai(path = "/api/status", method = "get", operation_id = "status_get")]
    async fn status(&self) -> Result<Shown<Status>, Refusal<Open>> {
        let mut last = self.last_status.lock().await;
        if let Some((at, status)) = &*last
            && at.elapsed() < STATUS_FRESH
        {
            return Ok(Shown(status.clone()));
        }
        let status = self.ask().await;
        *last = Some((Instant::now(), status.clone()));
        Ok(Shown(status))
    }

    /// The keys with which grants are verified
    #[oai(
        path = "/.well-known/jwks.json",
        method = "get",
        operation_id = "jwks_get"
    )]
    async fn jwks(&self) -> Result<Shown<Jwks>, Refusal<Open>> {
        let mut last = self.last_keys.lock().await;
        if let Some((until, keys)) = &*last
            && Instant::now() < *until
        {
            return Ok(Shown(keys.clone()));
        }
        match (
            self.owners.read_open(&JwksGet {}, self.read).await,
            &mut *last,
        ) {
            (Ok(keys), last) => {
                *last = Some((Instant::now() + KEYS_FRESH, keys.clone()));
                Ok(Shown(keys))
            }
            // Keys change rarely: those of a minute ago are better than none.
            (Err(_), Some((until, keys))) => {
                *until = Instant::now() + KEYS_KEPT;
                Ok(Shown(keys.clone()))
            }
            (Err(problem), None) => Err(problem.into()),
        }
    }
}
