//! Quarantine and release, and who may do what.

use contract::event::Event;
use contract::identity::{
    MachineChanges, MachineQuarantine, MachineRecord, MachineRelease, ReleaseAccept,
};
use contract::{Envelope, Problem, ProblemKind};
use domain::{MachineId, OrgId};
use futures::StreamExt;

use crate::world::{API_KEY, PATIENCE, World};

async fn quarantine(world: &World, org: OrgId, id: MachineId, why: &str) -> Result<(), Problem> {
    let request = MachineQuarantine {
        org,
        machine_id: id,
        reason: why.into(),
    };
    world
        .action
        .service_call(&request, None, PATIENCE)
        .await
        .map(|_| ())
}

async fn release(world: &World, id: MachineId) -> Result<(), Problem> {
    world
        .ask_as(
            API_KEY,
            MachineRelease {
                machine_id: id,
                accept: ReleaseAccept::Known,
            },
        )
        .await
        .map(|_| ())
}

async fn record(world: &World) -> MachineRecord {
    let changes = MachineChanges {
        after: 0,
        limit: 10,
    };
    world
        .action
        .service_call(&changes, None, PATIENCE)
        .await
        .unwrap()
        .items
        .remove(0)
}

#[tokio::test]
async fn a_quarantine_stays_until_an_operator_releases_the_machine() {
    let (world, _replica) = World::start().await;
    let mut events = world.gateway.subscribe("df.evt.*.machine.*").await.unwrap();
    world.gateway.flush().await.unwrap();
    let (_, enrolled) = world.machine().await;
    let (org, id) = (enrolled.organization_id, enrolled.machine_id);
    release(&world, id).await.unwrap();
    quarantine(&world, org, id, "fewer\u{7} entries")
        .await
        .unwrap();
    quarantine(&world, org, id, "something else").await.unwrap();
    let quarantined = record(&world).await;
    assert!(quarantined.quarantined_at.is_some());
    assert_eq!(
        quarantined.quarantine_reason.as_deref(),
        Some("fewer entries")
    );
    release(&world, id).await.unwrap();
    release(&world, id).await.unwrap();
    let released = record(&world).await;
    assert_eq!(
        (released.quarantined_at, released.quarantine_reason),
        (None, None)
    );
    assert_eq!(released.releases, 1);
    quarantine(&world, org, id, "again").await.unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        let message = tokio::time::timeout(PATIENCE, events.next())
            .await
            .unwrap()
            .unwrap();
        let event: Envelope<Event> = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(event.body.subject_id, id.0);
        told.push((event.body.verb, event.body.version));
    }
    let verbs: Vec<&str> = told.iter().map(|(verb, _)| verb.as_str()).collect();
    assert_eq!(
        verbs,
        ["enrolled", "quarantined", "released", "quarantined"]
    );
    assert!(told.is_sorted_by(|one, two| one.1 < two.1), "{told:?}");
    assert_eq!(told[3].1, record(&world).await.change);
}

#[tokio::test]
async fn a_revoked_machine_is_neither_quarantined_nor_released() {
    let (world, _replica) = World::start().await;
    let (_, enrolled) = world.machine().await;
    let (org, id) = (enrolled.organization_id, enrolled.machine_id);
    world.revoke(id).await.unwrap();
    let before = record(&world).await;
    quarantine(&world, org, id, "late").await.unwrap();
    assert_eq!(record(&world).await, before);
    assert_eq!(
        release(&world, id).await.err().unwrap().kind,
        ProblemKind::Conflict
    );
}

#[tokio::test]
async fn only_action_quarantines_and_only_mirrors_read_changes() {
    let (world, _replica) = World::start().await;
    let (_, enrolled) = world.machine().await;
    let (org, machine_id) = (enrolled.organization_id, enrolled.machine_id);
    let metrics = world.nats.bus("metrics").await;
    let request = MachineQuarantine {
        org,
        machine_id,
        reason: "no".into(),
    };
    let refused = metrics
        .service_call(&request, None, PATIENCE)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind, ProblemKind::Forbidden);
    let put = contract::identity::ActionKeysPut {
        keys: vec![nkeys::KeyPair::new_user().public_key()],
    };
    let refused = metrics
        .service_call(&put, None, PATIENCE)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind, ProblemKind::Forbidden);
    let changes = MachineChanges {
        after: 0,
        limit: 10,
    };
    assert!(metrics.service_call(&changes, None, PATIENCE).await.is_ok());
    assert!(record(&world).await.quarantined_at.is_none());
    // The wrong organisation: the same words as for no machine at all.
    let foreign = quarantine(&world, OrgId::new(), machine_id, "x")
        .await
        .err()
        .unwrap();
    let nowhere = quarantine(&world, org, MachineId::new(), "x")
        .await
        .err()
        .unwrap();
    assert_eq!(foreign, nowhere);
    assert_eq!(foreign.kind, ProblemKind::NotFound);
}
