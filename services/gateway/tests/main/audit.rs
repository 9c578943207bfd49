//! The audit over HTTP: lists, verification, and exports that are whole or say that they are not.

use std::net::IpAddr;

use contract::audit::{
    AuditFault, AuditOutcome, AuditPage, AuditProblem, AuditVerified, SignedThrough,
};
use domain::Timestamp;
use domain::access::Role;
use serde_json::{Value, json};

use crate::messages::documented;
use crate::standin::audit::{BROKEN, ENTRIES, event};
use crate::world::World;

const EVENTS: &str = "/api/v1/audit-events";

#[tokio::test]
async fn a_list_asks_what_its_query_says_and_the_client_is_known() {
    let world = World::new().await;
    let query = "actor=018f2f3e-0000-7000-8000-00000000000a&call=machine.revoke&resource=x&outcome=DENIED\
        &from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&limit=7&cursor=c";
    let reply = world.get(&format!("{EVENTS}?{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["items"][0]["resource"]["name"], "web-1");
    let asked = world.identity.lists.lock().unwrap().pop().unwrap();
    assert_eq!((asked.limit, asked.cursor.as_deref()), (7, Some("c")));
    assert_eq!(asked.filter.outcome, Some(AuditOutcome::Denied));
    assert_eq!(asked.filter.call.as_deref(), Some("machine.revoke"));
    assert_eq!(asked.filter.from, "2026-01-01T00:00:00Z".parse().ok());
    let origin = world.identity.origins.lock().unwrap().pop().unwrap();
    assert!(
        origin.as_ref().is_some_and(IpAddr::is_loopback),
        "{origin:?}"
    );
    for (query, path) in [
        ("outcome=MAYBE", "outcome"),
        ("actor=x", "actor"),
        ("from=yesterday", "from"),
        ("limit=0", "limit"),
    ] {
        let reply = world.get(&format!("{EVENTS}?{query}")).await;
        assert_eq!((reply.status, reply.paths()), (400, vec![path.to_owned()]));
    }
    let reply = world.get(&format!("{EVENTS}/verify?from=-1")).await;
    assert_eq!(
        (reply.status, reply.paths()),
        (400, vec!["from".to_owned()])
    );
    let reply = world.get(&format!("{EVENTS}/verify?from=3&to=9")).await;
    assert_eq!(
        reply.json(),
        json!({ "ok": true, "entries": 1, "firstSeq": 3, "lastSeq": 9, "problems": [] })
    );
}

#[tokio::test]
async fn an_export_is_a_line_for_each_entry_and_says_when_it_ends_early() {
    let world = World::new().await;
    let lines = |text: &str| -> Vec<Value> {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let reply = world.get(&format!("{EVENTS}/export")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    let exported = lines(&reply.text);
    assert_eq!(exported.len() as i64, ENTRIES);
    assert!(
        exported
            .iter()
            .zip(1..)
            .all(|(event, seq)| event["seq"] == json!(seq))
    );
    let origins = world.identity.origins.lock().unwrap().clone();
    assert!(
        origins.len() > 2 && origins.iter().all(Option::is_some),
        "each part has its client"
    );
    let reply = world.get(&format!("{EVENTS}/export?after=1200")).await;
    assert_eq!(lines(&reply.text).len(), 34);

    let broken = lines(
        &world
            .get(&format!("{EVENTS}/export?resource={BROKEN}"))
            .await
            .text,
    );
    let (last, entries) = broken.split_last().unwrap();
    assert_eq!(last["problem"]["kind"], "UNAVAILABLE", "{last}");
    assert_eq!(
        entries.last().unwrap()["seq"],
        json!(500),
        "from there it goes on"
    );

    *world.identity.role.lock().unwrap() = Role::Operator;
    for path in [
        EVENTS.to_owned(),
        format!("{EVENTS}/verify"),
        format!("{EVENTS}/export"),
    ] {
        let reply = world.get_as("dfk_good_operator", &path).await;
        assert_eq!(reply.status, 403, "{path}: {}", reply.text);
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
}

#[test]
fn what_identity_sends_is_what_the_document_says() {
    documented(&AuditPage {
        items: vec![event(1)],
        next_cursor: Some("c".into()),
    });
    let problem = |kind| AuditProblem {
        seq: 1,
        kind,
        words: "words".into(),
    };
    let problems = [
        AuditFault::Changed,
        AuditFault::Missing,
        AuditFault::RewrittenTail,
        AuditFault::Unsigned,
        AuditFault::BadSignature,
        AuditFault::CopiesChanged,
        AuditFault::ActionAway,
    ]
    .map(problem);
    documented(&AuditVerified {
        ok: false,
        entries: 1,
        first_seq: Some(1),
        last_seq: Some(1),
        signed_through: Some(SignedThrough {
            seq: 1,
            at: Timestamp::now(),
        }),
        problems: problems.into(),
        next: Some(2),
    });
}
