//! Cancelling an execution, and beginning it again: from each state what may follow, and what it leaves behind.

use contract::execution::{Execution, ExecutionCancel, ExecutionRetry};
use contract::job::{JobEdit, JobExecute, Order};
use contract::merge::Edit;
use contract::{Problem, ProblemKind};
use domain::access::Role;
use domain::execution::{ExecutionStatus, Outcome};
use domain::{ExecutionId, OrgId, Timestamp};

use super::job::{POOL_GONE, edit};
use super::world::{World, execute, key_claims, refused, run_as, with_key};

const TRACED: &str = "UPDATE scheduler.running SET traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'";
const KEYS: &str = "SELECT count(*) FROM scheduler.deduplications";

async fn cancel(world: &World, id: ExecutionId) -> Result<Execution, Problem> {
    world.ask(&ExecutionCancel { execution_id: id }).await
}

#[tokio::test]
async fn what_waits_is_cancelled_at_once_and_once() {
    let world = World::new().await;
    let job = world.job("a").await;
    let ask = JobExecute {
        order: Order {
            run_at: Some(Timestamp::now().plus(chrono::Duration::days(1))),
            ..with_key("k")
        },
        ..execute(job.id)
    };
    let id = world.ask(&ask).await.unwrap().id;
    let grant = world.grant(world.org, Role::Operator);
    let ask = ExecutionCancel { execution_id: id };
    let all = futures::future::join_all((0..8).map(|_| world.ask_as(&grant, &ask))).await;
    for answer in all {
        let execution = answer.unwrap();
        assert_eq!(execution.status, ExecutionStatus::Cancelled);
        assert!(execution.completed_at.is_some() && execution.started_at.is_none());
        assert!(execution.run_at.is_none() && execution.duration.is_none());
    }
    // One event and one entry, whoever asked how often; and the key is free.
    let event = world.events_of(id.0, 1).await.remove(0);
    assert_eq!((event.verb.as_str(), event.version), ("cancelled", 2));
    assert_eq!(
        event.data,
        serde_json::json!({ "jobId": job.id, "status": "CANCELLED", "attempt": 0, "deadLetter": false })
    );
    let entry = world.audited("execution.cancel", 1).await.remove(0);
    assert_eq!(entry.before.unwrap()["status"], "PENDING");
    assert_eq!(world.count(KEYS).await, 0);
}

#[tokio::test]
async fn what_runs_is_asked_to_stop_and_what_has_ended_is_refused() {
    let world = World::new().await;
    let job = world.job("a").await;
    let id = world.execute(job.id).await.id;
    world.begin(&[id]).await;
    for _ in 0..3 {
        let execution = cancel(&world, id).await.unwrap();
        assert_eq!(
            (execution.status, execution.cancel_requested),
            (ExecutionStatus::Running, true)
        );
    }
    world.audited("execution.cancel", 1).await;
    world.finish(&[id], "CANCELLED").await;
    // That is what was wanted.
    assert_eq!(
        cancel(&world, id).await.unwrap().status,
        ExecutionStatus::Cancelled
    );
    for status in ["COMPLETED", "FAILED", "TIMEOUT"] {
        let ended = world.ended(job.id, status).await;
        let refusal = cancel(&world, ended).await.unwrap_err();
        assert_eq!(refusal.kind, ProblemKind::Conflict);
        assert!(refusal.detail.contains(status), "{refusal}");
    }
    assert_eq!(
        refused(cancel(&world, ExecutionId::new()).await).0,
        ProblemKind::NotFound
    );
}

#[tokio::test]
async fn what_ended_badly_waits_again_and_keeps_what_is_known_of_it() {
    let world = World::new().await;
    let job = world.job("a").await;
    let first = world.ended(job.id, "FAILED").await;
    let before = world.get(first).await;
    assert!(before.dead_letter && before.error.is_some() && before.duration.is_some());
    for (round, status) in ["TIMEOUT", "CANCELLED", "FAILED"].into_iter().enumerate() {
        let again = world.retry(first).await.unwrap();
        assert_eq!((again.id, again.status), (first, ExecutionStatus::Pending));
        assert_eq!(again.created_at, before.created_at);
        assert!(!again.dead_letter && again.error.is_none() && again.completed_at.is_none());
        // Attempts count on, and each that ended is told of.
        assert_eq!(again.attempt as usize, round + 1);
        let numbers: Vec<_> = again
            .attempts
            .iter()
            .map(|one| one.attempt as usize)
            .collect();
        assert_eq!(numbers, (1..=round + 1).collect::<Vec<_>>());
        assert_eq!(
            refused(world.retry(first).await).0,
            ProblemKind::Conflict,
            "it waits"
        );
        world.begin(&[first]).await;
        assert_eq!(
            refused(world.retry(first).await).0,
            ProblemKind::Conflict,
            "it runs"
        );
        world.finish(&[first], status).await;
    }
    let last = world.get(first).await;
    let outcomes: Vec<_> = last.attempts.iter().map(|one| one.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Failed, Outcome::Timeout, Outcome::Cancelled]
    );
    let attempt = &last.attempts[0];
    assert_eq!(attempt.error, before.error);
    assert_eq!(
        (Some(attempt.started_at), Some(attempt.ended_at)),
        (before.started_at, before.completed_at)
    );

    let done = world.ended(job.id, "COMPLETED").await;
    let refusal = world.retry(done).await.unwrap_err();
    assert_eq!(refusal.kind, ProblemKind::Conflict);
    assert!(refusal.detail.contains("completed"), "{refusal}");
    assert_eq!(
        refused(world.retry(ExecutionId::new()).await).0,
        ProblemKind::NotFound
    );
    // A beginning is no event; the audit has it.
    world.audited("execution.retry", 3).await;
    assert!(world.events_of(first.0, 0).await.is_empty());
}

#[tokio::test]
async fn whoever_begins_an_execution_again_is_who_it_runs_for() {
    let world = World::new().await;
    let job = world.job("a").await;
    let id = world.execute(job.id).await.id;
    let owner = world.get(id).await.run_as;
    world.begin(&[id]).await;
    world.run(TRACED).await;
    world.finish(&[id], "FAILED").await;
    let key = key_claims(world.org);
    let ask = ExecutionRetry { execution_id: id };
    let again = world.ask_as(&world.sign(&key), &ask).await.unwrap();
    assert_ne!(again.run_as, owner);
    assert_eq!(again.run_as, run_as(&key));
    let (kind, principal, credential, trace) = world.asker_of(id).await;
    assert_eq!(
        (kind.as_str(), principal, credential),
        ("API_KEY", key.sub, key.credential.0)
    );
    assert!(trace.is_none_or(|trace| !trace.contains("b7ad6b7169203331")));
    // What is known of the attempt before is known as it was.
    assert_eq!(again.attempts.len(), 1);
    assert_eq!(again.attempts[0].outcome, Outcome::Failed);
    let worker = world.worker().await;
    let granted = worker.claim(&[world.offer(id)]).await;
    assert_eq!(
        (granted[0].place.attempt, granted[0].run_as),
        (2, run_as(&key))
    );
}

#[tokio::test]
async fn of_a_job_that_may_not_begin_nothing_begins_again() {
    let world = World::new().await;
    let job = world.job("a").await;
    let failed = world.ended(job.id, "FAILED").await;
    let enabled = |enabled| JobEdit {
        enabled: Some(enabled),
        ..edit(job.id)
    };
    for is_gone in [false, true] {
        if is_gone {
            world.run(POOL_GONE).await;
        } else {
            world.ask(&enabled(false)).await.unwrap();
        }
        // In the words that whoever executes it hears.
        let asked = world.ask(&execute(job.id)).await.unwrap_err();
        let refusal = world.retry(failed).await.unwrap_err();
        assert_eq!(refusal.kind, ProblemKind::Conflict);
        assert_eq!((refusal.kind, refusal.detail), (asked.kind, asked.detail));
        assert_eq!(world.status(failed).await, ExecutionStatus::Failed);
        if !is_gone {
            world.ask(&enabled(true)).await.unwrap();
        }
    }
    let there = JobEdit {
        pool: Edit::Set("default".into()),
        ..edit(job.id)
    };
    world.ask(&there).await.unwrap();
    world.retry(failed).await.unwrap();
    world.audited("execution.retry", 1).await;
}

#[tokio::test]
async fn one_that_never_began_has_no_attempt_to_tell_of() {
    let world = World::new().await;
    let job = world.job("a").await;
    let id = world.execute(job.id).await.id;
    cancel(&world, id).await.unwrap();
    let again = world.retry(id).await.unwrap();
    assert_eq!((again.attempt, again.attempts.len()), (0, 0));
    assert_eq!(again.status, ExecutionStatus::Pending);
    // Its end, the second one, is a later event of the same thing.
    cancel(&world, id).await.unwrap();
    let events = world.events_of(id.0, 2).await;
    assert!(events[0].version < events[1].version, "{events:?}");
}

#[tokio::test]
async fn of_all_who_retry_at_once_one_does() {
    let world = World::with_replicas(2).await;
    let job = world.job("a").await;
    let grant = world.grant(world.org, Role::Operator);
    for _ in 0..10 {
        let id = world.ended(job.id, "FAILED").await;
        let ask = ExecutionRetry { execution_id: id };
        let all = futures::future::join_all((0..6).map(|_| world.ask_as(&grant, &ask))).await;
        let (done, not): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!(done.len(), 1);
        for answer in not {
            assert_eq!(refused(answer).0, ProblemKind::Conflict);
        }
        let execution = world.get(id).await;
        assert_eq!(
            (execution.status, execution.attempts.len()),
            (ExecutionStatus::Pending, 1)
        );
    }
}

#[tokio::test]
async fn a_deduplication_key_is_taken_again_or_the_retry_is_refused() {
    let world = World::new().await;
    let job = world.job("a").await;
    let ask = JobExecute {
        order: with_key("k"),
        ..execute(job.id)
    };
    let first = world.ask(&ask).await.unwrap().id;
    world.begin(&[first]).await;
    world.finish(&[first], "FAILED").await;
    let second = world.ask(&ask).await.unwrap().id;
    assert_ne!(first, second);
    let refusal = world.retry(first).await.unwrap_err();
    assert_eq!(refusal.kind, ProblemKind::Conflict);
    assert!(refusal.detail.contains("deduplication key"), "{refusal}");
    assert_eq!(world.status(first).await, ExecutionStatus::Failed);
    cancel(&world, second).await.unwrap();
    world.retry(first).await.unwrap();
    let third = world.ask(&ask).await.unwrap();
    assert_eq!((third.id, third.duplicate), (first, true));
    assert_eq!(world.count(KEYS).await, 1);
}

#[tokio::test]
async fn rights_and_organisations_hold() {
    let world = World::new().await;
    let job = world.job("a").await;
    let waiting = world.execute(job.id).await.id;
    let failed = world.ended(job.id, "FAILED").await;
    let viewer = world.grant(world.org, Role::Viewer);
    let stranger = world.grant(OrgId::new(), Role::Owner);
    for (grant, kind) in [
        (&viewer, ProblemKind::Forbidden),
        (&stranger, ProblemKind::NotFound),
    ] {
        let cancel = ExecutionCancel {
            execution_id: waiting,
        };
        assert_eq!(refused(world.ask_as(grant, &cancel).await).0, kind);
        let retry = ExecutionRetry {
            execution_id: failed,
        };
        assert_eq!(refused(world.ask_as(grant, &retry).await).0, kind);
    }
    assert_eq!(world.status(waiting).await, ExecutionStatus::Pending);
    assert_eq!(world.status(failed).await, ExecutionStatus::Failed);
}
