//! Machines over HTTP: queued by name, handed out under a lease, closed by a report of what was handed out.

use std::net::IpAddr;

use contract::action::{Action, ActionCancel, ActionFanOut, ActionGet};
use contract::agent::Verdict;
use contract::legacy::{
    LegacyNoted, LegacyPending, LegacyQueue, LegacyResult, LegacyTask, LegacyTasks,
};
use contract::{Problem, ProblemKind};
use domain::access::{LEGACY_AGENT, LEGACY_OPERATOR, Scopes};
use domain::action::{HANDOUTS_MAX, Outcome};
use domain::{ActionId, CredentialId, MachineId, OrgId, Timestamp};
use serde_json::{Value, json};

use super::world::{World, new_action};

const HOME: &str = "192.0.2.1";
const BLOCK: &str = "192.0.2.0/24";
const LEASE_OVER: &str =
    "UPDATE action.actions SET lease_until = now() - interval '1 s' WHERE machine_id = $1";

/// A legacy key.
struct Key<'a> {
    world: &'a World,
    id: CredentialId,
    grant: String,
}

impl<'a> Key<'a> {
    fn new(world: &'a World, org: OrgId, scopes: &[&str]) -> Self {
        let id = CredentialId::new();
        let scopes = Scopes::of_legacy_key(scopes.iter().copied()).unwrap();
        Self {
            grant: world.grant_of(org, scopes, id),
            world,
            id,
        }
    }

    fn both(world: &'a World) -> Self {
        Self::new(world, world.org, &[LEGACY_AGENT, LEGACY_OPERATOR])
    }

    async fn queue(&self, name: &str, kind: &str, payload: Value) -> Result<ActionId, Problem> {
        let queue = LegacyQueue {
            name: name.to_owned(),
            kind: kind.to_owned(),
            payload,
        };
        let queued = self.world.ask_as(&self.grant, &queue).await?;
        Ok(queued.action_id)
    }

    async fn message(&self, name: &str) -> ActionId {
        let payload = json!({ "message": "hi" });
        self.queue(name, "message", payload).await.unwrap()
    }

    async fn pending_from(&self, name: &str, address: &str) -> Result<Vec<LegacyTask>, Problem> {
        let address: IpAddr = address.parse().unwrap();
        let pending = LegacyPending {
            name: name.to_owned(),
            address,
        };
        let tasks: LegacyTasks = self.world.ask_as(&self.grant, &pending).await?;
        Ok(tasks.items)
    }

    async fn pending(&self, name: &str) -> Vec<(ActionId, i32)> {
        let tasks = self.pending_from(name, HOME).await.unwrap();
        let place = |task: LegacyTask| (task.action_id, task.attempt);
        tasks.into_iter().map(place).collect()
    }

    async fn says(&self, result: LegacyResult) -> Result<bool, Problem> {
        let noted: LegacyNoted = self.world.ask_as(&self.grant, &result).await?;
        Ok(noted.applied)
    }
}

fn done(action_id: ActionId) -> LegacyResult {
    LegacyResult {
        action_id,
        attempt: None,
        done: true,
        result: json!("shown"),
        address: HOME.parse().unwrap(),
    }
}

async fn get(world: &World, action_id: ActionId) -> Action {
    world.ask(&ActionGet { action_id }).await.unwrap()
}

#[tokio::test]
async fn what_is_queued_is_handed_out_once_and_closed_by_its_report() {
    let world = World::new().await;
    let key = Key::both(&world);
    let machine = world.http_machine("web", key.id, BLOCK).await;
    assert!(key.pending("web").await.is_empty());
    let first = key.message("web").await;
    let second = key
        .queue("web", "reboot", json!({ "delaySeconds": 5 }))
        .await
        .unwrap();
    // Nobody rings for it, whatever metrics says.
    world.presence(machine, true).await;
    assert_eq!(get(&world, first).await.status.as_str(), "QUEUED");
    let unoffered =
        "SELECT count(*) FROM action.actions WHERE offered_at IS NULL AND ring_at IS NULL";
    assert_eq!(world.count(unoffered).await, 2);

    let tasks = key.pending_from("web", "192.0.2.99").await.unwrap();
    assert_eq!(tasks[0].payload, json!({ "message": "hi" }));
    let places: Vec<_> = tasks
        .iter()
        .map(|task| (task.action_id, task.attempt))
        .collect();
    assert_eq!(places, [(first, 1), (second, 1)]);
    assert_eq!(get(&world, first).await.status.as_str(), "DELIVERED");
    assert!(key.pending("web").await.is_empty(), "both are leased");

    assert_eq!(key.says(done(first)).await, Ok(true));
    let failed = LegacyResult {
        done: false,
        result: json!("not allowed"),
        ..done(second)
    };
    assert_eq!(key.says(failed.clone()).await, Ok(true));
    let action = get(&world, first).await;
    assert_eq!(
        (action.status.as_str(), action.result),
        ("SUCCEEDED", Some(json!("shown")))
    );
    let action = get(&world, second).await;
    let error = action.error.unwrap();
    assert_eq!(
        (action.status.as_str(), error.message.as_str()),
        ("FAILED", "not allowed")
    );
    // Said again, or otherwise: answered, and nothing changes.
    assert_eq!(key.says(done(first)).await, Ok(false));
    assert_eq!(
        key.says(LegacyResult {
            done: false,
            ..done(first)
        })
        .await,
        Ok(false)
    );
    assert_eq!(get(&world, first).await.status.as_str(), "SUCCEEDED");
    assert!(key.pending("web").await.is_empty());
}

#[tokio::test]
async fn without_a_report_it_is_handed_out_again_and_not_for_ever() {
    let world = World::new().await;
    let key = Key::both(&world);
    let machine = world.http_machine("web", key.id, BLOCK).await;
    let action = key.message("web").await;
    assert_eq!(key.pending("web").await, [(action, 1)]);
    for attempt in 2..=HANDOUTS_MAX {
        assert!(key.pending("web").await.is_empty());
        world.execute(LEASE_OVER, machine).await;
        assert_eq!(key.pending("web").await, [(action, attempt)]);
    }
    // A report of an attempt that is over changes nothing.
    let earlier = LegacyResult {
        attempt: Some(1),
        ..done(action)
    };
    assert_eq!(key.says(earlier).await, Ok(false));
    assert_eq!(get(&world, action).await.status.as_str(), "DELIVERED");
    world.execute(LEASE_OVER, machine).await;
    assert!(key.pending("web").await.is_empty());
    let soon =
        "SELECT count(*) FROM action.actions WHERE give_up_at < now() + interval '3 minutes'";
    assert_eq!(world.count(soon).await, 1);
    world
        .execute(
            "UPDATE action.actions SET give_up_at = now() WHERE machine_id = $1",
            machine,
        )
        .await;
    world.becomes(action, "UNKNOWN").await;
    // An agent that does not know of attempts means the last; late is better than never.
    assert_eq!(key.says(done(action)).await, Ok(true));
    assert!(world.becomes(action, "SUCCEEDED").await.late);
}

#[tokio::test]
async fn two_questions_at_once_hand_out_once() {
    let world = World::with_replicas(2).await;
    let key = Key::both(&world);
    world.http_machine("web", key.id, BLOCK).await;
    for _ in 0..5 {
        key.message("web").await;
    }
    let all = futures::future::join_all((0..8).map(|_| key.pending("web"))).await;
    let handed: Vec<_> = all.into_iter().flatten().collect();
    assert_eq!(handed.len(), 5, "{handed:?}");
}

#[tokio::test]
async fn a_report_closes_only_what_that_machine_was_handed() {
    let world = World::new().await;
    let (key, other) = (Key::both(&world), Key::both(&world));
    world.http_machine("web", key.id, BLOCK).await;
    world.http_machine("db", other.id, BLOCK).await;
    let agent = world.machine().await;
    agent.sync(0).await;
    let enrolled = world.create(agent.machine, "message").await.id;
    let queued = key.message("web").await;
    let refused = |result: Result<bool, Problem>| result.unwrap_err().kind;
    // Not handed out yet; an enrolled machine's; nobody's.
    for action in [queued, enrolled, ActionId::new()] {
        assert_eq!(refused(key.says(done(action)).await), ProblemKind::NotFound);
    }
    assert_eq!(key.pending("web").await.len(), 1);
    assert_eq!(
        refused(other.says(done(queued)).await),
        ProblemKind::NotFound
    );
    let stranger = Key::new(&world, OrgId::new(), &[LEGACY_AGENT]);
    assert_eq!(
        refused(stranger.says(done(queued)).await),
        ProblemKind::NotFound
    );
    assert!(world.binds().is_empty(), "a guess quarantines nobody");
    // The right key from elsewhere: identity is to judge.
    let moved = LegacyResult {
        address: "198.51.100.1".parse().unwrap(),
        ..done(queued)
    };
    assert_eq!(refused(key.says(moved).await), ProblemKind::Forbidden);
    assert_eq!(world.binds().len(), 1);
    assert_eq!(get(&world, queued).await.status.as_str(), "DELIVERED");
    assert_eq!(
        agent.result(enrolled, 1, Outcome::Succeeded).await,
        Verdict::Applied
    );
}

#[tokio::test]
async fn who_is_not_bound_so_is_handed_nothing() {
    let world = World::new().await;
    let (key, other) = (Key::both(&world), Key::both(&world));
    let machine = world.http_machine("web", key.id, BLOCK).await;
    key.message("web").await;
    let kind = |result: Result<Vec<LegacyTask>, Problem>| result.unwrap_err().kind;
    assert_eq!(
        kind(key.pending_from("web", "198.51.100.1").await),
        ProblemKind::Forbidden
    );
    assert_eq!(
        kind(other.pending_from("web", HOME).await),
        ProblemKind::Forbidden
    );
    assert!(key.pending_from("nobody", HOME).await.unwrap().is_empty());
    assert_eq!(world.binds().len(), 3);
    world.machine_changes(machine, |record| {
        record.quarantined_at = Some(Timestamp::now());
    });
    testkit::eventually("it is quarantined", super::world::PATIENCE, || async {
        let asked = key.pending_from("web", HOME).await;
        asked
            .is_err_and(|problem| problem.kind == ProblemKind::Forbidden)
            .then_some(())
    })
    .await;
    world.machine_changes(machine, |record| {
        record.quarantined_at = None;
        record.releases += 1;
    });
    // What waited may have been handed out before the quarantine was known here, and is leased then.
    let next = key.message("web").await;
    testkit::eventually(
        "it is handed its action",
        super::world::PATIENCE,
        || async {
            let handed = key.pending_from("web", HOME).await.ok()?;
            handed
                .iter()
                .any(|task| task.action_id == next)
                .then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_report_that_waits_while_its_machine_is_quarantined_is_not_taken() {
    let world = World::new().await;
    let key = Key::both(&world);
    let machine = world.http_machine("web", key.id, BLOCK).await;
    let action = key.message("web").await;
    assert_eq!(key.pending("web").await, [(action, 1)]);
    let pools = world.database.pools("action");
    for standing in [
        "UPDATE action.machines SET quarantined_at = now() WHERE id = $1",
        "UPDATE action.machines SET quarantined_at = NULL, revoked_at = now() WHERE id = $1",
    ] {
        world
            .execute(
                "UPDATE action.machines SET quarantined_at = NULL, revoked_at = NULL WHERE id = $1",
                machine,
            )
            .await;
        // As the mirror does it: the machine's row first.
        let mut mirror = pools.system().begin().await.unwrap();
        sqlx::query("SELECT 1 FROM action.machines WHERE id = $1 FOR UPDATE")
            .bind(machine.0)
            .execute(&mut *mirror)
            .await
            .unwrap();
        let judged = async {
            // Long enough for the report to be found good, and to come as far as the lock.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            sqlx::query(standing)
                .bind(machine.0)
                .execute(&mut *mirror)
                .await
                .unwrap();
            mirror.commit().await.unwrap();
        };
        let (said, ()) = tokio::join!(key.says(done(action)), judged);
        assert_eq!(said.unwrap_err().kind, ProblemKind::Forbidden, "{standing}");
        assert_eq!(get(&world, action).await.status.as_str(), "DELIVERED");
    }
}

#[tokio::test]
async fn what_is_queued_is_checked() {
    let world = World::new().await;
    let key = Key::both(&world);
    let machine = world.http_machine("web", key.id, BLOCK).await;
    let agent = world.machine().await;
    for (name, kind, payload, refused, path) in [
        (
            "web",
            "ping",
            json!({}),
            ProblemKind::Invalid,
            "action_type",
        ),
        (
            "web",
            "format",
            json!({}),
            ProblemKind::Invalid,
            "action_type",
        ),
        (
            "web",
            "message",
            json!({}),
            ProblemKind::Invalid,
            "payload.message",
        ),
        ("", "restart", json!({}), ProblemKind::Invalid, "machine_id"),
        ("nobody", "restart", json!({}), ProblemKind::NotFound, ""),
        // The hostname and the id of an enrolled machine are no names over HTTP.
        ("test", "restart", json!({}), ProblemKind::NotFound, ""),
        (
            &agent.machine.to_string(),
            "restart",
            json!({}),
            ProblemKind::NotFound,
            "",
        ),
    ] {
        let problem = key.queue(name, kind, payload).await.unwrap_err();
        assert_eq!(problem.kind, refused, "{name} {kind}: {problem}");
        let named = problem.errors.first().map(|error| error.path.as_str());
        assert_eq!(named.unwrap_or_default(), path);
    }
    // Each scope opens its own half.
    let agents = Key::new(&world, world.org, &[LEGACY_AGENT]);
    let problem = agents.queue("web", "restart", json!({})).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    let operators = Key::new(&world, world.org, &[LEGACY_OPERATOR]);
    let problem = operators.pending_from("web", HOME).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    // An operator with the API queues the same kinds, and no `ping`.
    let ping = world
        .ask(&new_action(machine, "ping", json!({})))
        .await
        .unwrap_err();
    assert_eq!(
        (ping.kind, ping.errors[0].path.as_str()),
        (ProblemKind::Invalid, "kind")
    );
    let restart = world.create(machine, "restart").await;
    assert_eq!(key.pending("web").await, [(restart.id, 1)]);
    world.choose(&[machine, agent.machine]);
    let fan_out = ActionFanOut {
        selector: "env=prod".into(),
        kind: "ping".into(),
        payload: json!({}),
        not_after: None,
        idempotent: false,
        idempotency_key: None,
    };
    let made = world.ask(&fan_out).await.unwrap();
    let machines: Vec<MachineId> = made.items.iter().map(|item| item.machine_id).collect();
    assert_eq!(machines, [agent.machine]);
}

#[tokio::test]
async fn what_is_cancelled_is_not_handed_out_again_and_a_revocation_ends_all() {
    let world = World::new().await;
    let key = Key::both(&world);
    let machine = world.http_machine("web", key.id, BLOCK).await;
    let (handed, waiting) = (key.message("web").await, key.message("web").await);
    let cancel = |action_id| ActionCancel { action_id };
    let cancelled = world.ask(&cancel(waiting)).await.unwrap();
    assert_eq!(cancelled.status.as_str(), "CANCELLED");
    assert_eq!(key.pending("web").await, [(handed, 1)]);
    assert!(world.ask(&cancel(handed)).await.unwrap().cancel_requested);
    world.execute(LEASE_OVER, machine).await;
    assert!(key.pending("web").await.is_empty());
    let last = key.message("web").await;
    world.machine_changes(machine, |record| record.revoked_at = Some(Timestamp::now()));
    world.becomes(handed, "UNKNOWN").await;
    world.becomes(last, "CANCELLED").await;
    assert!(key.pending_from("web", HOME).await.is_err());
}

#[tokio::test]
async fn what_was_handed_out_and_is_to_be_cancelled_is_given_up_a_lease_after_its_own() {
    let world = World::new().await;
    let key = Key::both(&world);
    let machine = world.http_machine("web", key.id, BLOCK).await;
    let cancel = |action_id| ActionCancel { action_id };
    let handed = key.message("web").await;
    assert_eq!(key.pending("web").await, [(handed, 1)]);
    // Two leases of a message are two minutes.
    let soon =
        "SELECT count(*) FROM action.actions WHERE give_up_at < now() + interval '3 minutes'";
    assert_eq!(world.count(soon).await, 0);
    assert!(world.ask(&cancel(handed)).await.unwrap().cancel_requested);
    assert_eq!(world.count(soon).await, 1);
    assert_eq!(get(&world, handed).await.status.as_str(), "DELIVERED");

    // Nothing was heard of this one for longer than that.
    let silent = key.message("web").await;
    assert_eq!(key.pending("web").await, [(silent, 1)]);
    let long_ago = "UPDATE action.actions SET delivered_at = now() - interval '4 minutes',
        lease_until = now() - interval '3 minutes' WHERE machine_id = $1 AND cancel_requested_at IS NULL";
    world.execute(long_ago, machine).await;
    assert!(world.ask(&cancel(silent)).await.unwrap().cancel_requested);
    world.becomes(silent, "UNKNOWN").await;
    assert_eq!(get(&world, handed).await.status.as_str(), "DELIVERED");
    assert_eq!(key.says(done(silent)).await, Ok(true));
    assert!(world.becomes(silent, "SUCCEEDED").await.late);
}
