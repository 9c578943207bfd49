//! Cancelling and expiry.

use chrono::Duration;
use contract::ProblemKind;
use contract::action::{ActionCancel, ActionCreate};
use contract::agent::Verdict;
use contract::order::Verb;
use domain::Timestamp;
use domain::action::Outcome;
use serde_json::json;

use super::world::{World, new_action};

#[tokio::test]
async fn before_the_offer_the_server_ends_it_and_afterwards_it_asks() {
    let world = World::new().await;
    let mut agent = world.machine().await;
    let early = world.create(agent.machine, "ping").await;
    assert_eq!(
        world
            .ask(&ActionCancel {
                action_id: early.id
            })
            .await
            .unwrap()
            .status
            .as_str(),
        "CANCELLED"
    );
    assert_eq!(
        world
            .ask(&ActionCancel {
                action_id: early.id
            })
            .await
            .unwrap()
            .status
            .as_str(),
        "CANCELLED",
        "twice is once"
    );
    agent.sync(0).await;
    let action = world.create(agent.machine, "ping").await;
    agent.order().await;
    let asked = world
        .ask(&ActionCancel {
            action_id: action.id,
        })
        .await
        .unwrap();
    assert_eq!(
        (asked.status.as_str(), asked.cancel_requested),
        ("QUEUED", true)
    );
    loop {
        let order = agent.order().await;
        if order.verb == Verb::Cancel {
            assert_eq!(order.task.map(|task| task.action), Some(action.id));
            break;
        }
    }
    assert_eq!(
        agent.result(action.id, 1, Outcome::Cancelled).await,
        Verdict::Applied
    );
    assert_eq!(world.status(action.id).await, "CANCELLED");
    let done = world.create(agent.machine, "ping").await;
    agent.result(done.id, 1, Outcome::Succeeded).await;
    assert_eq!(
        world
            .ask(&ActionCancel { action_id: done.id })
            .await
            .map(|_| ())
            .map_err(|problem| problem.kind),
        Err(ProblemKind::Conflict)
    );
}

#[tokio::test]
async fn what_was_never_offered_expires_and_what_was_is_the_machines_to_say() {
    let world = World::new().await;
    let agent = world.machine().await;
    let soon = || Some(Timestamp::now().plus(Duration::milliseconds(800)));
    let unoffered = world
        .ask(&ActionCreate {
            not_after: soon(),
            ..new_action(agent.machine, "ping", json!({}))
        })
        .await
        .unwrap();
    world.becomes(unoffered.id, "EXPIRED").await;
    agent.sync(0).await;
    let offered = world
        .ask(&ActionCreate {
            not_after: soon(),
            ..new_action(agent.machine, "ping", json!({}))
        })
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_800)).await;
    assert_eq!(world.status(offered.id).await, "QUEUED");
    assert_eq!(
        agent.result(offered.id, 1, Outcome::Expired).await,
        Verdict::Applied
    );
    assert_eq!(world.status(offered.id).await, "EXPIRED");
}
