//! The feed of machine changes: whoever saw change n has seen all below n.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::identity::{MachineChanges, MachineRecord};
use domain::MachineId;
use futures::future::join_all;
use nkeys::KeyPair;

use crate::world::{PATIENCE, TOKEN, World};

async fn page(world: &World, after: i64, limit: u32) -> (Vec<MachineRecord>, bool) {
    let changes = MachineChanges { after, limit };
    let page = world
        .action
        .service_call(&changes, None, PATIENCE)
        .await
        .unwrap();
    (page.items, page.more)
}

#[tokio::test]
async fn a_poller_misses_nothing_while_machines_enrol_and_are_revoked() {
    let (world, _one) = World::start().await;
    let _two = world.replica().await;
    let world = Arc::new(world);
    let done = Arc::new(AtomicBool::new(false));
    let poller = tokio::spawn({
        let (world, done) = (world.clone(), done.clone());
        async move {
            let mut seen: HashMap<MachineId, MachineRecord> = HashMap::new();
            let mut cursor = 0;
            loop {
                let last = done.load(Ordering::SeqCst);
                let (items, more) = page(&world, cursor, 7).await;
                for item in items {
                    assert!(item.change > cursor, "in order");
                    cursor = item.change;
                    seen.insert(item.machine_id, item);
                }
                if last && !more {
                    return seen;
                }
            }
        }
    });
    for _ in 0..5 {
        let lives = (0..30).map(|index| {
            let world = world.clone();
            async move {
                let enrolled = world.enroll(&KeyPair::new_user(), TOKEN).await.unwrap();
                if index % 3 == 0 {
                    world.revoke(enrolled.machine_id).await.unwrap();
                }
            }
        });
        join_all(lives).await;
    }
    done.store(true, Ordering::SeqCst);
    let seen = poller.await.unwrap();
    assert_eq!(seen.len(), 150);
    let (all, more) = page(&world, 0, 1_000).await;
    assert!(!more);
    for machine in all {
        assert_eq!(seen.get(&machine.machine_id), Some(&machine));
    }
    assert_eq!(
        seen.values()
            .filter(|machine| machine.revoked_at.is_some())
            .count(),
        50
    );
}

#[tokio::test]
async fn pages_end_where_asked_or_at_a_mebibyte() {
    let (world, _replica) = World::start().await;
    for _ in 0..3 {
        world.machine().await;
    }
    let (items, more) = page(&world, 0, 2).await;
    assert_eq!((items.len(), more), (2, true));
    let (items, more) = page(&world, items[1].change, 2).await;
    assert_eq!((items.len(), more), (1, false));
    assert_eq!(page(&world, items[0].change, 0).await.0.len(), 0);
    assert_eq!(
        page(&world, 0, 0).await.0.len(),
        1,
        "a limit of nothing would never end"
    );
    // As large as enrolment takes them.
    world
        .alter(
            "UPDATE identity.machines SET labels = (SELECT jsonb_object_agg('k' || n, repeat('v', 63))
             FROM generate_series(1, 64) AS n)",
        )
        .await;
    world
        .alter(
            "INSERT INTO identity.machines (org_id, id, hostname, public_key, labels, inventory, token_id, enrolled_at, change)
             SELECT org_id, gen_random_uuid(), hostname, 'k' || n, labels, inventory, token_id, enrolled_at,
                 nextval('identity.machine_change')
             FROM (SELECT * FROM identity.machines LIMIT 1) AS m, generate_series(1, 400) AS n",
        )
        .await;
    let (mut cursor, mut seen, mut pages) = (0, 0, 0);
    loop {
        let (items, more) = page(&world, cursor, 1_000).await;
        assert!(serde_json::to_vec(&items).unwrap().len() <= 1_100_000);
        (seen, pages) = (seen + items.len(), pages + 1);
        cursor = items.last().unwrap().change;
        if !more {
            break;
        }
    }
    assert_eq!(seen, 403);
    assert!(pages > 1);
}
