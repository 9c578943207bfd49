//! What the scheduler says of itself, as Prometheus reads it.

use dashfleet_scheduler::config::Timing;
use domain::OrgId;
use testkit::folder::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::{PATIENCE, PLAIN, Stage};

const WAITING: &str = "dashfleet_scheduler_executions_waiting{pool=\"default\"}";
const AGE: &str = "dashfleet_scheduler_queue_age_seconds{pool=\"default\"}";
const WINDOW: &str = "dashfleet_scheduler_offer_window{pool=\"default\"}";
const LOST: &str = "dashfleet_scheduler_leases_lost_total";
const GRANTED: &str = "dashfleet_scheduler_claims_total{result=\"granted\"}";
const REFUSED: &str = "dashfleet_scheduler_claims_total{result=\"refused\"}";

fn address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// All that a replica says; absent while it says nothing yet.
async fn page(admin: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin).await.ok()?;
    let question = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(question).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
}

/// A value of a page; absent when nothing is said of it.
fn value_in(page: &str, name: &str) -> Option<f64> {
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

async fn value(admin: &str, name: &str) -> Option<f64> {
    value_in(&page(admin).await?, name)
}

#[tokio::test]
async fn what_is_refused_what_is_lost_and_what_waits_is_counted() {
    let admin = address();
    let stage = Stage::with_admins(std::slice::from_ref(&admin), Timing::default()).await;
    let offers = stage.waiting(PLAIN, 1).await;
    let (one, other) = (stage.worker().await, stage.worker().await);
    assert_eq!(one.claim(&offers).await.len(), 1);
    assert_eq!(other.claim(&offers).await, []);
    assert_eq!(value(&admin, GRANTED).await, Some(1.0));
    assert_eq!(value(&admin, REFUSED).await, Some(1.0));

    assert_eq!(value(&admin, LOST).await, Some(0.0));
    testkit::eventually("two workers are lost", PATIENCE, || async {
        stage.expire_sessions().await;
        (value(&admin, LOST).await == Some(2.0)).then_some(())
    })
    .await;

    // What one of them had waits again, beside what pauses hold back: that is counted too, and has no age. Nor has a time before
    // something was made.
    let org = offers[0].org;
    let (held, paused) = (stage.job(org, PLAIN).await, OrgId::new());
    let of_paused = stage.job(paused, PLAIN).await;
    for pause in [
        format!("UPDATE scheduler.jobs SET paused_at = now() WHERE id = '{held}'"),
        format!("UPDATE scheduler.tenants SET paused_at = now() WHERE org_id = '{paused}'"),
    ] {
        stage.execute(&pause).await;
    }
    stage.enqueue(org, held, "", 2).await;
    stage.enqueue(paused, of_paused, "", 3).await;
    stage
        .execute(&format!(
            "UPDATE scheduler.waiting SET run_at = 'epoch', created_at = now() - CASE
                WHEN job_id IN ('{held}', '{of_paused}') THEN interval '10000 s' ELSE interval '1000 s' END"
        ))
        .await;
    let counted = testkit::eventually("what waits is counted", PATIENCE, || async {
        let page = page(&admin).await?;
        let age = value_in(&page, AGE).filter(|age| *age >= 1_000.0)?;
        Some((age, value_in(&page, WAITING)?, value_in(&page, WINDOW)?))
    })
    .await;
    let (age, waiting, window) = counted;
    assert!(age < 1_100.0, "{age} s");
    assert_eq!(waiting, 6.0);
    assert!(window >= 1.0, "{window} offers");
}

/// However many they are.
#[tokio::test]
async fn what_is_paused_hides_no_age() {
    let admin = address();
    let stage = Stage::with_admins(std::slice::from_ref(&admin), Timing::default()).await;
    // Organisations come in the order of their ids, here as elsewhere.
    let mut orgs = [OrgId::new(), OrgId::new()];
    orgs.sort_by_key(|org| org.0);
    let [paused, org] = orgs;
    let (held, waits) = (stage.job(paused, PLAIN).await, stage.job(org, PLAIN).await);
    stage.enqueue(org, waits, "", 1).await;
    stage
        .execute(
            "UPDATE scheduler.waiting SET run_at = 'epoch', created_at = now() - interval '1000 s'",
        )
        .await;
    for sql in [
        format!("UPDATE scheduler.tenants SET paused_at = now() WHERE org_id = '{paused}'"),
        format!(
            "INSERT INTO scheduler.waiting (org_id, id, job_id, pool, key, priority, due, run_at, principal_kind, principal_id,
                credential, scheduled_for, created_at)
            SELECT '{paused}', gen_random_uuid(), '{held}', 'default', '', 9, true, now(), 'USER', '{paused}', '{paused}', now(), now()
            FROM generate_series(1, 100001)"
        ),
    ] {
        stage.execute(&sql).await;
    }
    let counted = testkit::eventually("what waits is counted", PATIENCE, || async {
        let page = page(&admin).await?;
        let waiting = value_in(&page, WAITING).filter(|waiting| *waiting >= 100_000.0)?;
        Some((waiting, value_in(&page, AGE)?))
    })
    .await;
    let (waiting, age) = counted;
    assert_eq!(waiting, 100_000.0);
    assert!((1_000.0..1_100.0).contains(&age), "{age} s");
}

/// Which replicas say what only a dispatcher knows; absent while one does not answer, or says a part of it.
async fn dispatchers(admins: &[String]) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for (at, admin) in admins.iter().enumerate() {
        let page = page(admin).await?;
        let says = [WAITING, AGE, WINDOW].map(|name| value_in(&page, name).is_some());
        if says.iter().all(|said| *said) {
            found.push(at);
        } else if says.iter().any(|said| *said) {
            return None;
        }
    }
    Some(found)
}

#[tokio::test]
async fn whoever_loses_the_turn_says_nothing_any_more_of_what_waits() {
    let admins = [address(), address()];
    let stage = Stage::with_admins(&admins, Timing::default()).await;
    stage.waiting(PLAIN, 3).await;
    let one = || async {
        let found = dispatchers(&admins).await?;
        (found.len() == 1).then_some(())
    };
    testkit::eventually("one of them says what waits", PATIENCE, one).await;
    // A third has the turn for a while.
    stage
        .execute(
            "UPDATE scheduler.dispatchers SET holder = gen_random_uuid(), held_until = now() + interval '1 day'",
        )
        .await;
    testkit::eventually("none of them does", PATIENCE, || async {
        dispatchers(&admins).await?.is_empty().then_some(())
    })
    .await;
    stage.execute("DELETE FROM scheduler.dispatchers").await;
    testkit::eventually("one of them does again", PATIENCE, one).await;
}
