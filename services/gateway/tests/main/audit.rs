//! The audit over HTTP: lists, verification, and exports that are whole or say that they are not.

use std::net::IpAddr;
use std::time::Duration;

use contract::audit::{
    AuditFault, AuditOutcome, AuditPage, AuditProblem, AuditRefused, AuditVerified, SignedThrough,
    TurnedAway,
};
use domain::access::Role;
use domain::{CredentialId, Timestamp};
use serde_json::{Value, json};
use testkit::eventually;

use crate::messages::documented;
use crate::standin::audit::{BROKEN, ENTRIES, event};
use crate::world::World;

const EVENTS: &str = "/api/v1/audit-events";
/// A key that is taken from another network.
const ELSEWHERE: &str = "dfk_good_elsewhere";

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

/// What identity was told of refused attempts, when there are so many.
async fn told(world: &World, many: u32) -> Vec<(CredentialId, Option<IpAddr>, AuditRefused)> {
    eventually(
        &format!("{many} refused attempts are told"),
        Duration::from_secs(10),
        || async {
            let told = world.identity.turned_away.lock().unwrap().clone();
            let all: u32 = told.iter().map(|(_, _, refused)| refused.count).sum();
            assert!(all <= many, "{told:?}");
            (all == many).then_some(told)
        },
    )
    .await
}

#[tokio::test]
async fn whom_the_gateway_itself_refuses_is_told_with_their_own_grant_and_counted() {
    let world = World::new().await;
    for _ in 0..50 {
        let reply = world.get_as(ELSEWHERE, "/api/v1/machines?limit=7").await;
        assert_eq!(reply.status, 403, "{}", reply.text);
    }
    let reply = world.get_as("dfl_good", "/api/v1/auth/me").await;
    assert_eq!(reply.status, 403, "{}", reply.text);
    assert_eq!(world.get("/api/fleet").await.status, 403);
    // A page of another site, or none that proves anything: with a session that is known, and with one that is not.
    for (token, status) in [
        ("dfa_good.1", 403),
        ("dfa_unknown.1", 403),
        ("dfk_good.1", 401),
    ] {
        let cookie = format!("dashfleet-session={token}");
        let headers: [(&str, &[u8]); 2] = [("authorization", b""), ("cookie", cookie.as_bytes())];
        let reply = world
            .send("POST", "/api/v1/auth/logout", &headers, "")
            .await;
        assert_eq!(reply.status, status, "{token}: {}", reply.text);
    }
    // What is refused for another reason is no attempt at what somebody may not do.
    assert_eq!(world.get("/api/v1/machines?nothing=1").await.status, 400);
    assert_eq!(
        world.get_as("dfk_unknown", "/api/v1/machines").await.status,
        401
    );

    let told = told(&world, 53).await;
    let mut seen = Vec::new();
    for (credential, operation, reason) in [
        (ELSEWHERE, "GET /api/v1/machines", TurnedAway::Network),
        ("dfl_good", "GET /api/v1/auth/me", TurnedAway::LegacyKey),
        ("dfk_good", "GET /api/fleet", TurnedAway::NotLegacyKey),
        (
            "dfa_good",
            "POST /api/v1/auth/logout",
            TurnedAway::ForeignPage,
        ),
    ] {
        let credential = world.identity.credential(credential);
        let of = told.iter().filter(|(who, from, refused)| {
            assert!(from.is_some_and(|from| from.is_loopback()), "{from:?}");
            (*who, refused.operation.as_str(), refused.reason) == (credential, operation, reason)
        });
        seen.push((
            of.clone().count(),
            of.map(|(_, _, refused)| refused.count).sum::<u32>(),
        ));
    }
    let counts: Vec<u32> = seen.iter().map(|(_, attempts)| *attempts).collect();
    assert_eq!(counts, [50, 1, 1, 1]);
    // Once a second, however many there are.
    assert!(seen[0].0 < 10, "{seen:?}");
}

#[tokio::test]
async fn while_identity_is_away_a_refused_attempt_waits() {
    let mut world = World::new().await;
    let refused = async |world: &World| {
        let reply = world.get_as(ELSEWHERE, "/api/v1/machines").await;
        assert_eq!(reply.status, 403, "{}", reply.text);
    };
    refused(&world).await;
    told(&world, 1).await;
    world.identity_leaves().await;
    for _ in 0..3 {
        refused(&world).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert_eq!(world.identity.turned_away.lock().unwrap().len(), 1);
    let service = world.identity.answer(&world.identity_bus).await;
    told(&world, 4).await;
    // The last one when the gateway ends.
    refused(&world).await;
    world.end().await.unwrap();
    told(&world, 5).await;
    service.stop().await;
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
