//! The end of the service, while something in it cannot end.

use contract::action::ActionCancel;

use super::world::{PATIENCE, SECOND, World};

/// Requests that wait for a lock in this database.
const WAITING: &str = "
    SELECT count(DISTINCT pid) FROM pg_locks
    WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";

#[tokio::test]
async fn a_request_that_waits_in_the_database_does_not_keep_the_service_from_ending() {
    let mut world = World::ending_in(SECOND).await;
    let replicas = std::mem::take(&mut world.replicas);
    let machine = world.machine().await.machine;
    let action = world.create(machine, "ping").await.id;
    let pools = world.database.pools("action");
    let mut held = pools.system().begin().await.unwrap();
    sqlx::query("SELECT 1 FROM action.actions WHERE id = $1 FOR UPDATE")
        .bind(action.0)
        .execute(&mut *held)
        .await
        .unwrap();
    let cancel = ActionCancel { action_id: action };
    let stuck = world.ask(&cancel);
    let end = async {
        testkit::eventually("the request waits", PATIENCE, || async {
            (world.count(WAITING).await > 0).then_some(())
        })
        .await;
        world.shutdown.begin();
        for replica in replicas {
            // The database would let the request wait for longer than that, and the request has a connection.
            let ended = tokio::time::timeout(PATIENCE, replica).await;
            ended.expect("the end within its limits").unwrap();
        }
    };
    let (answer, ()) = tokio::join!(stuck, end);
    assert!(answer.is_err(), "nobody answered: {answer:?}");
    held.rollback().await.unwrap();
}
