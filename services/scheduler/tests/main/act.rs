//! `run.act`: an action is queued for the attempt that a worker has, and for any other nobody is even asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::Service;
use contract::action::{Action, ActionCreate};
use contract::grant::PrincipalKind;
use contract::identity::{PrincipalGrant, PrincipalGranted};
use contract::run::{Place, RunAct};
use contract::{Problem, ProblemKind};
use dashfleet_scheduler::config::Timing;
use domain::execution::Outcome;
use domain::{CredentialId, MachineId, OrgId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::stage::{PATIENCE, Sort, Stage, Worker};

/// What identity and action were asked, and whether identity refuses.
#[derive(Default)]
struct Heard {
    principals: Vec<PrincipalGrant>,
    actions: Vec<ActionCreate>,
    refuses: bool,
}

/// Identity and action, as far as the scheduler asks them.
struct Others {
    heard: Arc<Mutex<Heard>>,
    _services: [Service; 2],
}

impl Others {
    async fn start(stage: &Stage) -> Self {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (identity_bus, action_bus) = (
            stage.nats.bus("identity").await,
            stage.nats.bus("action").await,
        );
        let identity = Service::start(&identity_bus, "identity", None)
            .await
            .unwrap();
        let asked = heard.clone();
        identity
            .answer(move |_, request: PrincipalGrant| {
                let mut heard = asked.lock().unwrap();
                heard.principals.push(request);
                std::future::ready(if heard.refuses {
                    let text = "it has no right any more";
                    Err(Problem::new(ProblemKind::Forbidden, text))
                } else {
                    Ok(PrincipalGranted {
                        grant: "grant".into(),
                        expires_at: Timestamp::now(),
                    })
                })
            })
            .await
            .unwrap();
        let action = Service::start(&action_bus, "action", None).await.unwrap();
        let asked = heard.clone();
        action
            .answer(move |_, request: ActionCreate| {
                asked.lock().unwrap().actions.push(request.clone());
                std::future::ready(Ok(testkit::action::queued(request)))
            })
            .await
            .unwrap();
        identity_bus.settled().await;
        action_bus.settled().await;
        Self {
            heard,
            _services: [identity, action],
        }
    }

    /// How often identity was asked, and action.
    fn count(&self) -> (usize, usize) {
        let heard = self.heard.lock().unwrap();
        (heard.principals.len(), heard.actions.len())
    }
}

/// What the job says is asked for.
fn request(place: Place, machine: MachineId) -> RunAct {
    RunAct {
        place,
        action: ActionCreate {
            machine_id: machine,
            kind: "ping".into(),
            payload: json!({}),
            not_after: None,
            idempotent: false,
            idempotency_key: None,
            by_key_alone: false,
        },
    }
}

/// Has the stage's jobs tell a machine to do something.
async fn acting(stage: &Stage, machine: MachineId) {
    let config = json!({ "machineId": machine, "kind": "ping" });
    let sql = format!("UPDATE scheduler.jobs SET handler = 'builtin/action', config = '{config}'");
    stage.execute(&sql).await;
}

async fn act(worker: &Worker, request: &RunAct) -> Result<Action, Problem> {
    worker.bus.service_call(request, None, PATIENCE).await
}

#[tokio::test]
async fn only_the_attempt_that_a_worker_has_may_act_and_for_no_other_is_anybody_asked() {
    // Nobody ends a session that has expired: it is the fence that refuses.
    let timing = Timing {
        lease: Duration::from_secs(600),
        reap_every: Duration::from_secs(3_600),
        ..Timing::default()
    };
    let stage = Stage::new(timing).await;
    let others = Others::start(&stage).await;
    let offer = stage.waiting(Sort::with_retries(1), 1).await[0];
    let machine = MachineId::new();
    acting(&stage, machine).await;
    let worker = stage.worker().await;
    let allowed = async |place: Place| {
        let (identity, action) = others.count();
        let asked = request(place, machine);
        let queued = act(&worker, &asked).await.unwrap();
        assert_eq!(queued.machine_id, asked.action.machine_id);
        assert_eq!(others.count(), (identity + 1, action + 1));
        let heard = others.heard.lock().unwrap();
        // All attempts ask for one action.
        let expected = ActionCreate {
            idempotency_key: Some(place.id.to_string()),
            by_key_alone: true,
            ..asked.action
        };
        assert_eq!(heard.actions.last(), Some(&expected));
    };
    let refused = async |what: &str, place: Place| {
        let before = others.count();
        let asked = request(place, machine);
        let problem = act(&worker, &asked).await.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Conflict, "{what}: {problem}");
        assert_eq!(others.count(), before, "{what}: somebody was asked");
    };

    let stale = worker.place(offer).await;
    allowed(stale).await;
    let principal = PrincipalGrant {
        org: offer.org,
        kind: PrincipalKind::User,
        id: offer.org.0,
        credential: CredentialId(offer.org.0),
    };
    assert_eq!(others.heard.lock().unwrap().principals, [principal]);
    worker.conclude(stale, Outcome::Failed).await;
    refused("it waits", stale).await;
    let place = worker.place(offer).await;
    assert_eq!(place.attempt, 2);
    refused("the attempt before", stale).await;
    let token = Uuid::new_v4();
    refused("a wrong token", Place { token, ..place }).await;
    let token = stale.token;
    refused("the token before", Place { token, ..place }).await;
    let org = OrgId::new();
    refused("another organisation", Place { org, ..place }).await;
    allowed(place).await;

    stage.expire_sessions().await;
    refused("the session has expired", place).await;
    assert_eq!(stage.state(place.id).await, "running");
    worker.renew().await.unwrap();
    allowed(place).await;

    stage
        .execute("UPDATE scheduler.sessions SET pool = 'other'")
        .await;
    refused("another pool's", place).await;
    stage
        .execute("UPDATE scheduler.sessions SET pool = 'default'")
        .await;
    allowed(place).await;

    // It is the worker's, and its principal has no right any more: action is not asked.
    others.heard.lock().unwrap().refuses = true;
    let (identity, action) = others.count();
    let asked = request(place, machine);
    let problem = act(&worker, &asked).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    assert_eq!(others.count(), (identity + 1, action));
    others.heard.lock().unwrap().refuses = false;

    worker.conclude(place, Outcome::Completed).await;
    refused("it has ended", place).await;
}

#[tokio::test]
async fn an_attempt_queues_what_its_job_says_and_nothing_else() {
    let stage = Stage::new(Timing::default()).await;
    let others = Others::start(&stage).await;
    let offer = stage.waiting(Sort::with_retries(1), 1).await[0];
    let machine = MachineId::new();
    let worker = stage.worker().await;
    let place = worker.place(offer).await;
    let said = request(place, machine);
    let with = |change: &dyn Fn(&mut ActionCreate)| {
        let mut other = said.clone();
        change(&mut other.action);
        other
    };
    let refused = async |what: &str, asked: &RunAct| {
        let problem = act(&worker, asked).await.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Conflict, "{what}: {problem}");
        assert_eq!(others.count(), (0, 0), "{what}: somebody was asked");
    };
    refused("its job does nothing", &said).await;
    acting(&stage, machine).await;
    for (what, other) in [
        (
            "another machine",
            with(&|action| action.machine_id = MachineId::new()),
        ),
        (
            "another kind",
            with(&|action| action.kind = "reboot".into()),
        ),
        (
            "more than it says",
            with(&|action| action.payload = json!({ "a": 1 })),
        ),
        ("again and again", with(&|action| action.idempotent = true)),
        (
            "with an end",
            with(&|action| action.not_after = Some(Timestamp::now())),
        ),
    ] {
        refused(what, &other).await;
    }
    act(&worker, &said).await.unwrap();
    assert_eq!(others.count(), (1, 1));
}
