//! Asking for executions: what is made of it, all or none, once for each key however many ask at once.

use std::collections::HashSet;

use chrono::Duration;
use contract::ProblemKind;
use contract::execution::{BatchItem, ExecutionBatch, ExecutionBatched, ExecutionSummary};
use contract::grant::PrincipalKind;
use contract::job::{JobCreate, JobExecute, Order};
use domain::access::Role;
use domain::execution::{BATCH_MAX, ExecutionStatus, Outcome};
use domain::{ExecutionId, JobId, MachineId, OrgId, Timestamp};
use serde_json::{Value, json};

use super::stage::PATIENCE;
use super::world::{World, execute, fields, new_job, refused, with_key};

const WAITING: &str = "SELECT count(*) FROM scheduler.waiting";
const KEYS: &str = "SELECT count(*) FROM scheduler.deduplications";

pub fn item(job: JobId, order: Order) -> BatchItem {
    BatchItem { job_id: job, order }
}

pub fn batch(items: Vec<BatchItem>) -> ExecutionBatch {
    ExecutionBatch {
        items,
        idempotency_key: None,
    }
}

pub fn with_config(config: Value) -> Order {
    Order {
        config: Some(fields(config)),
        ..Order::default()
    }
}

pub fn asked(job: JobId, order: Order) -> JobExecute {
    JobExecute {
        order,
        ..execute(job)
    }
}

fn ids(batched: &ExecutionBatched) -> Vec<ExecutionId> {
    batched.items.iter().map(|item| item.id).collect()
}

fn duplicates(batched: &ExecutionBatched) -> Vec<bool> {
    batched.items.iter().map(|item| item.duplicate).collect()
}

#[tokio::test]
async fn an_execution_waits_with_what_it_was_asked_with() {
    let world = World::new().await;
    let job = JobCreate {
        priority: Some(3),
        ..new_job("a")
    };
    let job = world.ask(&job).await.unwrap();
    let before = Timestamp::now();
    let plain = world.execute(job.id).await;
    assert_eq!((plain.status, plain.attempt), (ExecutionStatus::Pending, 0));
    assert_eq!((plain.job_id, plain.priority), (job.id, 3));
    assert_eq!(plain.run_as.kind, PrincipalKind::User);
    assert!(plain.created_at >= before && plain.scheduled_for >= before);
    assert!(plain.config.is_none() && plain.started_at.is_none() && !plain.duplicate);

    let run_at = Timestamp::now().plus(Duration::days(3));
    let order = Order {
        config: Some(fields(json!({ "deep": [1, null] }))),
        priority: Some(-3),
        run_at: Some(run_at),
        deduplication_key: Some("day".into()),
        concurrency_key: Some("site".into()),
    };
    let later = world.ask(&asked(job.id, order)).await.unwrap();
    assert_eq!((later.priority, later.run_at), (-3, Some(run_at)));
    assert_eq!(later.scheduled_for, run_at);
    assert_eq!(later.config, Some(fields(json!({ "deep": [1, null] }))));
    assert_eq!(later.deduplication_key.as_deref(), Some("day"));
    assert_eq!(later.concurrency_key.as_deref(), Some("site"));
    // Asked for alone, it has its log besides.
    let shown = world.get(later.id).await;
    assert_eq!(
        (&shown.logs, shown.logs_truncated),
        (&Some(vec![]), Some(false))
    );
    let due = "SELECT count(*) FROM scheduler.waiting WHERE due";
    assert_eq!(world.count(due).await, 1);
    // A time that has passed is no reason to wait.
    let past = Order {
        run_at: Some(before.plus(Duration::days(-1))),
        ..Order::default()
    };
    world.ask(&asked(job.id, past)).await.unwrap();
    assert_eq!(world.count(due).await, 2);
    let entries = world.audited("job.execute", 3).await;
    assert_eq!(entries[0].resource.id, Some(plain.id.to_string()));
    assert_eq!(entries[0].resource.name.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_wrong_order_is_named_and_nothing_waits() {
    let world = World::new().await;
    let job = world.job("a").await;
    let late = Timestamp::now().plus(Duration::days(31));
    let text = |length: usize| Some(fields(json!({ "text": "x".repeat(length) })));
    let table = [
        (
            Order {
                priority: Some(-101),
                ..Order::default()
            },
            ProblemKind::Invalid,
            "priority",
        ),
        (
            Order {
                run_at: Some(late),
                ..Order::default()
            },
            ProblemKind::Invalid,
            "runAt",
        ),
        (with_key(""), ProblemKind::Invalid, "deduplicationKey"),
        (
            with_key(&"x".repeat(129)),
            ProblemKind::Invalid,
            "deduplicationKey",
        ),
        (
            Order {
                concurrency_key: Some("a\tb".into()),
                ..Order::default()
            },
            ProblemKind::Invalid,
            "concurrencyKey",
        ),
        (
            Order {
                config: Some(fields(json!({ "a": "b\u{0}" }))),
                ..Order::default()
            },
            ProblemKind::Invalid,
            "config",
        ),
        (
            Order {
                config: text(65_536),
                ..Order::default()
            },
            ProblemKind::TooLarge,
            "config",
        ),
    ];
    for (order, kind, path) in table {
        let answer = world.ask(&asked(job.id, order.clone())).await;
        assert_eq!(refused(answer), (kind, path.to_owned()), "{order:?}");
        let items = vec![item(job.id, Order::default()), item(job.id, order)];
        let answer = world.ask(&batch(items)).await;
        assert_eq!(refused(answer), (kind, format!("items[1].{path}")));
    }
    for items in [vec![], vec![item(job.id, Order::default()); BATCH_MAX + 1]] {
        let answer = world.ask(&batch(items)).await;
        assert_eq!(refused(answer), (ProblemKind::Invalid, "items".to_owned()));
    }
    assert_eq!(world.count(WAITING).await, 0);
}

#[tokio::test]
async fn what_replaces_a_configuration_must_be_able_to_run_with_the_rest_of_it() {
    let world = World::new().await;
    let sleep = JobCreate {
        handler: "builtin/sleep".into(),
        config: fields(json!({ "ms": 5 })),
        ..new_job("sleep")
    };
    let sleep = world.ask(&sleep).await.unwrap().id;
    let payload = json!({ "message": "Maintenance at ten." });
    let act = JobCreate {
        handler: "builtin/action".into(),
        config: fields(
            json!({ "machineId": MachineId::new(), "kind": "message", "payload": payload }),
        ),
        ..new_job("act")
    };
    let act = world.ask(&act).await.unwrap().id;
    let noop = world.job("noop").await.id;
    let bad = [
        (sleep, json!({ "ms": "x" }), "config.ms"),
        (sleep, json!({ "ms": 86_400_001 }), "config.ms"),
        (sleep, json!({ "ms": null }), "config.ms"),
        (sleep, json!({ "x": 2 }), "config.x"),
        // Good alone, and not beside what the job says.
        (act, json!({ "kind": "reboot" }), "config.payload.message"),
        (act, json!({ "payload": {} }), "config.payload.message"),
    ];
    for (job, config, path) in bad {
        let answer = world.ask(&asked(job, with_config(config.clone()))).await;
        let expected = (ProblemKind::Invalid, path.to_owned());
        assert_eq!(refused(answer), expected, "{config}");
        let items = vec![
            item(job, Order::default()),
            item(noop, with_config(config.clone())),
            item(job, with_config(config.clone())),
        ];
        let expected = (ProblemKind::Invalid, format!("items[2].{path}"));
        assert_eq!(
            refused(world.ask(&batch(items)).await),
            expected,
            "{config}"
        );
    }
    assert_eq!(world.count(WAITING).await, 0);
    let good = [
        (sleep, json!({})),
        (sleep, json!({ "ms": 6 })),
        (
            act,
            json!({ "kind": "reboot", "payload": { "delaySeconds": 5 } }),
        ),
        (act, json!({ "kind": "ping", "payload": null })),
        (noop, json!({ "any": [1, null] })),
    ];
    for (job, config) in &good {
        let order = with_config(config.clone());
        assert!(world.ask(&asked(*job, order)).await.is_ok(), "{config}");
    }
    let items = good.map(|(job, config)| item(job, with_config(config)));
    assert!(world.ask(&batch(items.into())).await.is_ok());
    assert_eq!(world.count(WAITING).await, 10);
}

#[tokio::test]
async fn of_many_that_replace_something_wrong_the_first_is_named() {
    let world = World::new().await;
    let mut jobs = Vec::new();
    for number in 0..120 {
        let job = JobCreate {
            handler: "builtin/sleep".into(),
            config: fields(json!({ "ms": 5 })),
            ..new_job(&format!("job {number}"))
        };
        jobs.push(world.ask(&job).await.unwrap().id);
    }
    // In an order that is not that of the jobs' ids.
    let mut items: Vec<_> = (0..BATCH_MAX)
        .map(|number| {
            let job = jobs[jobs.len() - 1 - number % jobs.len()];
            item(job, with_config(json!({ "ms": number })))
        })
        .collect();
    items[BATCH_MAX - 1].order = with_config(json!({ "ms": 1, "x": 2 }));
    let last = format!("items[{}].config.x", BATCH_MAX - 1);
    let answer = world.ask(&batch(items.clone())).await;
    assert_eq!(refused(answer), (ProblemKind::Invalid, last));
    for number in [7_085, 7_003] {
        items[number].order = with_config(json!({ "ms": -1 }));
        let expected = format!("items[{number}].config.ms");
        let answer = world.ask(&batch(items.clone())).await;
        assert_eq!(refused(answer), (ProblemKind::Invalid, expected));
    }
    assert_eq!(world.count(WAITING).await, 0);
}

#[tokio::test]
async fn rights_and_organisations_hold() {
    let world = World::new().await;
    let job = world.job("a").await;
    let viewer = world.grant(world.org, Role::Viewer);
    let stranger = world.grant(OrgId::new(), Role::Owner);
    let operator = world.grant(world.org, Role::Operator);
    for (grant, kind) in [
        (&viewer, ProblemKind::Forbidden),
        (&stranger, ProblemKind::NotFound),
    ] {
        let one = world.ask_as(grant, &execute(job.id)).await;
        assert_eq!(refused(one).0, kind);
        let many = batch(vec![item(job.id, Order::default())]);
        assert_eq!(refused(world.ask_as(grant, &many).await).0, kind);
    }
    assert!(world.ask_as(&operator, &execute(job.id)).await.is_ok());
    assert_eq!(world.count(WAITING).await, 1);
}

#[tokio::test]
async fn a_batch_is_all_or_none() {
    let world = World::new().await;
    let job = world.job("a").await;
    let disabled = JobCreate {
        enabled: Some(false),
        ..new_job("b")
    };
    let disabled = world.ask(&disabled).await.unwrap();
    let good = || item(job.id, with_key("k"));
    for (bad, kind) in [
        (JobId::new(), ProblemKind::NotFound),
        (disabled.id, ProblemKind::Conflict),
    ] {
        let items = vec![good(), good(), item(bad, Order::default()), good()];
        let answer = world.ask(&batch(items)).await;
        assert_eq!(refused(answer), (kind, "items[2].jobId".to_owned()));
    }
    assert_eq!(world.count(WAITING).await, 0);
    assert_eq!(world.count(KEYS).await, 0);

    let other = world.job("c").await;
    let orders = [
        (
            job.id,
            Order {
                priority: Some(9),
                ..Order::default()
            },
        ),
        (other.id, Order::default()),
        (
            job.id,
            Order {
                config: Some(fields(json!({ "n": 3 }))),
                ..Order::default()
            },
        ),
    ];
    let items = orders.iter().map(|(job, order)| item(*job, order.clone()));
    let made = world.ask(&batch(items.collect())).await.unwrap();
    for ((job, order), summary) in orders.iter().zip(&made.items) {
        let execution = world.get(summary.id).await;
        assert_eq!((execution.job_id, summary.job_id), (*job, *job));
        assert_eq!(execution.priority, order.priority.unwrap_or(0));
        assert_eq!(execution.config, order.config);
        assert_eq!(
            *summary,
            ExecutionSummary {
                id: execution.id,
                job_id: *job,
                status: ExecutionStatus::Pending,
                duplicate: false,
                scheduled_for: execution.scheduled_for,
                created_at: execution.created_at,
            }
        );
    }
    // Later ones have greater ids, so lists show them in the order in which they were asked for.
    assert!(made.items.windows(2).all(|pair| pair[0].id < pair[1].id));
    let entry = world.audited("execution.batch", 1).await.remove(0);
    assert_eq!(entry.count, 3);
}

#[tokio::test]
async fn ten_thousand_are_one_request() {
    let world = World::new().await;
    let job = world.job("a").await;
    let order = Order {
        concurrency_key: Some("site".into()),
        ..Order::default()
    };
    let items = vec![item(job.id, order); BATCH_MAX];
    let made = world.ask(&batch(items)).await.unwrap();
    let distinct: HashSet<_> = ids(&made).into_iter().collect();
    assert_eq!(distinct.len(), BATCH_MAX);
    assert_eq!(world.count(WAITING).await, BATCH_MAX as i64);
    let entry = world.audited("execution.batch", 1).await.remove(0);
    assert_eq!(entry.count as usize, BATCH_MAX);
}

#[tokio::test]
async fn of_one_deduplication_key_one_waits_or_runs_however_many_ask_at_once() {
    let world = World::with_replicas(2).await;
    let (job, other) = (world.job("a").await, world.job("b").await);
    let grant = world.grant(world.org, Role::Owner);
    let ask = asked(job.id, with_key("k"));
    let all = futures::future::join_all((0..30).map(|_| world.ask_as(&grant, &ask))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    let distinct: HashSet<_> = all.iter().map(|execution| execution.id).collect();
    assert_eq!(distinct.len(), 1);
    let new = all.iter().filter(|execution| !execution.duplicate);
    assert_eq!(new.count(), 1);
    // Another key, or another job, is another matter.
    assert!(
        !world
            .ask(&asked(job.id, with_key("K")))
            .await
            .unwrap()
            .duplicate
    );
    assert!(
        !world
            .ask(&asked(other.id, with_key("k")))
            .await
            .unwrap()
            .duplicate
    );

    let first = all[0].id;
    assert_eq!(world.begin(&[first]).await, 1);
    let running = world.ask(&ask).await.unwrap();
    assert_eq!(
        (running.id, running.status, running.duplicate),
        (first, ExecutionStatus::Running, true)
    );
    world.finish(&[first], "COMPLETED").await;
    let next = world.ask(&ask).await.unwrap();
    assert!(next.id != first && !next.duplicate);
}

#[tokio::test]
async fn batches_that_share_keys_make_each_once_and_do_not_wait_for_each_other_for_ever() {
    let world = World::with_replicas(2).await;
    let job = world.job("a").await;
    let grant = world.grant(world.org, Role::Owner);
    let keys: Vec<String> = (0..40).map(|n| format!("key {n}")).collect();
    let requests: Vec<_> = (0..8)
        .map(|turn| {
            let mut keys = keys.clone();
            keys.rotate_left(turn * 5);
            let items = keys.iter().map(|key| item(job.id, with_key(key)));
            batch(items.collect())
        })
        .collect();
    let all = futures::future::join_all(requests.iter().map(|batch| world.ask_as(&grant, batch)));
    let all: Vec<_> = all.await.into_iter().map(Result::unwrap).collect();
    let distinct: HashSet<_> = all.iter().flat_map(ids).collect();
    assert_eq!(distinct.len(), keys.len());
    let new = all
        .iter()
        .flat_map(duplicates)
        .filter(|duplicate| !duplicate);
    assert_eq!(new.count(), keys.len());
    assert_eq!(world.count(WAITING).await, keys.len() as i64);
    // The same key has the same execution, whoever asked.
    let holders: HashSet<_> = requests
        .iter()
        .zip(&all)
        .flat_map(|(request, answer)| request.items.iter().zip(&answer.items))
        .map(|(item, summary)| (item.order.deduplication_key.clone(), summary.id))
        .collect();
    assert_eq!(holders.len(), keys.len());
}

#[tokio::test]
async fn a_key_counts_inside_a_batch_too() {
    let world = World::new().await;
    let job = world.job("a").await;
    let before = world.ask(&asked(job.id, with_key("old"))).await.unwrap();
    let orders = ["new", "old", "", "new", ""];
    let items = orders.iter().map(|key| match *key {
        "" => item(job.id, Order::default()),
        key => item(job.id, with_key(key)),
    });
    let made = world.ask(&batch(items.collect())).await.unwrap();
    assert_eq!(duplicates(&made), [false, true, false, true, false]);
    let ids = ids(&made);
    assert_eq!((ids[1], ids[3]), (before.id, ids[0]));
    assert_ne!(ids[2], ids[4]);
    assert_eq!(world.count(WAITING).await, 4);
    assert_eq!(world.audited("execution.batch", 1).await[0].count, 3);
}

#[tokio::test]
async fn one_idempotency_key_makes_the_same_executions_and_says_the_same_of_them() {
    let world = World::with_replicas(2).await;
    let job = world.job("a").await;
    let old = world.ask(&asked(job.id, with_key("old"))).await.unwrap();
    let grant = world.grant(world.org, Role::Owner);
    let request = ExecutionBatch {
        idempotency_key: Some("once".into()),
        ..batch(vec![
            item(job.id, Order::default()),
            item(job.id, with_key("old")),
            item(job.id, with_key("new")),
            item(job.id, with_key("new")),
        ])
    };
    let all = futures::future::join_all((0..10).map(|_| world.ask_as(&grant, &request))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    for answer in &all {
        assert_eq!(answer, &all[0]);
        assert_eq!(duplicates(answer), [false, true, false, true]);
        assert_eq!(answer.items[1].id, old.id);
    }
    assert_eq!(world.count(WAITING).await, 3);
    // Later it is the same, as they are by then.
    let first = all[0].items[0].id;
    world.begin(&[first]).await;
    let again = world.ask(&request).await.unwrap();
    assert_eq!(ids(&again), ids(&all[0]));
    assert_eq!(again.items[0].status, ExecutionStatus::Running);
    let other = ExecutionBatch {
        items: request.items[..1].to_vec(),
        ..request
    };
    assert_eq!(refused(world.ask(&other).await).0, ProblemKind::Conflict);

    // The same key of one that is asked for alone is another one.
    let one = JobExecute {
        idempotency_key: Some("once".into()),
        ..asked(job.id, with_key("old"))
    };
    let all = futures::future::join_all((0..10).map(|_| world.ask_as(&grant, &one))).await;
    for answer in all {
        let answer = answer.unwrap();
        assert_eq!((answer.id, answer.duplicate), (old.id, true));
    }
    let plain = JobExecute {
        idempotency_key: Some("another".into()),
        ..execute(job.id)
    };
    let all = futures::future::join_all((0..10).map(|_| world.ask_as(&grant, &plain))).await;
    let distinct: HashSet<_> = all.into_iter().map(|answer| answer.unwrap().id).collect();
    assert_eq!(distinct.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_that_come_together_the_most_urgent_begins_first() {
    let world = World::new().await;
    let job = JobCreate {
        concurrency: Some(1),
        ..new_job("a")
    };
    let job = world.ask(&job).await.unwrap();
    let worker = world.worker().await;
    let mut feed = worker.bus.offers("default");
    let order = |priority| Order {
        priority: Some(priority),
        ..Order::default()
    };
    let items = [-100, 0, 100, 5].map(|priority| item(job.id, order(priority)));
    world.ask(&batch(items.to_vec())).await.unwrap();
    let mut begun = Vec::new();
    while begun.len() < 4 {
        let offers = tokio::time::timeout(PATIENCE, feed.next(10)).await.unwrap();
        for place in worker.places(&offers).await {
            begun.push(world.get(place.id).await.priority);
            worker.conclude(place, Outcome::Completed).await;
        }
    }
    assert_eq!(begun, [100, 5, 0, -100]);
}
