//! Actions for many machines at once: all or none, once for each key, and for nobody whom the caller may not see.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use contract::action::{ActionBatch, ActionFanOut};
use contract::metrics::SELECT_LIMIT_MAX;
use contract::order::Verb;
use contract::{Problem, ProblemKind};
use domain::access::{Role, Scopes};
use domain::action::{FAN_OUT_MAX, Outcome};
use domain::{ActionId, MachineId, OrgId, Timestamp};
use nkeys::KeyPair;
use serde_json::json;
use uuid::Uuid;

use super::world::{PATIENCE, World, new_action};

const ALL: &str = "SELECT count(*) FROM action.actions";
const FILL: &str = "
    INSERT INTO action.machines (org_id, id, fingerprint, change, releases, online)
    SELECT $1, gen_random_uuid(), 'nobody', 0, 0, true FROM generate_series(1, $2) RETURNING id";

fn to(selector: &str) -> ActionFanOut {
    ActionFanOut {
        selector: selector.into(),
        kind: "message".into(),
        payload: json!({ "message": "hello" }),
        not_after: None,
        idempotent: false,
        idempotency_key: None,
    }
}

fn with_key(key: &str) -> ActionFanOut {
    ActionFanOut {
        idempotency_key: Some(key.into()),
        ..to("env=prod")
    }
}

fn machines(batch: &ActionBatch) -> HashSet<MachineId> {
    batch.items.iter().map(|item| item.machine_id).collect()
}

fn ids(batch: &ActionBatch) -> Vec<ActionId> {
    batch.items.iter().map(|item| item.id).collect()
}

/// A machine's action among them.
fn of(batch: &ActionBatch, machine: MachineId) -> ActionId {
    let item = batch.items.iter().find(|item| item.machine_id == machine);
    item.unwrap().id
}

fn kind<T>(answer: Result<T, Problem>) -> Option<ProblemKind> {
    answer.err().map(|problem| problem.kind)
}

/// Machines that are connected, as far as the mirror knows.
async fn fill(world: &World, count: usize) -> Vec<MachineId> {
    let ids: Vec<Uuid> = sqlx::query_scalar(FILL)
        .bind(world.org.0)
        .bind(i32::try_from(count).unwrap())
        .fetch_all(world.database.pools("action").system())
        .await
        .unwrap();
    ids.into_iter().map(Into::into).collect()
}

#[tokio::test]
async fn every_chosen_machine_gets_its_own_action_and_who_is_connected_is_rung() {
    let world = World::new().await;
    let (mut first, mut second) = (world.machine().await, world.machine().await);
    let mut away = world.machine().await;
    world.presence(first.machine, true).await;
    world.presence(second.machine, true).await;
    world.create(second.machine, "ping").await;
    world.choose(&[second.machine, away.machine, first.machine]);
    let until = Timestamp::now().plus(chrono::Duration::hours(1));
    let request = ActionFanOut {
        not_after: Some(until),
        idempotent: true,
        ..to(" env = prod,,role!=db")
    };
    let started = Instant::now();
    let batch = world.ask(&request).await.unwrap();
    assert_eq!(
        machines(&batch),
        [first.machine, second.machine, away.machine].into()
    );
    assert!(ids(&batch).is_sorted(), "{batch:?}");
    let asked = world.selects();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(
        (asked[0].selector.as_str(), asked[0].limit, asked[0].cursor),
        ("env=prod,role!=db", SELECT_LIMIT_MAX, None)
    );
    for item in &batch.items {
        let action = world
            .ask(&contract::action::ActionGet { action_id: item.id })
            .await
            .unwrap();
        assert_eq!(
            (action.machine_id, action.kind, action.status, action.seq),
            (item.machine_id, item.kind, item.status, item.seq)
        );
        assert_eq!(
            (action.not_after, action.created_at),
            (item.not_after, item.created_at)
        );
        assert_eq!(
            (action.not_after, action.idempotent, action.payload),
            (until, true, request.payload.clone())
        );
        let place = if item.machine_id == second.machine {
            2
        } else {
            1
        };
        assert_eq!((item.seq, item.status.as_str()), (place, "QUEUED"));
    }
    for agent in [&mut first, &mut second] {
        let action = of(&batch, agent.machine);
        let mut rings = Vec::new();
        while rings.len() < 2 {
            let order = agent.order().await;
            let task = order.task.unwrap();
            if task.action == action {
                assert_eq!((order.verb, task.attempt), (Verb::New, 1));
                assert_eq!(
                    (task.payload, task.not_after, task.idempotent),
                    (request.payload.clone(), until, true)
                );
                rings.push(started.elapsed().as_secs_f64());
            }
        }
        // At once, and by the tick a second later: nobody has accepted it.
        assert!(rings[1] >= 0.9 && rings[1] < 5.0, "{rings:?}");
    }
    assert!(
        away.silence(Duration::from_millis(300)).await,
        "not connected: not rung"
    );
    world.presence(away.machine, true).await;
    let order = away.order().await;
    assert_eq!(
        order.task.map(|task| task.action),
        Some(of(&batch, away.machine)),
        "it waited for the machine"
    );
}

#[tokio::test]
async fn bad_input_is_named_and_nothing_is_queued() {
    let world = World::new().await;
    let agent = world.machine().await;
    world.choose(&[agent.machine]);
    let past = Timestamp::now().plus(chrono::Duration::seconds(-1));
    let table: Vec<(ActionFanOut, ProblemKind, &str)> = vec![
        (to(""), ProblemKind::Invalid, "selector"),
        (to(" , ,"), ProblemKind::Invalid, "selector"),
        (to("a b"), ProblemKind::Invalid, "selector"),
        (to("=x"), ProblemKind::Invalid, "selector"),
        (to("env=prod,!"), ProblemKind::Invalid, "selector"),
        (
            to(&vec!["a"; 33].join(",")),
            ProblemKind::Invalid,
            "selector",
        ),
        (
            ActionFanOut {
                kind: "format".into(),
                ..to("env=prod")
            },
            ProblemKind::Invalid,
            "kind",
        ),
        (
            ActionFanOut {
                payload: json!({}),
                ..to("env=prod")
            },
            ProblemKind::Invalid,
            "payload.message",
        ),
        (
            ActionFanOut {
                payload: json!({ "message": "x".repeat(70_000) }),
                ..to("env=prod")
            },
            ProblemKind::TooLarge,
            "",
        ),
        (
            ActionFanOut {
                not_after: Some(past),
                ..to("env=prod")
            },
            ProblemKind::Invalid,
            "notAfter",
        ),
    ];
    for (request, kind, field) in table {
        let problem = world.ask(&request).await.unwrap_err();
        let path = problem.errors.first().map(|error| error.path.as_str());
        assert_eq!(
            (problem.kind, path.unwrap_or_default()),
            (kind, field),
            "{request:?}"
        );
    }
    assert!(world.selects().is_empty(), "metrics was not asked");
    assert_eq!(world.count(ALL).await, 0);
}

#[tokio::test]
async fn the_caller_needs_both_rights_and_reaches_one_organisation() {
    let world = World::new().await;
    let agent = world.machine().await;
    world.choose(&[agent.machine]);
    let scopes = |names: &[&str]| {
        let scopes = Scopes::from_names(names.iter().copied()).unwrap();
        world.grant_with(world.org, scopes)
    };
    let reboot = ActionFanOut {
        kind: "reboot".into(),
        payload: json!({}),
        ..to("env=prod")
    };
    for (grant, request, missing) in [
        (
            world.grant(world.org, Role::Viewer),
            to("env=prod"),
            "actions:write",
        ),
        (scopes(&["actions:write"]), to("env=prod"), "machines:read"),
        (
            scopes(&["actions:write", "machines:read"]),
            reboot,
            "actions:reboot",
        ),
    ] {
        let problem = world.ask_as(&grant, &request).await.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Forbidden, "{missing}");
        assert!(problem.detail.contains(missing), "{problem}");
    }
    let nobody = world
        .gateway
        .gateway_call(&to("env=prod"), None, PATIENCE)
        .await;
    assert_eq!(kind(nobody), Some(ProblemKind::Unauthenticated));
    // Even if metrics said that another organisation's machine is chosen.
    let stranger = world.grant(OrgId::new(), Role::Owner);
    let theirs = world.ask_as(&stranger, &to("env=prod")).await.unwrap();
    assert!(theirs.items.is_empty(), "{theirs:?}");
    assert_eq!(world.count(ALL).await, 0);
    // Both rights, and no more, are enough.
    let enough = scopes(&["actions:write", "machines:read"]);
    let batch = world.ask_as(&enough, &to("env=prod")).await.unwrap();
    assert_eq!(machines(&batch), [agent.machine].into());
}

#[tokio::test]
async fn one_key_makes_one_fan_out_however_often_and_at_once_it_is_used() {
    let world = World::with_replicas(2).await;
    let (agent, other) = (world.machine().await, world.machine().await);
    world.presence(agent.machine, true).await;
    world.choose(&[agent.machine, other.machine]);
    let grant = world.grant(world.org, Role::Owner);
    let request = with_key("k1");
    let all = futures::future::join_all((0..12).map(|_| world.ask_as(&grant, &request))).await;
    let all: Vec<_> = all.into_iter().map(|batch| batch.unwrap()).collect();
    assert!(all.iter().all(|batch| ids(batch) == ids(&all[0])));
    assert_eq!(machines(&all[0]), [agent.machine, other.machine].into());
    assert_eq!(world.count(ALL).await, 2);
    world.selects();

    // Later, when the selector would choose others and metrics is away: the same actions, as they are now.
    let late = world.machine().await;
    world.choose(&[late.machine]);
    world.refuse_to_choose(Some(Problem::unavailable("metrics is away")));
    let done = of(&all[0], agent.machine);
    agent.result(done, 1, Outcome::Succeeded).await;
    let again = world.ask(&request).await.unwrap();
    assert_eq!(ids(&again), ids(&all[0]));
    for item in &again.items {
        let now = if item.machine_id == agent.machine {
            "SUCCEEDED"
        } else {
            "QUEUED"
        };
        assert_eq!(item.status.as_str(), now);
    }
    assert!(world.selects().is_empty(), "metrics was not asked again");
    assert_eq!(world.count(ALL).await, 2);

    // Another body, be it for many machines or for one, and the other way round.
    world.refuse_to_choose(None);
    let others = [
        ActionFanOut {
            selector: "env=test".into(),
            ..request.clone()
        },
        ActionFanOut {
            idempotent: true,
            ..request.clone()
        },
    ];
    for other in others {
        assert_eq!(
            kind(world.ask(&other).await),
            Some(ProblemKind::Conflict),
            "{other:?}"
        );
    }
    let mut single = new_action(agent.machine, "message", request.payload.clone());
    single.idempotency_key = Some("k1".into());
    assert_eq!(kind(world.ask(&single).await), Some(ProblemKind::Conflict));
    single.idempotency_key = Some("k2".into());
    world.ask(&single).await.unwrap();
    assert_eq!(
        kind(world.ask(&with_key("k2")).await),
        Some(ProblemKind::Conflict)
    );
    assert_eq!(world.count(ALL).await, 3);
}

#[tokio::test]
async fn an_empty_choice_is_an_empty_list_and_stays_it_for_its_key() {
    let world = World::new().await;
    let agent = world.machine().await;
    let made = async |request: ActionFanOut| world.ask(&request).await.unwrap().items.len();
    assert_eq!(made(to("env=prod")).await, 0);
    assert_eq!(made(with_key("k")).await, 0);
    world.choose(&[agent.machine]);
    assert_eq!(made(with_key("k")).await, 0);
    assert_eq!(made(with_key("l")).await, 1);
}

#[tokio::test]
async fn a_choice_that_fails_leaves_nothing_and_its_key_can_be_used_again() {
    let world = World::new().await;
    let agent = world.machine().await;
    world.choose(&[agent.machine]);
    world.refuse_to_choose(Some(Problem::unavailable("metrics is away")));
    let request = with_key("k");
    assert_eq!(
        kind(world.ask(&request).await),
        Some(ProblemKind::Unavailable)
    );
    assert_eq!(world.count(ALL).await, 0);
    world.refuse_to_choose(None);
    assert_eq!(world.ask(&request).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn who_was_revoked_meanwhile_is_left_out_and_who_enrolled_meanwhile_is_not() {
    let world = World::new().await;
    let kept = world.machine().await;
    let (revoked, mut suspect) = (world.machine().await, world.machine().await);
    for machine in [kept.machine, revoked.machine, suspect.machine] {
        world.presence(machine, true).await;
    }
    let now = Some(Timestamp::now());
    world.machine_changes(revoked.machine, |record| record.revoked_at = now);
    world.machine_changes(suspect.machine, |record| record.quarantined_at = now);
    testkit::eventually("both changes are mirrored", PATIENCE, || async {
        let changed = "SELECT count(*) FROM action.machines WHERE coalesce(revoked_at, quarantined_at) IS NOT NULL";
        (world.count(changed).await == 2).then_some(())
    })
    .await;
    // Metrics knows of a machine before this service does, and of one of which identity does not.
    let new = world.enroll(&KeyPair::new_user());
    let phantom = MachineId::new();
    world.choose(&[kept.machine, revoked.machine, suspect.machine, new, phantom]);
    let batch = world.ask(&to("env=prod")).await.unwrap();
    assert_eq!(
        machines(&batch),
        [kept.machine, suspect.machine, new].into()
    );
    assert_eq!(world.count(ALL).await, 3);
    let offered = "SELECT count(*) FROM action.actions WHERE offered_at IS NOT NULL";
    assert_eq!(world.count(offered).await, 1, "to the one that is trusted");
    assert!(
        suspect.silence(Duration::from_millis(1_500)).await,
        "quarantined: not rung"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fan_outs_and_single_actions_at_once_leave_no_gap_in_seq() {
    let world = World::with_replicas(2).await;
    let all = fill(&world, 60).await;
    world.choose(&all);
    let grant = world.grant(world.org, Role::Owner);
    let request = to("env=prod");
    let many = (0..8).map(|_| world.ask_patiently(&grant, &request, Duration::from_secs(30)));
    let singles: Vec<_> = all
        .iter()
        .map(|machine| new_action(*machine, "ping", json!({})))
        .collect();
    let one = singles
        .iter()
        .map(|single| world.ask_patiently(&grant, single, Duration::from_secs(30)));
    let (many, one) = futures::future::join(
        futures::future::join_all(many),
        futures::future::join_all(one),
    )
    .await;
    for batch in many {
        assert_eq!(batch.unwrap().items.len(), 60);
    }
    for action in one {
        action.unwrap();
    }
    assert_eq!(world.count(ALL).await, 9 * 60);
    let gaps = "
        SELECT count(*) FROM (SELECT FROM action.actions GROUP BY machine_id
        HAVING min(seq) <> 1 OR max(seq) <> 9 OR count(*) <> 9) AS wrong";
    assert_eq!(world.count(gaps).await, 0);
    let behind = "SELECT count(*) FROM action.machines WHERE last_seq <> 9";
    assert_eq!(world.count(behind).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_machines_are_one_commit_and_one_answer() {
    let world = World::new().await;
    let mut agent = world.machine().await;
    world.presence(agent.machine, true).await;
    let mut all = fill(&world, FAN_OUT_MAX - 1).await;
    all.push(agent.machine);
    world.choose(&all);
    let grant = world.grant(world.org, Role::Owner);
    let request = with_key("all");
    let patience = Duration::from_secs(20);
    let started = Instant::now();
    let batch = world.ask_patiently(&grant, &request, patience).await;
    let batch = batch.unwrap();
    println!("{} actions in {:?}", batch.items.len(), started.elapsed());
    assert_eq!(machines(&batch), all.iter().copied().collect());
    assert_eq!(batch.items.len(), FAN_OUT_MAX);
    assert_eq!(world.selects().len(), 5, "pages of {SELECT_LIMIT_MAX}");
    let bytes = serde_json::to_vec(&batch).unwrap().len();
    assert!(bytes < 3 * 1024 * 1024, "{bytes} bytes");
    let whole = "
        SELECT count(*) FROM action.actions
        WHERE seq = 1 AND status = 'QUEUED' AND offered_at = created_at AND ring_at > created_at";
    assert_eq!(world.count(whole).await, FAN_OUT_MAX as i64);
    let order = agent.order().await;
    println!("one of them heard of it after {:?}", started.elapsed());
    let mine = of(&batch, agent.machine);
    assert_eq!(order.task.map(|task| task.action), Some(mine));
    let again = world.ask_patiently(&grant, &request, patience).await;
    assert_eq!(ids(&again.unwrap()), ids(&batch));

    all.push(MachineId::new());
    world.choose(&all);
    let problem = world.ask(&to("env=prod")).await.unwrap_err();
    assert_eq!(
        (problem.kind, problem.errors[0].path.as_str()),
        (ProblemKind::Invalid, "selector")
    );
    assert!(problem.detail.contains("10000"), "{problem}");
    let limits: Vec<u32> = world.selects().iter().map(|asked| asked.limit).collect();
    assert_eq!(limits, [2_000, 2_000, 2_000, 2_000, 2_000, 1]);
    assert_eq!(world.count(ALL).await, FAN_OUT_MAX as i64);
}
