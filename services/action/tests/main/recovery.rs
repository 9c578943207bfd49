//! After a backup was restored, on either side, and after keys were changed: nothing is executed again, nothing
//! waits for ever.

use std::time::Duration;

use contract::action::ActionList;
use contract::agent::{ActionError, ResultReport, Verdict};
use contract::order::{SyncItem, Verb};
use contract::subject::Up;
use domain::Timestamp;
use domain::action::Outcome;

use super::world::World;

#[tokio::test]
async fn what_is_cancelled_while_a_machine_asks_is_not_offered_to_it() {
    let world = World::new().await;
    let agent = world.machine().await;
    let action = world.create(agent.machine, "ping").await;
    let pools = world.database.pools("action");
    let mut cancelling = pools.system().begin().await.unwrap();
    sqlx::query("SELECT 1 FROM action.actions WHERE id = $1 FOR UPDATE")
        .bind(action.id.0)
        .execute(&mut *cancelling)
        .await
        .unwrap();
    let cancel = async {
        // Long enough for the question to come as far as the lock.
        tokio::time::sleep(Duration::from_millis(500)).await;
        sqlx::query(
            "UPDATE action.actions SET status = 'CANCELLED', finished_at = now() WHERE id = $1",
        )
        .bind(action.id.0)
        .execute(&mut *cancelling)
        .await
        .unwrap();
        cancelling.commit().await.unwrap();
    };
    let (page, ()) = tokio::join!(agent.sync(0), cancel);
    assert_eq!(page.items, [SyncItem::Ended { seq: 1, through: 1 }]);
    let offered = world
        .count("SELECT count(*) FROM action.actions WHERE offered_at IS NOT NULL")
        .await;
    assert_eq!(offered, 0);
}

#[tokio::test]
async fn a_machine_that_is_trusted_again_is_not_offered_what_it_may_have_done() {
    let world = World::new().await;
    let mut agent = world.machine().await;
    agent.sync(0).await;
    let action = world.create(agent.machine, "ping").await;
    assert_eq!(agent.order().await.verb, Verb::New);
    world.machine_changes(agent.machine, |record| record.releases += 1);
    world.becomes(action.id, "UNKNOWN").await;
    while agent.order().await.verb != Verb::Time {}
    // The disk as it was before the action.
    assert_eq!(
        agent.sync(0).await.items,
        [SyncItem::Ended { seq: 1, through: 1 }]
    );
    // Whoever did it may say so, late.
    assert_eq!(
        agent.result(action.id, 1, Outcome::Succeeded).await,
        Verdict::Applied
    );
    assert!(world.becomes(action.id, "SUCCEEDED").await.late);
}

#[tokio::test]
async fn places_are_counted_on_from_what_the_machine_knows() {
    let world = World::new().await;
    let agent = world.machine().await;
    // As after a failover that lost the last commits.
    agent.sync(150).await;
    let action = world.create(agent.machine, "ping").await;
    assert_eq!(action.seq, 151);
    // A machine that says anything does not move the count.
    agent.sync(i64::MAX).await;
    assert_eq!(world.create(agent.machine, "ping").await.seq, 152);
}

#[tokio::test]
async fn a_machine_with_old_keys_is_told_the_new_ones() {
    let world = World::new().await;
    let mut agent = world.machine().await;
    agent.sync(0).await;
    let current = agent.pinned.clone();
    agent.keys = vec![current[0].clone(), nkeys::KeyPair::new_user().public_key()];
    agent.sync(0).await;
    let order = agent.order().await;
    assert_eq!(
        (order.verb, order.keys),
        (Verb::Keys, Some(current.clone()))
    );
    agent.keys = current;
    agent.sync(0).await;
    assert!(
        agent.silence(Duration::from_millis(500)).await,
        "it has them now"
    );
}

#[tokio::test]
async fn an_error_as_long_as_a_book_is_cut_and_the_list_goes_on() {
    let world = World::new().await;
    let agent = world.machine().await;
    let action = world.create(agent.machine, "ping").await;
    agent.sync(0).await;
    let now = Timestamp::now();
    let report = ResultReport {
        action: action.id,
        attempt: 1,
        outcome: Outcome::Failed,
        result: None,
        error: Some(ActionError {
            code: "c\0".repeat(1_000),
            message: "m".repeat(200_000),
        }),
        accepted_at: Some(now),
        started_at: Some(now),
        finished_at: now,
    };
    assert_eq!(agent.say(Up::Result, &report).await, Verdict::Applied);
    let listed = world
        .ask(&ActionList {
            limit: 200,
            ..Default::default()
        })
        .await
        .unwrap();
    let error = listed.items[0].error.as_ref().expect("why");
    assert_eq!(
        (error.code.chars().count(), error.message.len()),
        (64, 4_000)
    );
}
