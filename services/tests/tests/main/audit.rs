//! The audit on the whole product with two replicas of each service: what is done over HTTP is in it, with the client's
//! address; whoever owns the database changes an entry, removes one, or writes the rest anew, and is found out.

use std::time::Duration;

use contract::audit::chain::{self, Record, hex};
use dashfleet_tests::{Api, Product, TestAgent};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const EVENTS: &str = "/api/v1/audit-events";
/// Action signs each minute.
const SIGNED: Duration = Duration::from_secs(90);

/// A heavy request, of which a credential has twenty a second.
async fn verified(api: &Api) -> Value {
    tokio::time::sleep(Duration::from_millis(60)).await;
    api.get(&format!("{EVENTS}/verify")).await
}

/// The faults, as `[place, kind]`.
async fn faults(api: &Api) -> Value {
    let found = verified(api).await;
    let problems = found["problems"].as_array().expect("problems").iter();
    problems
        .map(|problem| json!([problem["seq"], problem["kind"]]))
        .collect()
}

/// The owner of the tables, to whom row-level security is no obstacle: he takes it away.
async fn owner(product: &Product) -> PgConnection {
    let url = product.dev()["postgresUrl"]
        .as_str()
        .expect("a URL")
        .to_owned();
    let mut owner = PgConnection::connect(&url).await.expect("PostgreSQL");
    for table in ["audit_events", "audit_heads", "audit_countersigns"] {
        let sql = format!("ALTER TABLE identity.{table} NO FORCE ROW LEVEL SECURITY");
        owner
            .execute(AssertSqlSafe(sql))
            .await
            .expect("the owner may");
    }
    owner
}

async fn alter(owner: &mut PgConnection, sql: String) {
    owner
        .execute(AssertSqlSafe(sql))
        .await
        .expect("the owner may");
}

#[tokio::test]
async fn what_is_done_is_told_and_whoever_changes_it_by_hand_is_found_out() {
    let product = Product::start(2);
    let api = product.api();
    let agent = TestAgent::enroll_with(&product, "web", &["env=prod"]);
    let machine = format!("/api/v1/machines/{}", agent.machine);
    for n in 0..12 {
        let edit = json!({ "displayName": format!("Web {n}") });
        let (status, body) = api
            .send(Method::PATCH, &machine, &[], Some(edit))
            .await
            .expect("an answer");
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let (status, _) = api
        .post(
            "/api/v1/actions",
            json!({ "machineId": agent.machine, "kind": "ping", "payload": {} }),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let edits = format!("{EVENTS}?call=machine.edit&resource={}", agent.machine);
    let items = testkit::eventually(
        "all edits and the action are told",
        Duration::from_secs(20),
        || async {
            let created = api.get(&format!("{EVENTS}?call=action.create")).await;
            let items = api.get(&edits).await["items"].as_array().cloned()?;
            (items.len() == 12 && created["items"][0]["service"] == "action").then_some(items)
        },
    )
    .await;
    assert_eq!(
        items[0]["after"]["displayName"], "Web 11",
        "the latest first"
    );
    assert_eq!(items[0]["address"], "127.0.0.1");
    assert_eq!(items[0]["actor"]["kind"], "API_KEY");

    let last = testkit::eventually("all of it is signed", SIGNED, || async {
        let found = verified(&api).await;
        assert_eq!(found["problems"], json!([]), "{found}");
        let signed = found["signedThrough"]["seq"].as_i64()?;
        (signed >= 14 && Some(signed) == found["lastSeq"].as_i64()).then_some(signed)
    })
    .await;

    let mut owner = owner(&product).await;
    let change =
        |name: &str| format!("UPDATE identity.audit_events SET actor_name = {name} WHERE seq = 6");
    alter(&mut owner, change("'somebody else'")).await;
    assert_eq!(faults(&api).await, json!([[6, "CHANGED"]]));
    alter(&mut owner, change("'bootstrap'")).await;
    assert_eq!(faults(&api).await, json!([]));
    alter(
        &mut owner,
        "CREATE TEMPORARY TABLE gone AS SELECT * FROM identity.audit_events WHERE seq = 8".into(),
    )
    .await;
    alter(
        &mut owner,
        "DELETE FROM identity.audit_events WHERE seq = 8".into(),
    )
    .await;
    assert_eq!(faults(&api).await, json!([[8, "MISSING"]]));
    alter(
        &mut owner,
        "INSERT INTO identity.audit_events SELECT * FROM gone".into(),
    )
    .await;
    assert_eq!(faults(&api).await, json!([]));
    rewrite(&mut owner, 10).await;
    let found = verified(&api).await;
    let problem = &found["problems"][0];
    assert_eq!(problem["kind"], "REWRITTEN_TAIL", "{found}");
    let from = problem["seq"].as_i64().expect("a place");
    assert!((1..=10).contains(&from) && from <= last, "{found}");
}

type Row = (
    uuid::Uuid,
    i64,
    Vec<u8>,
    uuid::Uuid,
    chrono::DateTime<chrono::Utc>,
    String,
    String,
    Option<uuid::Uuid>,
    Option<String>,
    Option<uuid::Uuid>,
    Option<String>,
    String,
    String,
);
type Rest = (
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
    Option<String>,
);

/// Writes the chain anew from this place on, and all that identity keeps of it.
async fn rewrite(owner: &mut PgConnection, from: i64) {
    alter(
        owner,
        format!("UPDATE identity.audit_events SET call = 'nothing.happened' WHERE seq = {from}"),
    )
    .await;
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT org_id, seq, prev, id, at, service, actor_kind, actor_id, actor_name, credential, address, call, resource_kind
         FROM identity.audit_events WHERE seq >= $1 ORDER BY seq",
    )
    .bind(from)
    .fetch_all(&mut *owner)
    .await
    .expect("rows");
    let rests: Vec<Rest> = sqlx::query_as(
        "SELECT resource_id, resource_name, outcome, reason, before, after, count, trace_id
         FROM identity.audit_events WHERE seq >= $1 ORDER BY seq",
    )
    .bind(from)
    .fetch_all(&mut *owner)
    .await
    .expect("rows");
    let mut prev: chain::Hash = rows[0].2.clone().try_into().expect("a hash");
    for (row, rest) in rows.iter().zip(&rests) {
        let hash = Record {
            org: row.0.into(),
            seq: row.1,
            prev: &prev,
            id: row.3,
            at_millis: row.4.timestamp_millis(),
            service: &row.5,
            actor_kind: &row.6,
            actor_id: row.7,
            actor_name: row.8.as_deref(),
            credential: row.9,
            address: row.10.as_deref(),
            call: &row.11,
            resource_kind: &row.12,
            resource_id: rest.0.as_deref(),
            resource_name: rest.1.as_deref(),
            outcome: &rest.2,
            reason: rest.3.as_deref(),
            before: rest.4.as_deref(),
            after: rest.5.as_deref(),
            count: rest.6,
            trace_id: rest.7.as_deref(),
        }
        .hash();
        alter(
            owner,
            format!(
                "UPDATE identity.audit_events SET prev = decode('{}', 'hex'), hash = decode('{}', 'hex') WHERE seq = {}",
                hex::text(&prev),
                hex::text(&hash),
                row.1
            ),
        )
        .await;
        prev = hash;
    }
    alter(
        owner,
        format!(
            "UPDATE identity.audit_heads SET hash = decode('{}', 'hex')",
            hex::text(&prev)
        ),
    )
    .await;
    alter(
        owner,
        format!("DELETE FROM identity.audit_countersigns WHERE seq >= {from}"),
    )
    .await;
}
