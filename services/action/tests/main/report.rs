//! What agents say: applied once, fenced otherwise, answered after the commit.

use contract::action::{ActionCreate, ActionGet};
use contract::agent::{Step, Verdict};
use contract::subject::Up;
use domain::action::{ActionStatus, Outcome};
use domain::{ActionId, Timestamp};
use futures::StreamExt;
use serde_json::json;

use super::world::{World, new_action};

#[tokio::test]
async fn each_report_counts_once() {
    let world = World::with_replicas(2).await;
    let agent = world.machine().await;
    agent.sync(0).await;
    let action = world.create(agent.machine, "ping").await;
    let step = Step {
        action: action.id,
        attempt: 1,
        at: Timestamp::now(),
    };
    assert_eq!(agent.say(Up::Accepted, &step).await, Verdict::Applied);
    assert_eq!(world.status(action.id).await, "DELIVERED");
    assert_eq!(agent.say(Up::Accepted, &step).await, Verdict::Duplicate);
    assert_eq!(agent.say(Up::Started, &step).await, Verdict::Applied);
    assert_eq!(world.status(action.id).await, "RUNNING");
    assert_eq!(agent.say(Up::Accepted, &step).await, Verdict::Duplicate);
    assert_eq!(
        agent.result(action.id, 2, Outcome::Succeeded).await,
        Verdict::Fenced,
        "an attempt that is not"
    );
    assert_eq!(
        agent.result(action.id, 1, Outcome::Succeeded).await,
        Verdict::Applied
    );
    assert_eq!(
        agent.result(action.id, 1, Outcome::Succeeded).await,
        Verdict::Duplicate
    );
    assert_eq!(
        agent.result(action.id, 1, Outcome::Failed).await,
        Verdict::Fenced
    );
    let action = world
        .ask(&ActionGet {
            action_id: action.id,
        })
        .await
        .unwrap();
    assert_eq!(action.status, ActionStatus::Succeeded);
    assert_eq!(action.result, Some(json!({ "said": "done" })));
    assert!(
        action.delivered_at.is_some()
            && action.started_at.is_some()
            && action.finished_at.is_some()
    );
}

#[tokio::test]
async fn nobody_reports_what_was_not_offered_to_it() {
    let world = World::new().await;
    let (mine, theirs) = (world.machine().await, world.machine().await);
    let unoffered = world.create(mine.machine, "ping").await;
    assert_eq!(
        mine.result(unoffered.id, 1, Outcome::Succeeded).await,
        Verdict::Fenced
    );
    mine.sync(0).await;
    assert_eq!(
        theirs.result(unoffered.id, 1, Outcome::Succeeded).await,
        Verdict::Fenced,
        "another machine's"
    );
    assert_eq!(
        theirs.result(ActionId::new(), 1, Outcome::Succeeded).await,
        Verdict::Fenced,
        "nobody's"
    );
    assert_eq!(world.status(unoffered.id).await, "QUEUED");
    assert_eq!(
        mine.result(unoffered.id, 1, Outcome::Succeeded).await,
        Verdict::Applied
    );
}

#[tokio::test]
async fn an_interruption_is_tried_again_only_when_declared_idempotent() {
    let world = World::new().await;
    let mut agent = world.machine().await;
    agent.sync(0).await;
    let once = world.create(agent.machine, "ping").await;
    agent.order().await;
    assert_eq!(
        agent.result(once.id, 1, Outcome::Interrupted).await,
        Verdict::Applied
    );
    assert_eq!(world.status(once.id).await, "INTERRUPTED");
    let again = world
        .ask(&ActionCreate {
            idempotent: true,
            ..new_action(agent.machine, "ping", json!({}))
        })
        .await
        .unwrap();
    agent.order().await;
    assert_eq!(
        agent.result(again.id, 1, Outcome::Interrupted).await,
        Verdict::Applied
    );
    let order = agent.order().await;
    assert_eq!(
        order.task.map(|task| (task.action, task.attempt)),
        Some((again.id, 2))
    );
    assert_eq!(
        agent.result(again.id, 1, Outcome::Interrupted).await,
        Verdict::Duplicate,
        "an earlier attempt's repetition"
    );
    assert_eq!(
        agent.result(again.id, 2, Outcome::Succeeded).await,
        Verdict::Applied
    );
    assert_eq!(world.status(again.id).await, "SUCCEEDED");
}

#[tokio::test]
async fn silence_ends_unknown_and_a_late_result_says_so() {
    let world = World::new().await;
    let agent = world.machine().await;
    agent.sync(0).await;
    let action = world.create(agent.machine, "ping").await;
    world
        .execute(
            "UPDATE action.actions SET give_up_at = now() WHERE machine_id = $1",
            agent.machine,
        )
        .await;
    world.becomes(action.id, "UNKNOWN").await;
    assert_eq!(
        agent
            .say(
                Up::Started,
                &Step {
                    action: action.id,
                    attempt: 1,
                    at: Timestamp::now()
                }
            )
            .await,
        Verdict::Duplicate
    );
    assert_eq!(
        agent.result(action.id, 1, Outcome::Succeeded).await,
        Verdict::Applied
    );
    let action = world
        .ask(&ActionGet {
            action_id: action.id,
        })
        .await
        .unwrap();
    assert_eq!(
        (action.status, action.late),
        (ActionStatus::Succeeded, true)
    );
}

#[tokio::test]
async fn strange_results_are_kept_within_bounds() {
    let world = World::new().await;
    let agent = world.machine().await;
    agent.sync(0).await;
    let action = world.create(agent.machine, "ping").await;
    let far: Timestamp = "9999-12-31T23:59:59Z".parse().unwrap();
    let report = contract::agent::ResultReport {
        action: action.id,
        attempt: 1,
        outcome: Outcome::Succeeded,
        result: Some(json!({ "nul": "a\u{0}b" })),
        error: None,
        accepted_at: None,
        started_at: Some("0001-01-01T00:00:00Z".parse().unwrap()),
        finished_at: far,
    };
    assert_eq!(agent.say(Up::Result, &report).await, Verdict::Applied);
    assert_eq!(world.status(action.id).await, "SUCCEEDED");
}

#[tokio::test]
async fn many_reports_at_once_are_each_answered() {
    let world = World::with_replicas(2).await;
    let agent = world.machine().await;
    agent.sync(0).await;
    let grant = world.grant(world.org, domain::access::Role::Owner);
    let request = new_action(agent.machine, "ping", json!({}));
    let made = futures::future::join_all((0..200).map(|_| world.ask_as(&grant, &request))).await;
    let ids: Vec<_> = made.into_iter().map(|action| action.unwrap().id).collect();
    // As many as an agent sends at once; each twice, side by side.
    let verdicts: Vec<_> = futures::stream::iter(ids.iter().flat_map(|id| [*id, *id]))
        .map(|id| agent.result(id, 1, Outcome::Succeeded))
        .buffer_unordered(16)
        .collect()
        .await;
    let applied = verdicts
        .iter()
        .filter(|verdict| **verdict == Verdict::Applied)
        .count();
    assert_eq!(
        (applied, verdicts.len()),
        (200, 400),
        "each applied once, each repetition a duplicate"
    );
}
