//! Creating actions: bounds, rights, idempotency, the order of `seq`.

use chrono::Duration;
use contract::ProblemKind;
use contract::action::{ActionCreate, ActionGet, ActionList};
use contract::order::Verb;
use domain::access::Role;
use domain::{MachineId, OrgId, Timestamp};
use serde_json::json;

use super::world::{PATIENCE, World, new_action};

#[tokio::test]
async fn bad_input_is_named_and_nothing_is_queued() {
    let world = World::new().await;
    let agent = world.machine().await;
    let now = Timestamp::now();
    let base = new_action(agent.machine, "ping", json!({}));
    let path = |error: contract::Problem| {
        (
            error.kind,
            error
                .errors
                .first()
                .map(|error| error.path.clone())
                .unwrap_or_default(),
        )
    };
    let table: Vec<(ActionCreate, ProblemKind, &str)> = vec![
        (
            new_action(MachineId::new(), "ping", json!({})),
            ProblemKind::NotFound,
            "",
        ),
        (
            new_action(agent.machine, "format", json!({})),
            ProblemKind::Invalid,
            "kind",
        ),
        (
            new_action(agent.machine, "ping", json!({ "a": 1 })),
            ProblemKind::Invalid,
            "payload.a",
        ),
        (
            new_action(agent.machine, "message", json!({})),
            ProblemKind::Invalid,
            "payload.message",
        ),
        (
            new_action(agent.machine, "message", json!({ "message": "a\u{0}b" })),
            ProblemKind::Invalid,
            "payload",
        ),
        (
            new_action(
                agent.machine,
                "message",
                json!({ "message": "x".repeat(70_000) }),
            ),
            ProblemKind::TooLarge,
            "",
        ),
        (
            ActionCreate {
                not_after: Some(now.plus(Duration::seconds(-1))),
                ..base.clone()
            },
            ProblemKind::Invalid,
            "notAfter",
        ),
        (
            ActionCreate {
                not_after: Some(now.plus(Duration::days(31))),
                ..base.clone()
            },
            ProblemKind::Invalid,
            "notAfter",
        ),
    ];
    for (request, kind, field) in table {
        let refused = world.ask(&request).await.map_err(path);
        assert_eq!(
            refused.map(|action| action.id),
            Err((kind, field.to_owned())),
            "{request:?}"
        );
    }
    let listed = world
        .ask(&ActionList {
            limit: 200,
            ..ActionList::default()
        })
        .await
        .unwrap();
    assert!(listed.items.is_empty());
}

#[tokio::test]
async fn rights_and_organisations_hold() {
    let world = World::new().await;
    let agent = world.machine().await;
    let action = world.create(agent.machine, "ping").await;
    let viewer = world.grant(world.org, Role::Viewer);
    let stranger = world.grant(OrgId::new(), Role::Owner);
    let refused = |problem: contract::Problem| problem.kind;
    let create = new_action(agent.machine, "ping", json!({}));
    assert_eq!(
        world
            .ask_as(&viewer, &create)
            .await
            .map(|_| ())
            .map_err(refused),
        Err(ProblemKind::Forbidden)
    );
    assert_eq!(
        world
            .ask_as(&stranger, &create)
            .await
            .map(|_| ())
            .map_err(refused),
        Err(ProblemKind::NotFound)
    );
    assert_eq!(
        world
            .ask_as(
                &stranger,
                &ActionGet {
                    action_id: action.id
                }
            )
            .await
            .map(|_| ())
            .map_err(refused),
        Err(ProblemKind::NotFound)
    );
    assert!(
        world
            .ask_as(
                &viewer,
                &ActionGet {
                    action_id: action.id
                }
            )
            .await
            .is_ok()
    );
    let nobody = world
        .gateway
        .gateway_call(&create, None, std::time::Duration::from_secs(5))
        .await;
    assert_eq!(
        nobody.map(|_| ()).map_err(refused),
        Err(ProblemKind::Unauthenticated)
    );
    let forged = world
        .gateway
        .gateway_call(&create, Some("a.b.c"), std::time::Duration::from_secs(5))
        .await;
    assert_eq!(
        forged.map(|_| ()).map_err(refused),
        Err(ProblemKind::Unauthenticated)
    );
}

#[tokio::test]
async fn one_key_makes_one_action_however_often_and_at_once_it_is_used() {
    let world = World::with_replicas(2).await;
    let agent = world.machine().await;
    let request = ActionCreate {
        idempotency_key: Some("k1".into()),
        ..new_action(agent.machine, "ping", json!({}))
    };
    let grant = world.grant(world.org, Role::Owner);
    let all = futures::future::join_all((0..20).map(|_| world.ask_as(&grant, &request))).await;
    let ids: std::collections::HashSet<_> =
        all.into_iter().map(|action| action.unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    let other = ActionCreate {
        idempotent: true,
        ..request
    };
    assert_eq!(
        world
            .ask(&other)
            .await
            .map(|_| ())
            .map_err(|problem| problem.kind),
        Err(ProblemKind::Conflict)
    );
}

#[tokio::test]
async fn seq_has_no_gaps_and_lists_page_through_everything() {
    let world = World::with_replicas(2).await;
    let agent = world.machine().await;
    let grant = world.grant(world.org, Role::Owner);
    let request = new_action(agent.machine, "ping", json!({}));
    let made = futures::future::join_all((0..45).map(|_| world.ask_as(&grant, &request))).await;
    let mut seqs: Vec<_> = made.into_iter().map(|action| action.unwrap().seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=45).collect::<Vec<_>>());
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = world
            .ask(&ActionList {
                limit: 10,
                cursor,
                machine_id: Some(agent.machine),
                ..ActionList::default()
            })
            .await
            .unwrap();
        seen.extend(page.items.iter().map(|action| action.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 45);
    assert!(
        seen.windows(2).all(|pair| pair[0] > pair[1]),
        "newest first"
    );
}

#[tokio::test]
async fn a_connected_machine_is_rung_until_it_accepts_and_no_longer() {
    let world = World::new().await;
    let mut agent = world.machine().await;
    let early = world.create(agent.machine, "ping").await;
    assert!(
        agent.silence(std::time::Duration::from_millis(1_500)).await,
        "not connected: not rung"
    );
    world.presence(agent.machine, true).await;
    let order = agent.order().await;
    assert_eq!(
        (order.verb, order.task.as_ref().map(|task| task.action)),
        (Verb::New, Some(early.id))
    );
    let action = world.create(agent.machine, "ping").await;
    let started = std::time::Instant::now();
    let mut rings = Vec::new();
    while rings.len() < 3 {
        let order = agent.order().await;
        if order.task.map(|task| task.action) == Some(action.id) {
            rings.push(started.elapsed().as_secs_f64());
        }
    }
    assert!(
        rings[0] < 0.5 && (0.9..2.5).contains(&rings[1]) && (4.5..7.0).contains(&rings[2]),
        "{rings:?}"
    );
}

#[tokio::test]
async fn a_machine_has_a_thousand_open_actions_and_no_more() {
    let world = World::new().await;
    let agent = world.machine().await;
    let first = world.create(agent.machine, "ping").await;
    world
        .execute(
            "INSERT INTO action.actions (org_id, id, machine_id, seq, kind, payload, idempotent, status, principal,
                not_after, give_up_at, created_at)
             SELECT org_id, gen_random_uuid(), machine_id, seq + n, kind, payload, idempotent, status, principal,
                not_after, give_up_at, created_at
             FROM action.actions, generate_series(1, 998) n WHERE machine_id = $1",
            agent.machine,
        )
        .await;
    world
        .execute(
            "UPDATE action.machines SET last_seq = 999 WHERE id = $1",
            agent.machine,
        )
        .await;
    world.create(agent.machine, "ping").await;
    let refused = world
        .ask(&new_action(agent.machine, "ping", json!({})))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ProblemKind::Conflict);
    assert!(
        refused.detail.contains("1000 actions"),
        "{}",
        refused.detail
    );
    world
        .ask(&contract::action::ActionCancel {
            action_id: first.id,
        })
        .await
        .unwrap();
    world.create(agent.machine, "ping").await;
}

#[tokio::test]
async fn a_key_is_answered_after_the_deadline_of_what_it_made() {
    let world = World::new().await;
    let agent = world.machine().await;
    let request = ActionCreate {
        not_after: Some(Timestamp::now().plus(chrono::Duration::milliseconds(700))),
        idempotency_key: Some("once".into()),
        ..new_action(agent.machine, "ping", json!({}))
    };
    let made = world.ask(&request).await.unwrap();
    world.becomes(made.id, "EXPIRED").await;
    assert_eq!(world.ask(&request).await.unwrap().id, made.id);
}

#[tokio::test]
async fn the_scheduler_creates_with_the_right_of_the_grant_that_it_forwards() {
    let world = World::new().await;
    let agent = world.machine().await;
    let scheduler = world.nats.bus("scheduler").await;
    let request = ActionCreate {
        idempotency_key: Some("an execution's".into()),
        by_key_alone: true,
        ..new_action(agent.machine, "ping", json!({}))
    };
    // Its next attempt, later, of a job that was edited meanwhile.
    let again = ActionCreate {
        not_after: Some(Timestamp::now().plus(chrono::Duration::seconds(60))),
        payload: json!({ "message": "hello" }),
        kind: "message".into(),
        ..request.clone()
    };
    let grant = world.grant(world.org, Role::Operator);
    let mut made = Vec::new();
    for request in [&request, &request, &again] {
        let asked = scheduler.service_call(request, Some(&grant), PATIENCE);
        made.push(asked.await.unwrap().id);
    }
    assert_eq!(made, [made[0]; 3]);
    // It is no user's key.
    let theirs = ActionCreate {
        by_key_alone: false,
        ..request.clone()
    };
    assert_ne!(world.ask(&theirs).await.unwrap().id, made[0]);
    assert_eq!(world.status(made[0]).await, "QUEUED");
    let viewer = world.grant(world.org, Role::Viewer);
    let stranger = world.grant(OrgId::new(), Role::Owner);
    for (grant, wanted) in [
        (None, ProblemKind::Unauthenticated),
        (Some("forged"), ProblemKind::Unauthenticated),
        (Some(viewer.as_str()), ProblemKind::Forbidden),
        (Some(stranger.as_str()), ProblemKind::NotFound),
    ] {
        let refused = scheduler.service_call(&request, grant, PATIENCE).await;
        assert_eq!(refused.err().map(|problem| problem.kind), Some(wanted));
    }
}
