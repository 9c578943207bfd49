//! What this service tells the audit, and what it signs of it.

use std::collections::BTreeSet;

use contract::action::{ActionCancel, ActionFanOut};
use contract::audit::{ActorKind, AuditEntry, AuditOutcome, AuditSigned, Head};
use contract::legacy::LegacyQueue;
use contract::{Problem, ProblemKind};
use domain::access::{LEGACY_OPERATOR, Role, Scopes};
use domain::{CredentialId, OrgId};
use serde_json::json;

use super::world::{COUNTERSIGN_EVERY, PATIENCE, SECOND, World, new_action};

/// What came of a call, when there are so many different entries.
async fn told(world: &World, call: &str, many: usize) -> Vec<AuditEntry> {
    testkit::eventually(&format!("{many} entries of {call}"), PATIENCE, || async {
        let mut seen = BTreeSet::new();
        let mut entries = world.identity().audit.clone();
        entries.retain(|entry| entry.call == call && seen.insert(entry.id));
        assert!(entries.len() <= many, "{entries:?}");
        (entries.len() == many).then_some(entries)
    })
    .await
}

async fn left(world: &World) -> i64 {
    world
        .count("SELECT count(*) FROM action.audit_outbox")
        .await
}

#[tokio::test]
async fn what_is_created_and_cancelled_is_told_and_a_payload_is_not() {
    let world = World::new().await;
    let agent = world.machine().await;
    let here = "192.0.2.7".parse().unwrap();
    let action = bus::client::on_behalf_of(here, async {
        let secret = json!({ "message": "the door code is 1234" });
        let action = world
            .ask(&new_action(agent.machine, "message", secret))
            .await
            .unwrap();
        let cancel = ActionCancel {
            action_id: action.id,
        };
        world.ask(&cancel).await.unwrap();
        // Again: nothing more becomes of it.
        world.ask(&cancel).await.unwrap();
        world.choose(&[agent.machine]);
        let fan_out = ActionFanOut {
            selector: "env=prod".into(),
            kind: "ping".into(),
            payload: json!({}),
            not_after: None,
            idempotent: false,
            idempotency_key: Some("once".into()),
        };
        world.ask(&fan_out).await.unwrap();
        world.ask(&fan_out).await.unwrap();
        action
    })
    .await;
    let created = told(&world, "action.create", 1).await.remove(0);
    assert_eq!(created.resource.id, Some(action.id.to_string()));
    assert_eq!(
        (created.org, created.outcome),
        (world.org, AuditOutcome::Succeeded)
    );
    assert_eq!(
        (created.actor.kind, created.address),
        (ActorKind::User, Some(here))
    );
    let after = created.after.unwrap();
    assert_eq!(after["machineId"], json!(agent.machine));
    assert!(!after.to_string().contains("1234") && after["payloadSha256"].is_string());
    let cancelled = told(&world, "action.cancel", 1).await.remove(0);
    assert_eq!(cancelled.before.unwrap()["status"], "QUEUED");
    let fan_out = told(&world, "action.fan-out", 1).await.remove(0);
    assert_eq!(
        (fan_out.count, fan_out.after.unwrap()["selector"].as_str()),
        (1, Some("env=prod"))
    );
    assert_eq!(left(&world).await, 0);

    // What an agent over HTTP is to do comes the same way.
    let key = CredentialId::new();
    world.http_machine("old laptop", key, "192.0.2.0/24").await;
    let grant = world.grant_of(
        world.org,
        Scopes::of_legacy_key([LEGACY_OPERATOR]).unwrap(),
        key,
    );
    let queue = LegacyQueue {
        name: "old laptop".into(),
        kind: "restart".into(),
        payload: json!({}),
    };
    world.ask_as(&grant, &queue).await.unwrap();
    assert_eq!(
        told(&world, "legacy.queue", 1).await[0].credential,
        Some(key)
    );
}

#[tokio::test]
async fn who_is_refused_is_told_of_and_what_fails_otherwise_is_not() {
    let world = World::new().await;
    let agent = world.machine().await;
    let viewer = world.grant(world.org, Role::Viewer);
    let reboot = new_action(agent.machine, "reboot", json!({}));
    for _ in 0..10 {
        let refused: Problem = world.ask_as(&viewer, &reboot).await.unwrap_err();
        assert_eq!(refused.kind, ProblemKind::Forbidden);
    }
    let wrong = new_action(agent.machine, "format-disk", json!({}));
    assert_eq!(
        world.ask(&wrong).await.unwrap_err().kind,
        ProblemKind::Invalid
    );
    let denied = told(&world, "action.create", 1).await.remove(0);
    assert_eq!((denied.outcome, denied.count), (AuditOutcome::Denied, 1));
    assert_eq!(
        denied.reason.as_deref(),
        Some("this credential lacks the scope `actions:reboot`")
    );
    assert_eq!(denied.before, None);
}

#[tokio::test]
async fn while_identity_is_away_entries_wait_and_none_is_lost() {
    let world = World::with_replicas(2).await;
    let agent = world.machine().await;
    world.identity().audit_away = true;
    for _ in 0..20 {
        world.create(agent.machine, "ping").await;
    }
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(left(&world).await, 20);
    // Then its answers are lost: it has them, and is given them again by the same ids.
    {
        let mut identity = world.identity();
        (identity.audit_away, identity.audit_answers_lost) = (false, true);
    }
    testkit::eventually("identity has them", PATIENCE * 2, || async {
        (world.identity().audit.len() >= 40).then_some(())
    })
    .await;
    assert_eq!(left(&world).await, 20);
    world.identity().audit_answers_lost = false;
    testkit::eventually("the outbox is empty", PATIENCE * 2, || async {
        (left(&world).await == 0).then_some(())
    })
    .await;
    told(&world, "action.create", 20).await;
}

#[tokio::test]
async fn an_end_is_signed_once_by_whichever_replica_and_never_another_in_its_place() {
    let world = World::with_replicas(2).await;
    let org = OrgId::new();
    let head = |seq: i64, byte: u8| Head {
        org,
        seq,
        hash: [byte; 32],
    };
    let signed = async |seq: i64| {
        testkit::eventually("the end is signed", PATIENCE, || async {
            let found = world.identity().countersigned.clone();
            found.into_iter().find(|signed| signed.head.seq == seq)
        })
        .await
    };
    world.identity().heads = vec![head(7, 7)];
    let keys = world.identity().action_keys.clone();
    assert_eq!(signed(7).await.verify(&keys), Ok(()));
    // It is asked again and again, and gives the same.
    tokio::time::sleep(COUNTERSIGN_EVERY * 4).await;
    let given: BTreeSet<Vec<u8>> = world
        .identity()
        .countersigned
        .iter()
        .map(|signed| signed.sig.clone())
        .collect();
    assert_eq!(given.len(), 1);
    world.identity().heads = vec![head(9, 9)];
    signed(9).await;
    // What identity says later of what was signed is not signed.
    for wrong in [head(9, 1), head(8, 8)] {
        world.identity().countersigned.clear();
        world.identity().heads = vec![wrong];
        tokio::time::sleep(COUNTERSIGN_EVERY * 4).await;
        assert!(world.identity().countersigned.is_empty());
    }
    let identity = world.nats.bus("identity").await;
    let asked = AuditSigned {
        org,
        from: 0,
        limit: 10,
    };
    let page = identity.service_call(&asked, None, PATIENCE).await.unwrap();
    let seqs: Vec<i64> = page
        .items
        .iter()
        .map(|copy| copy.signature.head.seq)
        .collect();
    assert_eq!(seqs, [7, 9]);
    assert!(page.items.iter().all(contract::audit::SignedHead::is_whole));
    assert_eq!(page.items[1].prev, page.items[0].link);
    assert_eq!(page.keys, keys);
    let stranger = world.nats.bus("metrics").await;
    assert!(stranger.service_call(&asked, None, SECOND).await.is_err());
}

#[tokio::test]
async fn copies_that_are_taken_out_of_the_database_are_remembered_and_put_back() {
    let world = World::new().await;
    let org = OrgId::new();
    let head = |seq: i64, byte: u8| Head {
        org,
        seq,
        hash: [byte; 32],
    };
    let signed = async |seq: i64| {
        testkit::eventually("the end is signed", PATIENCE, || async {
            let found = world.identity().countersigned.clone();
            found.into_iter().find(|signed| signed.head.seq == seq)
        })
        .await
    };
    let identity = world.nats.bus("identity").await;
    let copies = async || {
        let asked = AuditSigned {
            org,
            from: 0,
            limit: 10,
        };
        let page = identity.service_call(&asked, None, PATIENCE).await.unwrap();
        page.items
    };
    world.identity().heads = vec![head(7, 7)];
    signed(7).await;
    world.identity().heads.clear();
    // Somebody owns the database: copies go, and with another end in their place all would be as if they had never been.
    let url = testkit::Postgres::shared()
        .await
        .admin_url(&world.database.name);
    let mut owner = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
        .await
        .unwrap();
    let gone = sqlx::query("DELETE FROM action.audit_heads_signed")
        .execute(&mut owner)
        .await
        .unwrap();
    assert_eq!(gone.rows_affected(), 1);
    let told = copies().await;
    assert_eq!((told.len(), told[0].signature.head.hash), (1, [7; 32]));
    world.identity().countersigned.clear();
    world.identity().heads = vec![head(7, 1)];
    tokio::time::sleep(COUNTERSIGN_EVERY * 4).await;
    assert!(world.identity().countersigned.is_empty());
    let rows = "SELECT count(*) FROM action.audit_heads_signed";
    assert_eq!(world.count(rows).await, 1, "it is put back");
    // What comes later follows it.
    world.identity().heads = vec![head(9, 9)];
    signed(9).await;
    let told = copies().await;
    let seqs: Vec<i64> = told.iter().map(|copy| copy.signature.head.seq).collect();
    assert_eq!(seqs, [7, 9]);
    assert_eq!(told[1].prev, told[0].link);
    // A process that remembers less may have signed on meanwhile, where the last copy is missed.
    let (nine, gone) = (
        told[1].clone(),
        "DELETE FROM action.audit_heads_signed WHERE seq = 9",
    );
    world.identity().heads.clear();
    sqlx::query(gone).execute(&mut owner).await.unwrap();
    let other = format!(
        "INSERT INTO action.audit_heads_signed (org_id, seq, hash, at, kid, signature, prev, link)
        SELECT org_id, 10, sha256('x'), now(), kid, signature, link, sha256('y') FROM action.audit_heads_signed
        WHERE org_id = '{org}' AND seq = 7"
    );
    sqlx::query(sqlx::AssertSqlSafe(other))
        .execute(&mut owner)
        .await
        .unwrap();
    let told = copies().await;
    assert_eq!(told[1], nine, "it is still told");
    world.identity().heads = vec![head(11, 11)];
    signed(11).await;
    let told = copies().await;
    let seqs: Vec<i64> = told.iter().map(|copy| copy.signature.head.seq).collect();
    assert_eq!(seqs, [7, 9, 10, 11]);
    assert_eq!(told[1].signature, nine.signature, "and put back");
    assert!(told[1].is_whole() && told[1].prev != nine.prev);
    assert_eq!(world.count(rows).await, 4);
}
