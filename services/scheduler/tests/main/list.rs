//! Lists of executions and their logs: in order, complete whatever moves meanwhile, and nobody else's.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::Duration;
use contract::ProblemKind;
use contract::execution::{
    BatchItem, Execution, ExecutionBatch, ExecutionFilter, ExecutionGet, ExecutionList,
    ExecutionLog, ExecutionPage, LogPlace,
};
use contract::job::Order;
use domain::access::Role;
use domain::execution::{ExecutionStatus, LOG_MAX_BYTES, first_id, made_at};
use domain::{ExecutionId, JobId, OrgId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::world::{World, fields, refused};

const PARTITIONS: &str = "SELECT scheduler.partitions_ensure(current_date - 13, current_date + 2)";

/// As if those that wait had been made at other times: their ids say when.
const MOVE: &str = "
    UPDATE scheduler.waiting AS w SET id = moved.id FROM unnest($1::uuid[], $2::uuid[]) AS moved (was, id)
    WHERE w.id = moved.was";

fn list(filter: ExecutionFilter, limit: u32, cursor: Option<String>) -> ExecutionList {
    ExecutionList {
        filter,
        limit,
        cursor,
    }
}

/// All pages of a list.
async fn all(world: &World, filter: &ExecutionFilter, limit: u32) -> Vec<Execution> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let ask = list(filter.clone(), limit, cursor);
        let page: ExecutionPage = world.ask(&ask).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        found.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return found;
        }
    }
}

fn ids(executions: &[Execution]) -> Vec<ExecutionId> {
    executions.iter().map(|execution| execution.id).collect()
}

fn of(status: Option<ExecutionStatus>, dead_letter: Option<bool>) -> ExecutionFilter {
    ExecutionFilter {
        status,
        dead_letter,
        ..ExecutionFilter::default()
    }
}

async fn many(world: &World, job: JobId, count: usize, order: Order) -> Vec<ExecutionId> {
    let item = BatchItem { job_id: job, order };
    let batch = ExecutionBatch {
        items: vec![item; count],
        idempotency_key: None,
    };
    let made = world.ask(&batch).await.unwrap();
    made.items.iter().map(|item| item.id).collect()
}

#[tokio::test]
async fn each_filter_shows_what_fits_the_newest_first() {
    let world = World::new().await;
    let (job, other) = (world.job("a").await, world.job("b").await);
    let ours = many(&world, job.id, 12, Order::default()).await;
    let theirs = many(&world, other.id, 5, Order::default()).await;
    world.begin(&ours[..8]).await;
    world.finish(&ours[..2], "COMPLETED").await;
    world.finish(&ours[2..4], "FAILED").await;
    world.finish(&ours[4..5], "TIMEOUT").await;
    world.finish(&ours[5..6], "CANCELLED").await;
    world.begin(&theirs[..1]).await;
    world.finish(&theirs[..1], "FAILED").await;
    let of_job = |filter| ExecutionFilter {
        job_id: Some(job.id),
        ..filter
    };
    use ExecutionStatus::{Cancelled, Completed, Failed, Pending, Running, Timeout};
    let newest_first = |groups: &[&[ExecutionId]]| {
        let mut ids = groups.concat();
        ids.sort_unstable();
        ids.reverse();
        ids
    };
    let table = [
        (of(None, None), newest_first(&[&ours, &theirs])),
        (of_job(of(None, None)), newest_first(&[&ours])),
        (
            of(Some(Pending), None),
            newest_first(&[&ours[8..], &theirs[1..]]),
        ),
        (of_job(of(Some(Pending), None)), newest_first(&[&ours[8..]])),
        (of(Some(Running), None), newest_first(&[&ours[6..8]])),
        (
            of_job(of(Some(Running), None)),
            newest_first(&[&ours[6..8]]),
        ),
        (of(Some(Completed), None), newest_first(&[&ours[..2]])),
        (
            of(Some(Failed), None),
            newest_first(&[&ours[2..4], &theirs[..1]]),
        ),
        (of_job(of(Some(Failed), None)), newest_first(&[&ours[2..4]])),
        (of(Some(Timeout), None), newest_first(&[&ours[4..5]])),
        (of(Some(Cancelled), None), newest_first(&[&ours[5..6]])),
        (
            of(None, Some(true)),
            newest_first(&[&ours[2..5], &theirs[..1]]),
        ),
        (of_job(of(None, Some(true))), newest_first(&[&ours[2..5]])),
        (of(Some(Timeout), Some(true)), newest_first(&[&ours[4..5]])),
        (of(Some(Pending), Some(true)), vec![]),
        (
            of(None, Some(false)),
            newest_first(&[&ours[..2], &ours[5..], &theirs[1..]]),
        ),
        (
            of_job(of(None, Some(false))),
            newest_first(&[&ours[..2], &ours[5..]]),
        ),
        (of(Some(Failed), Some(false)), vec![]),
    ];
    for (filter, expected) in table {
        for limit in [1, 3, 200] {
            let found = all(&world, &filter, limit).await;
            assert_eq!(ids(&found), expected, "{filter:?} by {limit}");
        }
    }
    // Times: `from` is in, `to` is not.
    let all_of_them = all(&world, &of(None, None), 200).await;
    for (from, to) in [(0, 16), (3, 11), (8, 8)] {
        let at = |place: usize| all_of_them[place].created_at;
        let filter = ExecutionFilter {
            from: Some(at(to)),
            to: Some(at(from)),
            ..ExecutionFilter::default()
        };
        let fits = |execution: &&Execution| {
            execution.created_at >= at(to) && execution.created_at < at(from)
        };
        let expected: Vec<_> = all_of_them.iter().filter(fits).map(|one| one.id).collect();
        assert_eq!(ids(&all(&world, &filter, 4).await), expected);
    }
}

#[tokio::test]
async fn bad_questions_are_named_and_other_organisations_see_nothing() {
    let world = World::new().await;
    let job = world.job("a").await;
    let id = world.execute(job.id).await.id;
    let any = ExecutionFilter::default;
    let now = domain::Timestamp::now();
    let backwards = ExecutionFilter {
        from: Some(now),
        to: Some(now.plus(Duration::seconds(-1))),
        ..any()
    };
    for (question, path) in [
        (list(any(), 0, None), "limit"),
        (list(any(), 201, None), "limit"),
        (list(any(), 1, Some("x".into())), "cursor"),
        (list(backwards, 1, None), "from"),
    ] {
        let answer = refused(world.ask(&question).await);
        assert_eq!(answer, (ProblemKind::Invalid, path.to_owned()));
    }
    let stranger = world.grant(OrgId::new(), Role::Owner);
    for filter in [
        any(),
        ExecutionFilter {
            job_id: Some(job.id),
            ..any()
        },
    ] {
        let page = world.ask_as(&stranger, &list(filter, 50, None)).await;
        assert!(page.unwrap().items.is_empty());
    }
    let get = ExecutionGet { execution_id: id };
    let log = ExecutionLog {
        execution_id: id,
        after: None,
    };
    assert_eq!(
        refused(world.ask_as(&stranger, &get).await).0,
        ProblemKind::NotFound
    );
    assert_eq!(
        refused(world.ask_as(&stranger, &log).await).0,
        ProblemKind::NotFound
    );
    let viewer = world.grant(world.org, Role::Viewer);
    assert!(world.ask_as(&viewer, &get).await.is_ok());
    let nobody = world.grant_with(world.org, domain::access::Scopes::default());
    assert_eq!(
        refused(world.ask_as(&nobody, &get).await).0,
        ProblemKind::Forbidden
    );
}

#[tokio::test]
async fn pages_are_complete_and_in_order_while_everything_moves() {
    let world = World::new().await;
    let job = world.job("a").await;
    let made = many(&world, job.id, 150, Order::default()).await;
    let expected: Vec<_> = made.iter().rev().copied().collect();
    let over = AtomicBool::new(false);
    // Each goes round and round: it waits, runs, has ended, waits again.
    let moving = async {
        let mut turn = 0;
        while !over.load(Ordering::Relaxed) {
            let (start, step) = (turn % 7, 7);
            let some: Vec<_> = made.iter().skip(start).step_by(step).copied().collect();
            world.begin(&some).await;
            world.finish(&some, "FAILED").await;
            for id in some.iter().take(5) {
                world.retry(*id).await.unwrap();
            }
            turn += 1;
        }
        turn
    };
    let looking = async {
        for round in 0..25 {
            let filter = if round % 2 == 0 {
                ExecutionFilter::default()
            } else {
                ExecutionFilter {
                    job_id: Some(job.id),
                    ..ExecutionFilter::default()
                }
            };
            let found = all(&world, &filter, 20).await;
            assert_eq!(ids(&found), expected, "round {round}");
        }
        over.store(true, Ordering::Relaxed);
    };
    let (turns, ()) = tokio::join!(moving, looking);
    assert!(turns > 0);
    // What is wanted in one status is in it when it is shown.
    for status in ExecutionStatus::ALL {
        let found = all(&world, &of(Some(status), None), 50).await;
        assert!(found.iter().all(|execution| execution.status == status));
    }
}

#[tokio::test]
async fn a_page_with_much_in_it_ends_early_and_nothing_is_left_out() {
    let world = World::new().await;
    let job = world.job("a").await;
    let order = Order {
        config: Some(fields(json!({ "text": "x".repeat(60_000) }))),
        ..Order::default()
    };
    let mut made = Vec::new();
    for _ in 0..4 {
        made.extend(many(&world, job.id, 15, order.clone()).await);
    }
    let first = world
        .ask(&list(ExecutionFilter::default(), 200, None))
        .await;
    let first = first.unwrap();
    assert!(first.next_cursor.is_some() && first.items.len() < 20);
    let found = all(&world, &ExecutionFilter::default(), 200).await;
    made.reverse();
    assert_eq!(ids(&found), made);
}

#[tokio::test]
async fn dead_letters_are_found_among_many_others() {
    let world = World::new().await;
    let job = world.job("a").await;
    let made = many(&world, job.id, 10_000, Order::default()).await;
    world.begin(&made).await;
    world.finish(&[made[0], made[9_999]], "COMPLETED").await;
    world.finish(&made[1..9_999], "FAILED").await;
    let found = all(&world, &of(None, Some(false)), 50).await;
    assert_eq!(ids(&found), [made[9_999], made[0]]);
    let neither = of(Some(ExecutionStatus::Failed), Some(false));
    assert!(all(&world, &neither, 50).await.is_empty());
    let dead = list(of(None, Some(true)), 200, None);
    let page = world.ask(&dead).await.unwrap();
    assert_eq!(page.items.len(), 200);
    assert_eq!(page.items[0].id, made[9_998]);
}

#[tokio::test]
async fn a_log_is_read_from_a_place_on_and_its_end_comes_with_the_execution() {
    let world = World::new().await;
    let job = world.job("a").await;
    let id = world.execute(job.id).await.id;
    world.begin(&[id]).await;
    let text = |lines: std::ops::Range<i64>| -> Vec<String> {
        lines.map(|line| format!("line {line}")).collect()
    };
    world.log(id, 1, 0, &text(0..3)).await;
    world.log(id, 1, 3, &text(3..5)).await;
    world.log(id, 2, 0, &text(0..2)).await;
    let read = async |after: Option<(i32, i64)>| {
        let after = after.map(|(attempt, line)| LogPlace { attempt, line });
        let ask = ExecutionLog {
            execution_id: id,
            after,
        };
        let page = world.ask(&ask).await.unwrap();
        assert_eq!(page.status, ExecutionStatus::Running);
        let mut places = Vec::new();
        for lines in page.items {
            for (line, text) in (lines.first.line..).zip(&lines.lines) {
                assert_eq!(*text, format!("line {line}"));
                places.push((lines.first.attempt, line));
            }
        }
        places
    };
    let everything = [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0), (2, 1)];
    assert_eq!(read(None).await, everything);
    for (index, place) in everything.iter().enumerate() {
        assert_eq!(read(Some(*place)).await, everything[index + 1..]);
    }
    assert_eq!(read(Some((1, 99))).await, [(2, 0), (2, 1)]);

    let shown = world.get(id).await;
    let logs = shown.logs.unwrap();
    assert_eq!((logs.len(), shown.logs_truncated), (7, Some(false)));
    assert_eq!((logs[0].as_str(), logs[6].as_str()), ("line 0", "line 1"));
    // Only the end of a long one.
    let long: Vec<String> = (0..60).map(|_| "x".repeat(1_023)).collect();
    world.log(id, 2, 2, &long).await;
    world.log(id, 2, 62, &long[..10]).await;
    let shown = world.get(id).await;
    let logs = shown.logs.unwrap();
    assert_eq!(shown.logs_truncated, Some(true));
    let bytes: usize = logs.iter().map(|line| line.len() + 1).sum();
    assert_eq!(bytes, LOG_MAX_BYTES);
    assert_eq!(logs.len(), 64);
    // Lists have none.
    let listed = all(&world, &ExecutionFilter::default(), 10).await;
    assert!(listed[0].logs.is_none() && listed[0].logs_truncated.is_none());
}

#[tokio::test]
async fn what_is_of_another_day_is_found_too() {
    let world = World::new().await;
    let job = world.job("a").await;
    let today = world.ended(job.id, "FAILED").await;
    // As if it had been made yesterday: its id says so.
    let at = domain::Timestamp::now().plus(Duration::days(-1));
    let yesterday = ExecutionId(domain::execution::first_id(at));
    sqlx::query(
        "INSERT INTO scheduler.ended (org_id, id, job_id, pool, key, priority, principal_kind, principal_id, credential,
            scheduled_for, created_at, attempt, failures, losses, version, status, started_at, ended_at, dead_letter)
         SELECT org_id, $1, job_id, pool, key, priority, principal_kind, principal_id, credential, scheduled_for, $2,
            attempt, failures, losses, version, status, started_at, ended_at, dead_letter
         FROM scheduler.ended",
    )
    .bind(yesterday.0)
    .bind(at.utc())
    .execute(world.pools.system())
    .await
    .unwrap();
    let found = all(&world, &ExecutionFilter::default(), 1).await;
    assert_eq!(ids(&found), [today, yesterday]);
    let before = ExecutionFilter {
        to: Some(at.plus(Duration::seconds(1))),
        ..ExecutionFilter::default()
    };
    assert_eq!(ids(&all(&world, &before, 10).await), [yesterday]);
    assert_eq!(world.get(yesterday).await.created_at, at);
    let again = world.retry(yesterday).await.unwrap();
    assert_eq!(again.status, ExecutionStatus::Pending);
    let distinct: HashSet<_> = ids(&all(&world, &ExecutionFilter::default(), 1).await)
        .into_iter()
        .collect();
    assert_eq!(distinct, HashSet::from([today, yesterday]));
}

/// What a list should show.
struct Known {
    id: ExecutionId,
    job: JobId,
    status: ExecutionStatus,
}

impl Known {
    fn fits(&self, filter: &ExecutionFilter) -> bool {
        use ExecutionStatus::{Failed, Timeout};
        let dead = matches!(self.status, Failed | Timeout);
        let at = made_at(self.id);
        filter.job_id.is_none_or(|job| job == self.job)
            && filter.status.is_none_or(|status| status == self.status)
            && filter.dead_letter.is_none_or(|wanted| wanted == dead)
            && filter.from.is_none_or(|from| at >= from)
            && filter.to.is_none_or(|to| at < to)
    }
}

/// Forty executions, the newest first, seven hours between each and the next: the first of a clock that is ahead, the last eleven
/// days old. In all states at any age, every fourth of the second job.
async fn eleven_days(world: &World, jobs: [JobId; 2], now: Timestamp) -> Vec<Known> {
    use ExecutionStatus::{Cancelled, Completed, Failed, Pending, Running, Timeout};
    let statuses = [Pending, Completed, Failed, Running, Timeout, Cancelled];
    world.run(PARTITIONS).await;
    let mut made = [
        many(world, jobs[0], 30, Order::default()).await.into_iter(),
        many(world, jobs[1], 10, Order::default()).await.into_iter(),
    ];
    let (mut known, mut was): (Vec<Known>, Vec<Uuid>) = (Vec::new(), Vec::new());
    for place in 0_usize..40 {
        let of_second = usize::from(place % 4 == 3);
        was.push(made[of_second].next().unwrap().0);
        let at = now.plus(Duration::hours(7 - 7 * place as i64));
        known.push(Known {
            id: ExecutionId(first_id(at)),
            job: jobs[of_second],
            status: statuses[place % statuses.len()],
        });
    }
    let moved: Vec<Uuid> = known.iter().map(|one| one.id.0).collect();
    let moving = sqlx::query(MOVE).bind(was).bind(moved);
    let moving = moving.execute(world.pools.system()).await.unwrap();
    assert_eq!(moving.rows_affected(), 40);
    for status in statuses {
        let of_it = known.iter().filter(|one| one.status == status);
        let of_it: Vec<ExecutionId> = of_it.map(|one| one.id).collect();
        let count = of_it.len() as u64;
        if status != Pending {
            assert_eq!(world.begin(&of_it).await, count);
        }
        if ![Pending, Running].contains(&status) {
            assert_eq!(world.finish(&of_it, status.as_str()).await, count);
        }
    }
    known
}

#[tokio::test]
async fn pages_are_complete_and_in_order_across_days() {
    let world = World::new().await;
    let jobs = [world.job("a").await.id, world.job("b").await.id];
    let now = Timestamp::now();
    let known = eleven_days(&world, jobs, now).await;
    let ago = |hours: i64| Some(now.plus(Duration::hours(-hours)));
    let times = [
        (None, None),
        (ago(30), None),
        (None, ago(100)),
        (ago(200), ago(60)),
    ];
    let states = std::iter::once((None, None))
        .chain(ExecutionStatus::ALL.map(|status| (Some(status), None)))
        .chain([(None, Some(true)), (None, Some(false))]);
    for (status, dead_letter) in states {
        for job_id in [None, Some(jobs[0]), Some(jobs[1])] {
            for (from, to) in times {
                let filter = ExecutionFilter {
                    job_id,
                    from,
                    to,
                    ..of(status, dead_letter)
                };
                let expected = known.iter().filter(|one| one.fits(&filter));
                let expected: Vec<ExecutionId> = expected.map(|one| one.id).collect();
                // Pages of the last days, ones that reach a little beyond them, and one of all.
                for limit in [3, 8, 50] {
                    let found = all(&world, &filter, limit).await;
                    assert_eq!(ids(&found), expected, "{filter:?} by {limit}");
                }
            }
        }
    }
}
