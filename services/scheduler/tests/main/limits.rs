//! Limits hold, whoever claims, finishes or sets them at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::run::Offer;
use contract::work::Lane;
use dashfleet_scheduler::config::Timing;
use dashfleet_scheduler::store::limits::{limits_key, limits_set_in_tx, limits_set_tenant_in_tx};
use domain::execution::Outcome;
use domain::{JobId, OrgId};
use futures::future::join_all;

use super::stage::{PATIENCE, PLAIN, STANDS, Sort, Stage, Worker};

/// Limits that are exceeded now: by the rows that run, not by the counters.
pub const EXCEEDED: &str = "
    SELECT count(*) FROM (
        SELECT 1 FROM scheduler.running AS r JOIN scheduler.tenants AS t ON t.org_id = r.org_id
            GROUP BY r.org_id, t.concurrency HAVING count(*) > t.concurrency
        UNION ALL
        SELECT 1 FROM scheduler.running AS r JOIN scheduler.jobs AS j ON j.org_id = r.org_id AND j.id = r.job_id
            GROUP BY r.job_id, j.concurrency HAVING count(*) > j.concurrency
        UNION ALL
        SELECT 1 FROM scheduler.running AS r JOIN scheduler.jobs AS j ON j.org_id = r.org_id AND j.id = r.job_id
            WHERE r.key <> '' GROUP BY r.job_id, r.key, j.key_concurrency HAVING count(*) > j.key_concurrency
    ) AS exceeded";

/// Counters that are not what runs.
pub const WRONG: &str = "
    SELECT count(*) FROM scheduler.limits AS l WHERE l.running <> (
        SELECT count(*) FROM scheduler.running AS r WHERE r.org_id = l.org_id
            AND (l.job_id = '00000000-0000-0000-0000-000000000000' OR r.job_id = l.job_id) AND (l.key = '' OR r.key = l.key))";

#[tokio::test]
async fn no_more_begin_than_job_key_and_organisation_allow() {
    let stage = Stage::new(Timing::default()).await;
    let org = OrgId::new();
    let job = stage
        .job(
            org,
            Sort {
                concurrency: Some(5),
                key_concurrency: Some(2),
                ..PLAIN
            },
        )
        .await;
    let free = stage.job(org, PLAIN).await;
    set_tenant(&stage, org, Some(7)).await;
    let mut offers = Vec::new();
    for key in ["a", "b", "c"] {
        offers.extend(stage.enqueue(org, job, key, 4).await);
    }
    offers.extend(stage.enqueue(org, free, "", 4).await);
    let worker = stage.worker().await;
    let granted = worker.claim(&offers).await;
    let of = |wanted: JobId| {
        granted
            .iter()
            .filter(|granted| granted.job_id == wanted)
            .count()
    };
    assert_eq!(
        (of(job), of(free)),
        (5, 2),
        "two of a key, five of the job, seven of all"
    );
    assert_eq!(stage.count(EXCEEDED).await + stage.count(WRONG).await, 0);
    // One ends, another begins.
    worker.finish(granted[0].place, Outcome::Completed).await;
    assert_eq!(
        worker
            .claim(&offers)
            .await
            .iter()
            .filter(|one| !granted.contains(one))
            .count(),
        1
    );
    assert_eq!(stage.count(EXCEEDED).await + stage.count(WRONG).await, 0);
}

#[tokio::test]
async fn a_rate_lets_so_many_begin_in_each_of_its_windows() {
    let stage = Stage::new(Timing::default()).await;
    let sort = Sort {
        rate: Some((3, 1_000)),
        ..PLAIN
    };
    let offers = stage.waiting(sort, 8).await;
    let worker = stage.worker().await;
    assert_eq!(worker.claim(&offers).await.len(), 3);
    assert_eq!(worker.claim(&offers).await.len(), 3, "the same three");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(worker.claim(&offers[3..]).await.len(), 3);
    let counted = "SELECT count(*) FROM scheduler.limits WHERE window_count = 3 AND running = 6";
    assert_eq!(stage.count(counted).await, 1);
}

#[tokio::test]
async fn what_is_handed_back_before_it_began_uses_up_no_rate() {
    let stage = Stage::new(Timing::default()).await;
    let sort = Sort {
        rate: Some((1, 86_400_000)),
        ..PLAIN
    };
    let offers = stage.waiting(sort, 2).await;
    let worker = stage.worker().await;
    let first = worker.place(offers[0]).await;
    assert_eq!(worker.claim(&offers[1..]).await, []);
    worker.hand_back(first).await;
    let second = worker.place(offers[1]).await;
    // It began, and then its worker ended.
    worker.conclude(second, Outcome::HandedBack).await;
    assert_eq!(worker.claim(&offers).await, []);
    // A window that has begun since then counts its own.
    stage
        .execute("UPDATE scheduler.limits SET window_count = 0")
        .await;
    let third = worker.place(offers[0]).await;
    stage
        .execute("UPDATE scheduler.limits SET window_at = now()")
        .await;
    worker.hand_back(third).await;
    assert_eq!(worker.claim(&offers).await, []);
    assert_eq!(stage.count(EXCEEDED).await + stage.count(WRONG).await, 0);
}

#[tokio::test]
async fn what_is_paused_waits() {
    let stage = Stage::new(Timing::default()).await;
    let (org, other) = (OrgId::new(), OrgId::new());
    let (job, theirs) = (stage.job(org, PLAIN).await, stage.job(other, PLAIN).await);
    let mut offers = stage.enqueue(org, job, "", 2).await;
    offers.extend(stage.enqueue(other, theirs, "", 2).await);
    let paused = format!("UPDATE scheduler.jobs SET paused_at = now() WHERE id = '{job}'");
    stage.execute(&paused).await;
    stage
        .execute(&format!(
            "UPDATE scheduler.tenants SET paused_at = now() WHERE org_id = '{other}'"
        ))
        .await;
    let worker = stage.worker().await;
    assert_eq!(worker.claim(&offers).await, []);
    stage
        .execute("UPDATE scheduler.jobs SET paused_at = NULL")
        .await;
    assert_eq!(worker.claim(&offers).await.len(), 2);
    stage
        .execute("UPDATE scheduler.tenants SET paused_at = NULL")
        .await;
    assert_eq!(
        worker.claim(&offers).await.len(),
        4,
        "with those that it had"
    );
}

pub async fn set_tenant(stage: &Stage, org: OrgId, concurrency: Option<i32>) {
    let mut tx = stage.pools.tenant_tx(org).await.unwrap();
    sqlx::query("UPDATE scheduler.tenants SET concurrency = $2 WHERE org_id = $1")
        .bind(org.0)
        .bind(concurrency)
        .execute(&mut *tx)
        .await
        .unwrap();
    limits_set_tenant_in_tx(&mut tx, org).await.unwrap();
    tx.commit().await.unwrap();
}

async fn set_job(
    stage: &Stage,
    org: OrgId,
    job: JobId,
    concurrency: Option<i32>,
    keys: Option<i32>,
) {
    let mut tx = stage.pools.tenant_tx(org).await.unwrap();
    sqlx::query("UPDATE scheduler.jobs SET concurrency = $3, key_concurrency = $4 WHERE org_id = $1 AND id = $2")
        .bind(org.0)
        .bind(job.0)
        .bind(concurrency)
        .bind(keys)
        .execute(&mut *tx)
        .await
        .unwrap();
    limits_set_in_tx(&mut tx, org, job).await.unwrap();
    tx.commit().await.unwrap();
}

/// Claims and finishes as fast as it can, until told to stop.
async fn work(worker: Worker, offers: Vec<Offer>, stop: Arc<AtomicBool>) -> usize {
    let mut done = 0;
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 7;
        let some: Vec<_> = offers
            .iter()
            .cycle()
            .skip(turn % offers.len())
            .take(12)
            .copied()
            .collect();
        let places = worker.places(&some).await;
        if places.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        // Handed back, so that there is no end of them.
        worker.finish_all(&places, Outcome::HandedBack).await;
        done += places.len();
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_stay_exact_while_limits_are_set_and_taken_away_under_load() {
    let stage = Stage::with_replicas(2, Timing::default()).await;
    let org = OrgId::new();
    let mut jobs = Vec::new();
    let mut offers = Vec::new();
    for _ in 0..3 {
        let job = stage.job(org, PLAIN).await;
        for key in ["", "a", "b"] {
            offers.extend(stage.enqueue(org, job, key, 8).await);
        }
        jobs.push(job);
    }
    let stop = Arc::<AtomicBool>::default();
    let mut workers = Vec::new();
    for _ in 0..4 {
        let worker = stage.worker().await;
        workers.push(tokio::spawn(work(worker, offers.clone(), stop.clone())));
    }
    for round in 0..60_i32 {
        let some = |n: i32| (round % n != 0).then_some(round % n);
        let job = jobs[round as usize % 3];
        set_job(&stage, org, job, some(5), some(3)).await;
        if round % 4 == 0 {
            set_tenant(&stage, org, some(7).map(|n| n * 2)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nothing is limited to less than runs already from here on: so it must hold.
    for job in &jobs {
        set_job(&stage, org, *job, Some(2), Some(1)).await;
    }
    set_tenant(&stage, org, Some(4)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..50 {
        assert_eq!(stage.count(EXCEEDED).await, 0);
        assert_eq!(stage.count(WRONG).await, 0);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let done: usize = join_all(workers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    println!("{done} attempts while limits came and went");
    assert!(done > 100);
    assert_eq!(stage.rows("running").await, 0);
    assert_eq!(stage.rows("waiting").await, 72);
    assert_eq!(
        stage
            .count("SELECT count(*) FROM scheduler.limits WHERE running <> 0")
            .await,
        0
    );
}

#[tokio::test]
async fn a_key_gets_no_counter_that_its_job_has_no_use_for() {
    let stage = Stage::new(Timing::default()).await;
    let org = OrgId::new();
    let by_key = Sort {
        key_concurrency: Some(5),
        ..PLAIN
    };
    let job = stage.job(org, by_key).await;
    // Somebody takes the limit away, and has not committed it.
    let mut edit = stage.pools.tenant_tx(org).await.unwrap();
    sqlx::query("UPDATE scheduler.jobs SET key_concurrency = NULL WHERE id = $1")
        .bind(job.0)
        .execute(&mut *edit)
        .await
        .unwrap();
    limits_set_in_tx(&mut edit, org, job).await.unwrap();
    let lane = Lane {
        org,
        job,
        key: "a".into(),
    };
    let commits = async {
        testkit::eventually("whoever wants a counter waits", PATIENCE, || async {
            (stage.count(STANDS).await == 1).then_some(())
        })
        .await;
        edit.commit().await.unwrap();
    };
    let lanes = [&lane];
    let (made, ()) = tokio::join!(limits_key(stage.pools.system(), &lanes), commits);
    made.unwrap();
    let counters = "SELECT count(*) FROM scheduler.limits";
    assert_eq!(stage.count(counters).await, 0);
}
