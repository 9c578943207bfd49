//! Somebody with all rights in the database changes what was recorded: a verification finds it, and says where.

use std::time::Duration;

use contract::audit::{
    AuditCountersign, AuditEntry, AuditEvent, AuditExport, AuditFault, AuditHeads, AuditVerified,
    AuditVerify, Head, HeadSignature, SignedHead, chain,
};
use domain::Timestamp;
use nkeys::KeyPair;

use super::{Countersigner, append, entry};
use crate::world::{API_KEY, PATIENCE, World};

async fn verified(world: &World) -> AuditVerified {
    world.ask_as(API_KEY, AuditVerify::default()).await.unwrap()
}

/// The faults, and the first entry of each.
async fn faults(world: &World) -> Vec<(i64, AuditFault)> {
    let found = verified(world).await;
    assert_eq!(found.ok, found.problems.is_empty());
    found
        .problems
        .iter()
        .map(|problem| (problem.seq, problem.kind))
        .collect()
}

/// Twenty entries, of which the 10th and the 20th are signed, and five more that are not.
async fn world() -> (World, crate::world::Replica, Countersigner) {
    let (world, replica) = World::start().await;
    let action = Countersigner::start(&world).await;
    for portion in 0..2 {
        for n in 0..10 {
            append(&world, vec![entry(world.org, portion * 10 + n)]).await;
        }
        action.sign(&world).await;
    }
    for n in 20..25 {
        append(&world, vec![entry(world.org, n)]).await;
    }
    (world, replica, action)
}

#[tokio::test]
async fn a_chain_that_nobody_touched_is_whole_and_signed() {
    let (world, _replica, mut action) = world().await;
    let found = verified(&world).await;
    assert!(found.ok, "{found:?}");
    assert_eq!(
        (found.entries, found.first_seq, found.last_seq),
        (25, Some(1), Some(25))
    );
    assert_eq!(found.signed_through.unwrap().seq, 20);
    // A part of it.
    let part = AuditVerify {
        from: Some(5),
        to: Some(12),
    };
    let found = world.ask_as(API_KEY, part).await.unwrap();
    assert!(found.ok, "{found:?}");
    assert_eq!(
        (found.entries, found.first_seq, found.last_seq),
        (8, Some(5), Some(12))
    );
    assert_eq!(found.signed_through.unwrap().seq, 10);
    // Without action identity cannot vouch for itself, and says so.
    action.go_away().await;
    let found = verified(&world).await;
    assert!(!found.ok);
    assert_eq!(found.problems[0].kind, AuditFault::ActionAway);
    assert_eq!((found.entries, found.signed_through.unwrap().seq), (25, 20));
}

#[tokio::test]
async fn one_row_changed_by_hand_is_found_and_located() {
    let (world, _replica, _action) = world().await;
    for (column, value) in [
        ("actor_name", "'somebody else'"),
        ("at", "at - interval '1 day'"),
        ("after", "replace(after, '1.0', '1')"),
        ("before", "NULL"),
        ("count", "count + 1"),
        ("service", "'metrics'"),
    ] {
        let same = format!("SELECT {column}::text FROM identity.audit_events WHERE seq = 7");
        let change = |value: &str| {
            format!("UPDATE identity.audit_events SET {column} = {value} WHERE seq = 7")
        };
        let url = testkit::Postgres::shared()
            .await
            .admin_url(&world.database.name);
        let mut admin = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
            .await
            .unwrap();
        let was: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(same))
            .fetch_one(&mut admin)
            .await
            .unwrap();
        world.alter(&change(value)).await;
        assert_eq!(faults(&world).await, [(7, AuditFault::Changed)], "{column}");
        let kind = match column {
            "at" => "timestamptz",
            "count" => "bigint",
            _ => "text",
        };
        let was = was.unwrap().replace('\'', "''");
        world.alter(&change(&format!("'{was}'::{kind}"))).await;
        assert_eq!(faults(&world).await, [], "{column} is as it was");
    }
    // With its own hash made to fit.
    world
        .alter("UPDATE identity.audit_events SET hash = sha256('x') WHERE seq = 7")
        .await;
    assert_eq!(faults(&world).await[0], (7, AuditFault::Changed));
}

#[tokio::test]
async fn a_removed_row_is_found_and_located() {
    let (world, _replica, _action) = world().await;
    world
        .alter("DELETE FROM identity.audit_events WHERE seq IN (4, 5)")
        .await;
    assert_eq!(faults(&world).await, [(4, AuditFault::Missing)]);
}

#[tokio::test]
async fn a_tail_that_is_cut_off_is_found_and_located() {
    let (world, _replica, _action) = world().await;
    world
        .alter("DELETE FROM identity.audit_events WHERE seq > 22")
        .await;
    assert_eq!(faults(&world).await, [(23, AuditFault::Missing)]);
    // With the end moved to fit: what was not signed is gone for good, what was is missed.
    world
        .alter("DELETE FROM identity.audit_events WHERE seq > 15")
        .await;
    world
        .alter("DELETE FROM identity.audit_countersigns WHERE seq > 15")
        .await;
    world
        .alter("UPDATE identity.audit_heads AS h SET seq = 15, hash = e.hash FROM identity.audit_events AS e WHERE e.org_id = h.org_id AND e.seq = 15")
        .await;
    assert_eq!(faults(&world).await, [(16, AuditFault::Missing)]);
    // All of it.
    for table in ["audit_events", "audit_countersigns", "audit_heads"] {
        world.alter(&format!("DELETE FROM identity.{table}")).await;
    }
    assert_eq!(faults(&world).await, [(1, AuditFault::Missing)]);
}

/// Writes the chain anew from one place on, with everything that identity's database holds made to fit.
async fn rewrite(world: &World, from: i64, last: i64) {
    world
        .alter(&format!(
            "UPDATE identity.audit_events SET call = 'nothing.happened' WHERE seq = {from}"
        ))
        .await;
    let export = AuditExport {
        limit: 1_000,
        ..AuditExport::default()
    };
    let events = world.ask_as(API_KEY, export).await.unwrap().items;
    let mut prev = events
        .iter()
        .find(|event| event.seq == from - 1)
        .map_or(chain::ZERO, |event| event.hash);
    for seq in from..=last {
        let event = events.iter().find(|event| event.seq == seq).unwrap();
        let texts = texts(world, seq).await;
        let hash = record(event, &prev, &texts).hash();
        world
            .alter(&format!(
                "UPDATE identity.audit_events SET prev = decode('{}', 'hex'), hash = decode('{}', 'hex') WHERE seq = {seq}",
                chain::hex::text(&prev),
                chain::hex::text(&hash)
            ))
            .await;
        prev = hash;
    }
    world
        .alter(&format!(
            "UPDATE identity.audit_heads SET hash = decode('{}', 'hex')",
            chain::hex::text(&prev)
        ))
        .await;
    world
        .alter(&format!(
            "DELETE FROM identity.audit_countersigns WHERE seq >= {from}"
        ))
        .await;
}

async fn texts(world: &World, seq: i64) -> (Option<String>, Option<String>) {
    let url = testkit::Postgres::shared()
        .await
        .admin_url(&world.database.name);
    let mut admin = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
        .await
        .unwrap();
    sqlx::query_as("SELECT before, after FROM identity.audit_events WHERE seq = $1")
        .bind(seq)
        .fetch_one(&mut admin)
        .await
        .unwrap()
}

fn record<'a>(
    event: &'a AuditEvent,
    prev: &'a [u8],
    texts: &'a (Option<String>, Option<String>),
) -> chain::Record<'a> {
    let entry = &event.entry;
    chain::Record {
        org: entry.org,
        seq: event.seq,
        prev,
        id: entry.id,
        at_millis: entry.at.millis(),
        service: &event.service,
        actor_kind: entry.actor.kind.as_str(),
        actor_id: entry.actor.id,
        actor_name: entry.actor.name.as_deref(),
        credential: entry.credential.map(|id| id.0),
        address: None,
        call: &entry.call,
        resource_kind: &entry.resource.kind,
        resource_id: entry.resource.id.as_deref(),
        resource_name: entry.resource.name.as_deref(),
        outcome: entry.outcome.as_str(),
        reason: entry.reason.as_deref(),
        before: texts.0.as_deref(),
        after: texts.1.as_deref(),
        count: entry.count.into(),
        trace_id: entry.trace_id.as_deref(),
    }
}

#[tokio::test]
async fn a_rewritten_tail_is_found_by_what_action_signed() {
    let (world, _replica, mut action) = world().await;
    rewrite(&world, 13, 25).await;
    assert_eq!(faults(&world).await, [(11, AuditFault::RewrittenTail)]);
    let found = verified(&world).await;
    assert!(found.problems[0].words.contains("11 to 20"), "{found:?}");
    assert_eq!(
        found.signed_through.unwrap().seq,
        10,
        "that far it is as it was signed"
    );
    // The end is not signed again where something else was.
    let before = action.copies.lock().unwrap().len();
    // With action away nobody can tell, and it is said.
    action.go_away().await;
    let found = verified(&world).await;
    assert_eq!(found.problems[0].kind, AuditFault::ActionAway);
    assert_eq!(action.copies.lock().unwrap().len(), before);
}

#[tokio::test]
async fn a_signature_that_is_not_actions_is_none() {
    let (world, _replica, action) = world().await;
    action.copies.lock().unwrap()[1].signature.sig[0] ^= 1;
    let found = faults(&world).await;
    assert!(found.contains(&(20, AuditFault::BadSignature)), "{found:?}");
    assert!(
        found.contains(&(20, AuditFault::CopiesChanged)),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_key_that_stands_in_the_database_alone_signs_nothing() {
    let (world, _replica, action) = world().await;
    rewrite(&world, 13, 25).await;
    let export = AuditExport {
        limit: 1_000,
        ..AuditExport::default()
    };
    let events = world.ask_as(API_KEY, export).await.unwrap().items;
    let hash = events.iter().find(|event| event.seq == 20).unwrap().hash;
    // Somebody owns the whole database: a key of their own is action's, and has signed what they wrote, also by the copies.
    let own = KeyPair::new_user();
    let head = Head {
        org: world.org,
        seq: 20,
        hash,
    };
    let forged = HeadSignature::sign(head, Timestamp::now(), &own).unwrap();
    world
        .alter(&format!(
            "INSERT INTO identity.audit_signers (public_key) VALUES ('{}')",
            own.public_key()
        ))
        .await;
    let given = AuditCountersign {
        items: vec![forged.clone()],
    };
    world
        .action
        .service_call(&given, None, PATIENCE)
        .await
        .unwrap();
    {
        let mut copies = action.copies.lock().unwrap();
        let prev = copies[0].link;
        let link = forged.link(&prev);
        copies[1] = SignedHead {
            signature: forged,
            prev,
            link,
        };
    }
    assert_eq!(faults(&world).await, [(20, AuditFault::BadSignature)]);
}

/// Twenty-five entries of three days ago, of which the 10th and the last were signed then.
async fn old_world() -> (World, crate::world::Replica, Countersigner) {
    let (world, replica) = World::start().await;
    let action = Countersigner::start(&world).await;
    let then = Timestamp::now().plus(-chrono::Duration::days(3));
    for part in [0..10, 10..25] {
        for n in part {
            let told = AuditEntry {
                at: then,
                ..entry(world.org, n)
            };
            append(&world, vec![told]).await;
        }
        action.sign_at(&world, then).await;
    }
    (world, replica, action)
}

#[tokio::test]
async fn a_past_that_is_signed_anew_is_told_from_one_that_was_signed_in_its_time() {
    let (world, _replica, action) = old_world().await;
    let found = verified(&world).await;
    assert!(found.ok, "{found:?}");
    rewrite(&world, 13, 25).await;
    // Not even action remembers: the rest is signed as if it were new.
    action.copies.lock().unwrap().truncate(1);
    world
        .alter("UPDATE identity.audit_heads SET signed_seq = 10")
        .await;
    action.sign(&world).await;
    let found = verified(&world).await;
    assert_eq!(found.signed_through.unwrap().seq, 25);
    assert_eq!(faults(&world).await, [(11, AuditFault::Unsigned)]);
    assert!(
        found.problems[0].words.contains("nobody signed it before"),
        "{found:?}"
    );
    // Also where a part begins behind it, as the second answer about a long chain does.
    let part = AuditVerify {
        from: Some(25),
        to: None,
    };
    let found = world.ask_as(API_KEY, part).await.unwrap();
    assert_eq!(
        (found.problems[0].seq, found.problems[0].kind),
        (11, AuditFault::Unsigned),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_signature_of_what_is_not_there_yet_is_not_kept() {
    let (world, _replica, action) = world().await;
    let head = Head {
        org: world.org,
        seq: 1_000,
        hash: [7; 32],
    };
    let early = HeadSignature::sign(head, Timestamp::now(), &action.key).unwrap();
    let given = AuditCountersign { items: vec![early] };
    world
        .action
        .service_call(&given, None, PATIENCE)
        .await
        .unwrap();
    let kept = "SELECT count(*) FROM identity.audit_countersigns WHERE seq = 1000";
    assert_eq!(world.count(kept).await, 0);
    let heads = AuditHeads {
        after: None,
        limit: 500,
    };
    let open = world.action.service_call(&heads, None, PATIENCE).await;
    let open = open.unwrap().items;
    assert!(
        open.iter()
            .any(|head| (head.org, head.seq) == (world.org, 25)),
        "{open:?}"
    );
}

#[tokio::test]
async fn what_nobody_signs_for_long_is_said() {
    let (world, _replica, _action) = world().await;
    for recorded in ["- interval '11 minutes'", "+ interval '1 year'"] {
        world
            .alter(&format!(
                "UPDATE identity.audit_events SET recorded_at = now() {recorded} WHERE seq > 20"
            ))
            .await;
        assert_eq!(
            faults(&world).await,
            [(21, AuditFault::Unsigned)],
            "{recorded}"
        );
    }
}

#[tokio::test]
async fn retention_removes_a_prefix_up_to_a_signed_end_and_the_rest_stays_whole() {
    let (world, replica, action) = world().await;
    let pools = world.database.pools("identity");
    let drop_old = async |days: i32| -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT identity.audit_events_drop($1, $2, 1000)")
            .bind(world.org.0)
            .bind(days)
            .fetch_one(pools.system())
            .await
    };
    assert!(drop_old(89).await.is_err(), "a quarter stays");
    assert_eq!(drop_old(90).await.unwrap(), 0, "nothing is old");
    world
        .alter("UPDATE identity.audit_events SET recorded_at = now() - interval '401 days' WHERE seq <= 17")
        .await;
    assert_eq!(drop_old(500).await.unwrap(), 0);
    // The service itself, at its start.
    replica.stop().await;
    let _replica = world.replica().await;
    testkit::eventually(
        "what is old is removed",
        Duration::from_secs(10),
        || async {
            (world
                .count("SELECT min(seq) FROM identity.audit_events")
                .await
                == 11)
                .then_some(())
        },
    )
    .await;
    // Which is told like everything else.
    let told = super::of_call(&world, "audit.retain", 1).await.remove(0);
    assert_eq!((told.seq, told.entry.count), (26, 10));
    // Signed just now, of course: the test has no 90 days.
    let words = verified(&world).await.problems;
    assert_eq!(words.len(), 1, "{words:?}");
    assert!(words[0].words.contains("before their time"), "{words:?}");
    let key = &action.key;
    for copy in action.copies.lock().unwrap().iter_mut() {
        let at = Timestamp::now().plus(-chrono::Duration::days(401));
        copy.signature =
            contract::audit::HeadSignature::sign(copy.signature.head.clone(), at, key).unwrap();
        copy.link = copy.signature.link(&copy.prev);
    }
    let mut prev = chain::ZERO;
    for copy in action.copies.lock().unwrap().iter_mut() {
        copy.prev = prev;
        copy.link = copy.signature.link(&prev);
        prev = copy.link;
    }
    world
        .alter("DELETE FROM identity.audit_countersigns WHERE seq = 10")
        .await;
    let found = verified(&world).await;
    assert!(found.ok, "{found:?}");
    assert_eq!((found.entries, found.first_seq), (16, Some(11)));
    // Somebody who moves the anchor himself is seen.
    world
        .alter("DELETE FROM identity.audit_events WHERE seq <= 12")
        .await;
    world
        .alter("UPDATE identity.audit_heads AS h SET anchor_seq = 12, anchor_hash = e.prev FROM identity.audit_events AS e WHERE e.org_id = h.org_id AND e.seq = 13")
        .await;
    assert_eq!(faults(&world).await, [(12, AuditFault::Unsigned)]);
}
