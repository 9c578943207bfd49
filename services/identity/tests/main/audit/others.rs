//! What is told of besides what users do: what goes with whom, machines at the door, and what is removed for its age.

use std::time::Duration;

use contract::audit::{Actor, ActorKind, AuditOutcome};
use contract::identity::{ApiKeyCreate, KeyKind, MemberRemove};
use domain::OrgId;
use domain::access::Role;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{Countersigner, append, entry, of_call};
use crate::raw_agent::RawAgent;
use crate::world::{PATIENCE, World};

#[tokio::test]
async fn keys_that_go_with_their_maker_are_told_each() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, session) = world.join(&owner, "ann@example.org", Role::Admin).await;
    let mut made = Vec::new();
    for name in ["ci", "backup"] {
        let create = ApiKeyCreate {
            name: name.into(),
            kind: KeyKind::Api,
            role: Some(Role::Viewer),
            scopes: None,
            networks: None,
            machine_cap: None,
            expires_at: None,
            idempotency_key: None,
        };
        let key = world.ask_as(&session, create).await.unwrap();
        made.push(key.api_key.id.to_string());
    }
    let boss = world
        .ask_as(&owner, contract::identity::Me {})
        .await
        .unwrap();
    let remove = MemberRemove { user_id: ann };
    world.ask_as(&owner, remove).await.unwrap();
    let removed = of_call(&world, "member.remove", 1).await.remove(0).entry;
    assert_eq!(removed.resource.id, Some(ann.to_string()));
    let mut told = Vec::new();
    for event in of_call(&world, "key.revoke", 2).await {
        assert_eq!(event.entry.actor.id, Some(boss.id));
        assert_eq!(event.entry.outcome, AuditOutcome::Succeeded);
        assert_eq!(
            event.entry.reason.as_deref(),
            Some("whoever made it was removed")
        );
        told.extend(event.entry.resource.id);
    }
    told.sort();
    made.sort();
    assert_eq!(told, made);
}

#[tokio::test]
async fn a_revoked_machine_that_comes_back_is_told_of_and_counted() {
    let (world, replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    world.revoke(enrolled.machine_id).await.unwrap();
    for _ in 0..5 {
        assert!(RawAgent::connect(&world.nats, &key).await.is_err());
    }
    let first = of_call(&world, "machine.connect", 1).await.remove(0).entry;
    assert_eq!((first.outcome, first.count), (AuditOutcome::Denied, 1));
    assert_eq!(
        first.actor,
        Actor::of(ActorKind::Machine, enrolled.machine_id.0)
    );
    assert_eq!(first.reason.as_deref(), Some("this machine was revoked"));
    assert!(first.address.is_some_and(|address| address.is_loopback()));
    replica.stop().await;
    let _replica = world.replica().await;
    let all = of_call(&world, "machine.connect", 2).await;
    assert_eq!(all.iter().map(|event| event.entry.count).sum::<u32>(), 5);
}

#[tokio::test]
async fn a_chain_that_is_busy_keeps_no_other_from_losing_what_is_old() {
    let (world, replica) = World::start().await;
    let action = Countersigner::start(&world).await;
    let (one, other) = (OrgId::new(), OrgId::new());
    let (busy, idle) = (one.min(other), one.max(other));
    for org in [busy, idle] {
        append(&world, (0..3).map(|n| entry(org, n)).collect()).await;
    }
    action.sign(&world).await;
    for org in [busy, idle] {
        append(&world, vec![entry(org, 3)]).await;
    }
    replica.stop().await;
    world
        .alter("UPDATE identity.audit_events SET recorded_at = now() - interval '500 days' WHERE seq <= 3")
        .await;
    let url = testkit::Postgres::shared()
        .await
        .admin_url(&world.database.name);
    let mut admin = PgConnection::connect(&url).await.unwrap();
    admin.execute("BEGIN").await.unwrap();
    let lock = format!("SELECT seq FROM identity.audit_heads WHERE org_id = '{busy}' FOR UPDATE");
    admin.execute(AssertSqlSafe(lock)).await.unwrap();
    let _replica = world.replica().await;
    let first = async |org: OrgId| {
        let sql = format!("SELECT min(seq) FROM identity.audit_events WHERE org_id = '{org}'");
        world.count(&sql).await
    };
    testkit::eventually("what is old is removed", PATIENCE, || async {
        (first(idle).await == 4).then_some(())
    })
    .await;
    assert_eq!(first(busy).await, 1);
    admin.execute("ROLLBACK").await.unwrap();
    // Who removed how many is told in that chain.
    testkit::eventually("it is told", Duration::from_secs(30), || async {
        let sql = format!(
            "SELECT count(*) FROM identity.audit_events WHERE org_id = '{idle}' AND call = 'audit.retain' AND count = 3"
        );
        (world.count(&sql).await == 1).then_some(())
    })
    .await;
}
