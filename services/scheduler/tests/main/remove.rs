//! Removing a job: what waits is cancelled, what runs is asked to stop, what has ended stays.

use contract::ProblemKind;
use contract::job::{JobDelete, JobEdit, JobGet};
use domain::access::Role;
use domain::execution::ExecutionStatus;

use super::job::edit;
use super::stage::STANDS;
use super::world::{PATIENCE, World, execute, refused};

#[tokio::test]
async fn what_waits_is_cancelled_what_runs_is_asked_and_what_has_ended_stays() {
    let world = World::new().await;
    let (job, other) = (world.job("a").await, world.job("b").await);
    let waiting = world.execute(job.id).await.id;
    let running = world.execute(job.id).await.id;
    assert_eq!(world.begin(&[running]).await, 1);
    let ended = world.ended(job.id, "FAILED").await;
    let another = world.execute(other.id).await.id;

    let delete = JobDelete { job_id: job.id };
    let operator = world.grant(world.org, Role::Operator);
    assert_eq!(
        refused(world.ask_as(&operator, &delete).await).0,
        ProblemKind::Forbidden
    );
    world.ask(&delete).await.unwrap();
    assert_eq!(
        refused(world.ask(&JobGet { job_id: job.id }).await).0,
        ProblemKind::NotFound
    );
    assert_eq!(refused(world.ask(&delete).await).0, ProblemKind::NotFound);
    assert_eq!(
        refused(world.ask(&execute(job.id)).await).0,
        ProblemKind::NotFound
    );

    assert_eq!(world.status(waiting).await, ExecutionStatus::Cancelled);
    let asked = world.get(running).await;
    assert_eq!(
        (asked.status, asked.cancel_requested),
        (ExecutionStatus::Running, true)
    );
    assert_eq!(world.status(ended).await, ExecutionStatus::Failed);
    assert_eq!(world.status(another).await, ExecutionStatus::Pending);
    // Nothing of it begins again.
    for id in [waiting, ended] {
        assert_eq!(refused(world.retry(id).await).0, ProblemKind::Conflict);
    }
    let event = world.events_of(waiting.0, 1).await.remove(0);
    assert_eq!(
        (event.noun.as_str(), event.verb.as_str()),
        ("execution", "cancelled")
    );
    assert_eq!(event.data["jobId"], job.id.to_string());
    let verbs: Vec<_> = world.events_of(job.id.0, 2).await;
    assert_eq!((verbs[1].verb.as_str(), verbs[1].version), ("deleted", 2));
    let entry = world.audited("job.delete", 1).await.remove(0);
    assert_eq!(
        entry.after.unwrap(),
        serde_json::json!({ "cancelled": 1, "asked": 1 })
    );
}

#[tokio::test]
async fn while_a_job_is_removed_what_else_is_claimed_begins() {
    let world = World::new().await;
    let (job, other) = (world.job("a").await, world.job("b").await);
    let going = world.execute(job.id).await.id;
    let another = world.execute(other.id).await.id;
    let worker = world.worker().await;
    // Somebody holds one of them, so the removal cannot go on.
    let mut holder = world.pools.system_tx().await.unwrap();
    sqlx::query("SELECT id FROM scheduler.waiting WHERE id = $1 FOR UPDATE")
        .bind(going.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    let delete = JobDelete { job_id: job.id };
    let claims = async {
        testkit::eventually("the removal stands", PATIENCE, || async {
            (tenants_count(&world, STANDS).await == 1).then_some(())
        })
        .await;
        let offers = [world.offer(going), world.offer(another)];
        let granted = worker.places(&offers).await;
        // Only now it may go on.
        holder.commit().await.unwrap();
        granted
    };
    let (removed, granted) = tokio::join!(world.ask(&delete), claims);
    removed.unwrap();
    let ids: Vec<_> = granted.iter().map(|place| place.id).collect();
    assert_eq!(ids, [another]);
    assert_eq!(world.status(going).await, ExecutionStatus::Cancelled);
    assert_eq!(world.status(another).await, ExecutionStatus::Running);
}

async fn tenants_count(world: &World, sql: &'static str) -> i64 {
    let mut tx = world.pools.tenant_tx(world.org).await.unwrap();
    let counted = sqlx::query_scalar(sql).fetch_one(&mut *tx).await;
    counted.unwrap()
}

#[tokio::test]
async fn more_than_one_request_ends_is_refused_as_a_whole() {
    let world = World::new().await;
    let job = world.job("a").await;
    let first = world.execute(job.id).await.id;
    world
        .run(
            "INSERT INTO scheduler.waiting (org_id, id, job_id, pool, key, priority, due, run_at, principal_kind, principal_id,
                credential, scheduled_for, created_at)
             SELECT org_id, gen_random_uuid(), job_id, pool, key, priority, due, run_at, principal_kind, principal_id,
                credential, scheduled_for, created_at
             FROM scheduler.waiting, generate_series(1, 10000)",
        )
        .await;
    let delete = JobDelete { job_id: job.id };
    let refusal = world.ask(&delete).await.unwrap_err();
    assert_eq!(refusal.kind, ProblemKind::Conflict);
    assert!(refusal.detail.contains("executions/cancel"), "{refusal}");
    assert_eq!(world.status(first).await, ExecutionStatus::Pending);
    assert_eq!(
        world.count("SELECT count(*) FROM scheduler.waiting").await,
        10_001
    );
}

#[tokio::test]
async fn whoever_asks_while_a_job_is_removed_gets_an_execution_that_is_cancelled_or_none() {
    let world = World::with_replicas(2).await;
    for round in 0..10 {
        let job = world.job(&format!("job {round}")).await;
        let grant = world.grant(world.org, Role::Owner);
        let ask = execute(job.id);
        let asking = futures::future::join_all((0..8).map(|_| world.ask_as(&grant, &ask)));
        let delete = JobDelete { job_id: job.id };
        let (asked, deleted) = tokio::join!(asking, world.ask(&delete));
        deleted.unwrap();
        for answer in asked {
            match answer {
                Ok(execution) => {
                    let now = world.status(execution.id).await;
                    assert_eq!(now, ExecutionStatus::Cancelled);
                }
                Err(problem) => assert_eq!(problem.kind, ProblemKind::NotFound, "{problem}"),
            }
        }
    }
    assert_eq!(
        world.count("SELECT count(*) FROM scheduler.waiting").await,
        0
    );
}

#[tokio::test]
async fn a_disabled_job_is_not_executed_and_a_paused_one_waits() {
    let world = World::new().await;
    let job = world.job("a").await;
    let set = |enabled, paused| JobEdit {
        enabled: Some(enabled),
        paused: Some(paused),
        ..edit(job.id)
    };
    world.ask(&set(false, false)).await.unwrap();
    let refusal = world.ask(&execute(job.id)).await.unwrap_err();
    assert_eq!(refusal.kind, ProblemKind::Conflict);
    assert!(refusal.detail.contains("disabled"), "{refusal}");
    world.ask(&set(true, true)).await.unwrap();
    let execution = world.execute(job.id).await;
    assert_eq!(execution.status, ExecutionStatus::Pending);
}
