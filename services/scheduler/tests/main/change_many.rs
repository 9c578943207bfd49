//! Cancelling many executions, and beginning many again: those that fit, the oldest first, and nothing else.

use contract::ProblemKind;
use contract::execution::{
    BatchItem, ExecutionBatch, ExecutionCancelMany, ExecutionFilter, ExecutionRetryMany,
};
use contract::job::{JobEdit, Order};
use contract::run::Offer;
use domain::access::Role;
use domain::execution::ExecutionStatus;
use domain::{ExecutionId, JobId, OrgId, Timestamp};

use super::job::edit;
use super::world::{PATIENCE, World, key_claims, refused, run_as, with_key};

const WAITING: &str = "SELECT count(*) FROM scheduler.waiting";
const CANCELLED: &str = "SELECT count(*) FROM scheduler.ended WHERE status = 'CANCELLED'";

/// Somebody waits for a row that runs.
const HELD_UP: &str = "
    SELECT count(*) FROM pg_locks WHERE locktype = 'tuple' AND relation = 'scheduler.running'::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

fn of(job: JobId) -> ExecutionFilter {
    ExecutionFilter {
        job_id: Some(job),
        ..ExecutionFilter::default()
    }
}

fn in_status(status: ExecutionStatus) -> ExecutionFilter {
    ExecutionFilter {
        status: Some(status),
        ..ExecutionFilter::default()
    }
}

fn cancel(filter: ExecutionFilter) -> ExecutionCancelMany {
    ExecutionCancelMany { filter }
}

fn retry(filter: ExecutionFilter) -> ExecutionRetryMany {
    ExecutionRetryMany { filter }
}

async fn many(world: &World, job: JobId, count: usize) -> Vec<ExecutionId> {
    let item = BatchItem {
        job_id: job,
        order: Order::default(),
    };
    let batch = ExecutionBatch {
        items: vec![item; count],
        idempotency_key: None,
    };
    let made = world.ask(&batch).await.unwrap();
    made.items.iter().map(|item| item.id).collect()
}

#[tokio::test]
async fn what_fits_is_cancelled_and_nothing_else() {
    let world = World::new().await;
    let (job, other) = (world.job("a").await, world.job("b").await);
    let ours = many(&world, job.id, 10).await;
    let theirs = many(&world, other.id, 3).await;
    world.begin(&ours[..4]).await;
    world.finish(&ours[..1], "COMPLETED").await;
    let changed = world.ask(&cancel(of(job.id))).await.unwrap();
    // Six waited, three ran.
    assert_eq!((changed.count, changed.more), (9, false));
    for (index, id) in ours.iter().enumerate() {
        let execution = world.get(*id).await;
        let expected = match index {
            0 => (ExecutionStatus::Completed, false),
            1..=3 => (ExecutionStatus::Running, true),
            _ => (ExecutionStatus::Cancelled, false),
        };
        assert_eq!((execution.status, execution.cancel_requested), expected);
    }
    for id in &theirs {
        assert_eq!(world.status(*id).await, ExecutionStatus::Pending);
    }
    let again = world.ask(&cancel(of(job.id))).await.unwrap();
    assert_eq!((again.count, again.more), (0, false));
    let entry = world.audited("execution.cancel-many", 1).await.remove(0);
    assert_eq!(entry.count, 9);
    assert_eq!(world.events_of(ours[9].0, 1).await[0].verb, "cancelled");

    // By status, and by time.
    world.begin(&theirs[..1]).await;
    let waiting = cancel(in_status(ExecutionStatus::Pending));
    assert_eq!(world.ask(&waiting).await.unwrap().count, 2);
    let running = cancel(ExecutionFilter {
        to: Some(Timestamp::now().plus(chrono::Duration::days(-1))),
        ..in_status(ExecutionStatus::Running)
    });
    assert_eq!(world.ask(&running).await.unwrap().count, 0);
    let running = cancel(in_status(ExecutionStatus::Running));
    assert_eq!(world.ask(&running).await.unwrap().count, 1);
}

#[tokio::test]
async fn what_changes_while_it_is_looked_for_is_asked_too() {
    let world = World::new().await;
    let job = world.job("a").await;
    let ids = many(&world, job.id, 2).await;
    world.begin(&ids).await;
    let mut writer = world.pools.system_tx().await.unwrap();
    sqlx::query("UPDATE scheduler.running SET progress = '1'")
        .execute(&mut *writer)
        .await
        .unwrap();
    let request = cancel(of(job.id));
    let (changed, ()) = tokio::join!(world.ask(&request), async {
        testkit::eventually("it waits", PATIENCE, || async {
            (world.count(HELD_UP).await > 0).then_some(())
        })
        .await;
        writer.commit().await.unwrap();
    });
    let changed = changed.unwrap();
    assert_eq!((changed.count, changed.more), (2, false));
}

#[tokio::test]
async fn ten_thousand_at_a_time_the_oldest_first() {
    let world = World::new().await;
    let job = world.job("a").await;
    let first = many(&world, job.id, 10_000).await;
    let last = many(&world, job.id, 5).await;
    let changed = world.ask(&cancel(of(job.id))).await.unwrap();
    assert_eq!((changed.count, changed.more), (10_000, true));
    assert_eq!(world.status(first[9_999]).await, ExecutionStatus::Cancelled);
    for id in &last {
        assert_eq!(world.status(*id).await, ExecutionStatus::Pending);
    }
    let changed = world.ask(&cancel(of(job.id))).await.unwrap();
    assert_eq!((changed.count, changed.more), (5, false));
    assert_eq!(world.count(CANCELLED).await, 10_005);
    // And back.
    let changed = world.ask(&retry(of(job.id))).await.unwrap();
    assert_eq!((changed.count, changed.more), (10_000, true));
    assert_eq!(world.status(first[0]).await, ExecutionStatus::Pending);
    assert_eq!(world.status(last[0]).await, ExecutionStatus::Cancelled);
    let changed = world.ask(&retry(of(job.id))).await.unwrap();
    assert_eq!((changed.count, changed.more), (5, false));
    assert_eq!(world.count(WAITING).await, 10_005);
}

#[tokio::test]
async fn what_ended_badly_begins_again_where_it_can() {
    let world = World::new().await;
    let (job, gone) = (world.job("a").await, world.job("b").await);
    let ids = many(&world, job.id, 8).await;
    world.begin(&ids).await;
    world.finish(&ids[..2], "COMPLETED").await;
    world.finish(&ids[2..4], "FAILED").await;
    world.finish(&ids[4..6], "TIMEOUT").await;
    world.finish(&ids[6..], "CANCELLED").await;
    let lost = world.ended(gone.id, "FAILED").await;
    let delete = contract::job::JobDelete { job_id: gone.id };
    world.ask(&delete).await.unwrap();

    let dead = ExecutionFilter {
        dead_letter: Some(true),
        ..ExecutionFilter::default()
    };
    assert_eq!(world.ask(&retry(dead)).await.unwrap().count, 4);
    for id in &ids[2..6] {
        assert_eq!(world.status(*id).await, ExecutionStatus::Pending);
    }
    assert_eq!(world.status(lost).await, ExecutionStatus::Failed);
    let cancelled = in_status(ExecutionStatus::Cancelled);
    assert_eq!(world.ask(&retry(cancelled)).await.unwrap().count, 2);
    let rest = world.ask(&retry(of(job.id))).await.unwrap();
    assert_eq!((rest.count, rest.more), (0, false));
    assert_eq!(world.status(ids[0]).await, ExecutionStatus::Completed);
    assert_eq!(world.audited("execution.retry-many", 2).await[0].count, 4);
}

#[tokio::test]
async fn whoever_begins_many_again_is_who_they_run_for() {
    let world = World::new().await;
    let job = world.job("a").await;
    let ids = many(&world, job.id, 3).await;
    world.begin(&ids).await;
    world.finish(&ids, "FAILED").await;
    let worker = world.worker().await;
    let offers: Vec<Offer> = ids.iter().map(|id| world.offer(*id)).collect();
    // Some of them, and all that there are.
    for filter in [of(job.id), in_status(ExecutionStatus::Failed)] {
        let key = key_claims(world.org);
        let changed = world.ask_as(&world.sign(&key), &retry(filter)).await;
        assert_eq!(changed.unwrap().count, 3);
        for id in &ids {
            let (kind, principal, credential, _) = world.asker_of(*id).await;
            assert_eq!(
                (kind.as_str(), principal, credential),
                ("API_KEY", key.sub, key.credential.0)
            );
        }
        let granted = worker.claim(&offers).await;
        assert_eq!(granted.len(), 3);
        assert!(granted.iter().all(|one| one.run_as == run_as(&key)));
        world.finish(&ids, "FAILED").await;
    }
}

#[tokio::test]
async fn what_is_of_a_job_that_may_not_begin_holds_back_no_other() {
    let world = World::new().await;
    let (job, other) = (world.job("a").await, world.job("b").await);
    let gone = world.job("c").await;
    let failed = world.ended(job.id, "FAILED").await;
    let lost = world.ended(gone.id, "FAILED").await;
    let theirs = world.ended(other.id, "FAILED").await;
    let disable = JobEdit {
        enabled: Some(false),
        ..edit(job.id)
    };
    world.ask(&disable).await.unwrap();
    world
        .run("UPDATE scheduler.jobs SET pool = 'gone' WHERE name = 'c'")
        .await;
    let dead = ExecutionFilter {
        dead_letter: Some(true),
        ..ExecutionFilter::default()
    };
    for (filter, count) in [(of(job.id), 0), (of(gone.id), 0), (dead, 1)] {
        let changed = world.ask(&retry(filter)).await.unwrap();
        assert_eq!((changed.count, changed.more), (count, false));
    }
    for id in [failed, lost] {
        assert_eq!(world.status(id).await, ExecutionStatus::Failed);
    }
    assert_eq!(world.status(theirs).await, ExecutionStatus::Pending);
}

#[tokio::test]
async fn one_key_is_not_taken_twice_and_the_others_begin() {
    let world = World::new().await;
    let job = world.job("a").await;
    let order = |key: Option<&str>| BatchItem {
        job_id: job.id,
        order: key.map(with_key).unwrap_or_default(),
    };
    let mut failed = Vec::new();
    for key in [Some("k"), Some("k"), Some("other"), None] {
        let batch = ExecutionBatch {
            items: vec![order(key)],
            idempotency_key: None,
        };
        let id = world.ask(&batch).await.unwrap().items[0].id;
        world.begin(&[id]).await;
        world.finish(&[id], "FAILED").await;
        failed.push(id);
    }
    let changed = world.ask(&retry(of(job.id))).await.unwrap();
    assert_eq!((changed.count, changed.more), (3, false));
    let mut statuses = Vec::new();
    for id in &failed {
        statuses.push(world.status(*id).await);
    }
    use ExecutionStatus::{Failed, Pending};
    assert_eq!(statuses, [Pending, Failed, Pending, Pending]);
    let keys = "SELECT count(*) FROM scheduler.deduplications";
    assert_eq!(world.count(keys).await, 2);
    let again = world.ask(&retry(of(job.id))).await.unwrap();
    assert_eq!((again.count, again.more), (0, false));
}

#[tokio::test]
async fn a_filter_must_say_something_that_makes_sense() {
    let world = World::new().await;
    let job = world.job("a").await;
    let ids = many(&world, job.id, 3).await;
    let nothing = ExecutionFilter::default;
    let dead = ExecutionFilter {
        dead_letter: Some(true),
        ..of(job.id)
    };
    let now = Timestamp::now();
    let backwards = ExecutionFilter {
        from: Some(now),
        to: Some(now.plus(chrono::Duration::seconds(-1))),
        ..nothing()
    };
    for (filter, path) in [
        (nothing(), "jobId"),
        (dead, "deadLetter"),
        (in_status(ExecutionStatus::Failed), "status"),
        (backwards.clone(), "from"),
    ] {
        let answer = refused(world.ask(&cancel(filter)).await);
        assert_eq!(answer, (ProblemKind::Invalid, path.to_owned()));
    }
    for (filter, path) in [
        (nothing(), "jobId"),
        (in_status(ExecutionStatus::Completed), "status"),
        (in_status(ExecutionStatus::Pending), "status"),
        (backwards, "from"),
    ] {
        let answer = refused(world.ask(&retry(filter)).await);
        assert_eq!(answer, (ProblemKind::Invalid, path.to_owned()));
    }
    let viewer = world.grant(world.org, Role::Viewer);
    let answer = world.ask_as(&viewer, &cancel(of(job.id))).await;
    assert_eq!(refused(answer).0, ProblemKind::Forbidden);
    // Another organisation's executions fit nobody's filter but its own.
    let stranger = world.grant(OrgId::new(), Role::Owner);
    let answer = world.ask_as(&stranger, &cancel(of(job.id))).await.unwrap();
    assert_eq!((answer.count, answer.more), (0, false));
    for id in ids {
        assert_eq!(world.status(id).await, ExecutionStatus::Pending);
    }
}

#[tokio::test]
async fn nothing_slips_through_between_waiting_and_running() {
    let world = World::new().await;
    let job = world.job("a").await;
    for _ in 0..10 {
        let ids = many(&world, job.id, 60).await;
        let claiming = async {
            for portion in ids.chunks(7) {
                world.begin(portion).await;
            }
        };
        let filter = cancel(of(job.id));
        let (_, changed) = tokio::join!(claiming, world.ask(&filter));
        let mut more = changed.unwrap().more;
        while more {
            more = world.ask(&filter).await.unwrap().more;
        }
        for id in &ids {
            let now = world.get(*id).await;
            let stopped = now.status == ExecutionStatus::Cancelled || now.cancel_requested;
            assert!(stopped, "{now:?}");
        }
        world.finish(&ids, "CANCELLED").await;
    }
}
