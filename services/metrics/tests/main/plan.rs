//! Plans: with ten thousand machines in an organisation among others, the hot questions are answered by indexes.

use contract::metrics::SERVICE;
use dashfleet_metrics::Timing;
use dashfleet_metrics::store::{machine, presence, sample, selection};
use domain::OrgId;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use crate::main::world::World;

const FILL_MACHINES: &str = "
    INSERT INTO metrics.machines (org_id, id, change, hostname, labels, inventory, enrolled_at, online)
    SELECT $1, gen_random_uuid(), n, 'web-' || n, jsonb_build_object('env', CASE n % 10 WHEN 0 THEN 'test' ELSE 'prod' END, 'n', n::text), '{}', now(), n % 3 <> 0
    FROM generate_series(1, $2) n";
const FILL_LATEST: &str = "
    INSERT INTO metrics.latest (org_id, machine_id, last_seen_at, sample_at, sample, health_score, health_status)
    SELECT org_id, id, now() - make_interval(secs => change), now(), '{}', change % 101, CASE WHEN change % 101 >= 80 THEN 'OK' WHEN change % 101 >= 60 THEN 'WARN' ELSE 'CRITICAL' END
    FROM metrics.machines WHERE org_id = $1";
const FILL_SAMPLES: &str = "
    INSERT INTO metrics.samples (org_id, machine_id, at, body)
    SELECT org_id, id, now() - make_interval(hours => h), '{}' FROM metrics.machines, generate_series(0, 150, 10) h WHERE org_id = $1 AND change <= 500";

fn nodes<'a>(plan: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(plan);
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, found);
    }
}

/// Kind and index of every node that reads a table or an index.
fn reads(plan: &Value) -> Vec<String> {
    let mut found = Vec::new();
    nodes(&plan[0]["Plan"], &mut found);
    found
        .iter()
        .filter(|node| node["Relation Name"].is_string() || node["Index Name"].is_string())
        .map(|node| {
            format!(
                "{} {}",
                node["Node Type"].as_str().unwrap(),
                node["Index Name"].as_str().unwrap_or("-")
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_ranges_are_read_by_index() {
    let world = World::with(Timing::default(), 1).await;
    let pools = world.database.pools(SERVICE);
    let orgs: Vec<OrgId> = (0..4).map(|_| OrgId::new()).collect();
    for org in &orgs {
        sqlx::query(FILL_MACHINES)
            .bind(org.0)
            .bind(10_000)
            .execute(pools.system())
            .await
            .unwrap();
        sqlx::query(FILL_LATEST)
            .bind(org.0)
            .execute(pools.system())
            .await
            .unwrap();
        sqlx::query(FILL_SAMPLES)
            .bind(org.0)
            .execute(pools.system())
            .await
            .unwrap();
    }
    let mut owner = sqlx::PgConnection::connect(&world.database.url("df_owner"))
        .await
        .unwrap();
    sqlx::raw_sql("ANALYZE metrics.machines; ANALYZE metrics.latest; ANALYZE metrics.samples")
        .execute(&mut owner)
        .await
        .unwrap();
    let mut tx = pools.tenant_tx(orgs[1]).await.unwrap();
    macro_rules! explain {
        ($sql:expr, $status:expr, $labels:expr, $key:expr) => {{
            let (plan,): (Value,) =
                sqlx::query_as(AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) {}", $sql)))
                    .bind($status)
                    .bind(None::<&str>)
                    .bind($labels)
                    .bind(None::<Vec<String>>)
                    .bind(None::<Vec<String>>)
                    .bind(None::<Vec<Value>>)
                    .bind($key)
                    .bind(Some(Uuid::now_v7()))
                    .bind(51_i64)
                    .persistent(false)
                    .fetch_one(&mut *tx)
                    .await
                    .unwrap();
            reads(&plan)
        }};
    }
    let (anything, labels, now) = (
        None::<Value>,
        Some(serde_json::json!({ "env": "test" })),
        chrono::Utc::now(),
    );
    let uses = |read: &[String], index: &str| {
        assert!(
            read.iter().any(|node| node.contains(index))
                && !read.iter().any(|node| node.contains("Seq Scan")),
            "{index}: {read:?}"
        );
    };
    for sql in [machine::PAGE_BY_HOSTNAME, machine::PAGE_BY_HOSTNAME_DESC] {
        uses(
            &explain!(sql, None::<&str>, &anything, Some("web-5")),
            "machines_hostname",
        );
        uses(
            &explain!(sql, None::<&str>, &anything, None::<&str>),
            "machines_hostname",
        );
        uses(
            &explain!(sql, Some("REVOKED"), &anything, None::<&str>),
            "machines_status",
        );
        // Labels filter the organisation's machines: by whichever index finds these.
        uses(
            &explain!(sql, None::<&str>, &labels, None::<&str>),
            "machines_",
        );
    }
    for sql in [machine::PAGE_BY_LAST_SEEN, machine::PAGE_BY_LAST_SEEN_DESC] {
        uses(
            &explain!(sql, None::<&str>, &anything, Some(now)),
            "latest_last_seen",
        );
        uses(&explain!(sql, None::<&str>, &labels, Some(now)), "latest_");
    }
    for sql in [machine::PAGE_BY_HEALTH, machine::PAGE_BY_HEALTH_DESC] {
        uses(
            &explain!(sql, None::<&str>, &anything, Some(50_i16)),
            "latest_health",
        );
        uses(
            &explain!(sql, None::<&str>, &labels, Some(50_i16)),
            "latest_",
        );
    }
    // The first pages are planned once, and without knowing the limit: they read no more than a page all the same.
    for (sql, index) in [
        (machine::FIRST_BY_HOSTNAME, "machines_hostname"),
        (machine::FIRST_BY_HOSTNAME_DESC, "machines_hostname"),
        (machine::FIRST_BY_LAST_SEEN, "latest_last_seen"),
        (machine::FIRST_BY_LAST_SEEN_DESC, "latest_last_seen"),
        (machine::FIRST_BY_HEALTH, "latest_health"),
        (machine::FIRST_BY_HEALTH_DESC, "latest_health"),
    ] {
        let prepare = format!(
            "SET LOCAL plan_cache_mode = force_generic_plan; PREPARE page (bigint) AS {sql}"
        );
        sqlx::raw_sql(AssertSqlSafe(prepare))
            .execute(&mut *tx)
            .await
            .unwrap();
        let (plan,): (Value,) = sqlx::query_as("EXPLAIN (FORMAT JSON, ANALYZE) EXECUTE page (51)")
            .persistent(false)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        sqlx::raw_sql("DEALLOCATE page; SET LOCAL plan_cache_mode = auto")
            .execute(&mut *tx)
            .await
            .unwrap();
        uses(&reads(&plan), index);
        let mut found = Vec::new();
        nodes(&plan[0]["Plan"], &mut found);
        for node in found.iter().filter(|node| node["Index Name"].is_string()) {
            let count = |name: &str| node[name].as_f64().unwrap();
            let rows = count("Actual Rows") * count("Actual Loops");
            assert!(rows <= 51.0, "{rows} rows by {}", node["Index Name"]);
        }
    }
    // What a selector chooses is read page by page along the primary key, whatever the labels.
    for (labels, after) in [
        (&anything, None),
        (&anything, Some(Uuid::now_v7())),
        (&labels, Some(Uuid::nil())),
    ] {
        let (plan,): (Value,) = sqlx::query_as(AssertSqlSafe(format!(
            "EXPLAIN (FORMAT JSON) {}",
            selection::PAGE
        )))
        .bind(labels)
        .bind(None::<Vec<String>>)
        .bind(None::<Vec<String>>)
        .bind(None::<Vec<Value>>)
        .bind(after)
        .bind(2_001_i64)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        uses(&reads(&plan), "machines_");
    }
    // A range touches the partitions of its days alone, by their keys.
    let (plan,): (Value,) = sqlx::query_as(AssertSqlSafe(format!(
        "EXPLAIN (FORMAT JSON, ANALYZE) {}",
        sample::LIST
    )))
    .bind(Uuid::now_v7())
    .bind(now - chrono::Duration::hours(30))
    .bind(now - chrono::Duration::hours(20))
    .bind(201_i64)
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    let read = reads(&plan);
    assert!(
        (1..=2).contains(&read.len())
            && read
                .iter()
                .all(|node| node.contains("pkey") && !node.contains("Seq")),
        "{read:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_about_a_machine_does_not_read_all_its_sessions() {
    let world = World::with(Timing::default(), 1).await;
    let pools = world.database.pools(SERVICE);
    let org = OrgId::new();
    for sql in [FILL_MACHINES, FILL_LATEST] {
        let query = sqlx::query(sql).bind(org.0);
        let query = if sql == FILL_MACHINES {
            query.bind(1_000)
        } else {
            query
        };
        query.execute(pools.system()).await.unwrap();
    }
    // One machine came and went without end.
    sqlx::query(
        "INSERT INTO metrics.sessions (org_id, machine_id, server_id, cid, started_at, recorded_at, closed_at, closed_by, reason)
         SELECT org_id, id, 'A', n, now() - make_interval(secs => n), now(), now(), 'CLIENT', 'connection lost'
         FROM metrics.machines, generate_series(1, 50000) n WHERE org_id = $1 AND change = 1",
    )
    .bind(org.0)
    .execute(pools.system())
    .await
    .unwrap();
    let mut owner = sqlx::PgConnection::connect(&world.database.url("df_owner"))
        .await
        .unwrap();
    sqlx::raw_sql("ANALYZE metrics.machines; ANALYZE metrics.sessions")
        .execute(&mut owner)
        .await
        .unwrap();
    let machine: Uuid =
        sqlx::query_scalar("SELECT id FROM metrics.machines WHERE org_id = $1 AND change = 1")
            .bind(org.0)
            .fetch_one(pools.system())
            .await
            .unwrap();
    let mut tx = pools.system_tx().await.unwrap();
    let (plan,): (Value,) = sqlx::query_as(AssertSqlSafe(format!(
        "EXPLAIN (FORMAT JSON, ANALYZE) {}",
        presence::DECIDE
    )))
    .bind(vec![org.0])
    .bind(vec![machine])
    .bind(2.0)
    .bind(45.0)
    .bind(60.0)
    .bind(8_i64)
    .bind(600.0)
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    let mut found = Vec::new();
    nodes(&plan[0]["Plan"], &mut found);
    let read: f64 = found
        .iter()
        .filter(|node| node["Index Name"].is_string() || node["Relation Name"] == "sessions")
        .map(|node| {
            let rows = |name: &str| node[name].as_f64().unwrap_or(0.0);
            rows("Actual Rows") + rows("Rows Removed by Filter")
        })
        .sum();
    assert!(read < 100.0, "{read} rows: {:?}", reads(&plan));
}
