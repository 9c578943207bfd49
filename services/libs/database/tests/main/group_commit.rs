//! Law L3: whatever comes together, and whatever happens to the database meanwhile, each item is answered, applied
//! once or refused with its own error, and items of one key are applied in the order in which they came.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use database::{DatabaseError, GroupCommit};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::probe::{Fate, Item, Probe, Tallies, Tally, in_one, submit_all};

/// How many cases are tried.
const CASES: u32 = 40;
/// How many keys there are.
const KEYS: i32 = 12;

/// What is wrong with an item, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A constraint refuses it.
    Thirteen,
    /// It is no number.
    Nonsense,
    /// It is a number that does not fit.
    TooLarge,
    /// The server has a limit for it.
    Fifteen,
}

impl Fault {
    fn value(self, number: i32) -> String {
        match self {
            Self::None => if number == 13 || number == 15 {
                14
            } else {
                number
            }
            .to_string(),
            Self::Thirteen => "13".into(),
            Self::Nonsense => "thirteen".into(),
            Self::TooLarge => "1300000000000".into(),
            Self::Fifteen => "15".into(),
        }
    }

    fn is(self, answer: &Result<Fate, DatabaseError>) -> bool {
        match (self, answer) {
            (Self::None, Ok(_)) => true,
            (Self::Thirteen, Err(error)) => error.constraint() == Some("seen_not_thirteen"),
            (Self::Nonsense, Err(DatabaseError::Data(text))) => text.contains("thirteen"),
            (Self::TooLarge, Err(DatabaseError::Data(text))) => text.contains("out of range"),
            (Self::Fifteen, Err(DatabaseError::Data(text))) => text.contains("fifteen"),
            _ => false,
        }
    }
}

/// How connections end.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The server ends them, and what they were doing.
    Killed,
    /// The server knows nothing of it, and goes on.
    Severed,
}

/// Two replicas' items, and what happens while they are written.
#[derive(Clone, Debug)]
struct Case {
    left: Vec<(i32, Fault)>,
    right: Vec<(i32, Fault)>,
    /// A stranger locks the keys in descending order.
    stranger: bool,
    /// What happens to every connection in the middle of a write, and how many tenths of a millisecond before that.
    cuts: Vec<(Cut, u64)>,
    one_statement: bool,
}

fn items() -> impl Strategy<Value = Vec<(i32, Fault)>> {
    let fault = prop_oneof![
        16 => Just(Fault::None),
        1 => Just(Fault::Thirteen),
        1 => Just(Fault::Nonsense),
        1 => Just(Fault::TooLarge),
        1 => Just(Fault::Fifteen),
    ];
    prop::collection::vec((0..KEYS, fault), 1..60)
}

fn cases() -> impl Strategy<Value = Case> {
    let cut = prop_oneof![Just(Cut::Killed), Just(Cut::Severed)];
    let cuts =
        prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec((cut, 0..30u64), 1..4)];
    (items(), items(), any::<bool>(), cuts, any::<bool>()).prop_map(
        |(left, right, stranger, cuts, one_statement)| Case {
            left,
            right,
            stranger,
            cuts,
            one_statement,
        },
    )
}

/// How many answers were "try again" at last; their senders did (law L2).
static RETRIED: AtomicUsize = AtomicUsize::new(0);

/// Numbers of the second replica begin here.
const RIGHT: i32 = 1_000_000;

fn made(plan: &[(i32, Fault)], first: i32) -> Vec<Item> {
    plan.iter()
        .zip(first..)
        .map(|((key, fault), number)| Item {
            key: *key,
            id: Uuid::new_v4(),
            number,
            value: fault.value(number),
        })
        .collect()
}

/// Hands everything in, and again what nobody could say anything about; says which those were.
async fn deliver<const ONE: bool>(
    commits: &GroupCommit<Tallies<ONE>>,
    items: &[Item],
) -> (Vec<Result<Fate, DatabaseError>>, Vec<i32>) {
    let mut answers = submit_all(commits, items).await;
    let mut again = Vec::new();
    for (item, answer) in items.iter().zip(&mut answers) {
        for _ in 0..5 {
            if !answer.as_ref().is_err_and(DatabaseError::is_transient) {
                break;
            }
            RETRIED.fetch_add(1, Ordering::Relaxed);
            again.push(item.number);
            *answer = commits.submit(item.clone()).await;
        }
    }
    (answers, again)
}

/// Locks keys in descending order, which is the wrong one, for as long as it is let. Who waited first gives way.
async fn stranger(url: String) {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection
        .execute("SET deadlock_timeout = '40ms'")
        .await
        .unwrap();
    loop {
        let mut tx = connection.begin().await.unwrap();
        for key in (0..KEYS).rev() {
            let lock = sqlx::query("SELECT FROM probe.tallies WHERE key = $1 FOR UPDATE").bind(key);
            if lock.execute(&mut *tx).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        tx.rollback().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn run<const ONE: bool>(
    probe: &Probe,
    admin_url: &str,
    case: &Case,
) -> Result<(), TestCaseError> {
    probe.clear().await;
    if case.stranger {
        // It needs rows to lock.
        let fill = format!(
            "INSERT INTO probe.tallies SELECT key, 0, 0, '{{}}' FROM generate_series(0, {}) AS key",
            KEYS - 1
        );
        probe
            .admin
            .execute(sqlx::AssertSqlSafe(fill))
            .await
            .unwrap();
    }
    let (left_pools, left) = probe.replica::<ONE>();
    let (right_pools, right) = probe.replica::<ONE>();
    let (left_items, right_items) = (made(&case.left, 0), made(&case.right, RIGHT));
    let stranger = case
        .stranger
        .then(|| tokio::spawn(stranger(admin_url.to_owned())));
    let cutting = async {
        for (cut, pause) in &case.cuts {
            let end = Instant::now() + Duration::from_millis(60);
            while !probe.is_writing().await && Instant::now() < end {}
            tokio::time::sleep(Duration::from_micros(pause * 100)).await;
            match cut {
                Cut::Killed => _ = probe.cut().await,
                Cut::Severed => probe.sever(),
            }
        }
    };
    let ((left_answers, left_again), (right_answers, right_again), _) = tokio::join!(
        deliver(&left, &left_items),
        deliver(&right, &right_items),
        cutting
    );
    if let Some(stranger) = stranger {
        stranger.abort();
        drop(stranger.await);
    }
    left_pools.close().await;
    right_pools.close().await;

    for ((_, fault), answer) in case
        .left
        .iter()
        .zip(&left_answers)
        .chain(case.right.iter().zip(&right_answers))
    {
        prop_assert!(fault.is(answer), "{fault:?} was answered {answer:?}");
    }
    let tallies = probe.tallies().await;
    check_once(&tallies, case, &left_items, &right_items)?;
    check_order(&tallies, &[left_again, right_again].concat())
}

fn check_once(
    tallies: &BTreeMap<i32, Tally>,
    case: &Case,
    left: &[Item],
    right: &[Item],
) -> Result<(), TestCaseError> {
    let mut expected: BTreeMap<i32, Tally> = BTreeMap::new();
    for ((_, fault), item) in case
        .left
        .iter()
        .zip(left)
        .chain(case.right.iter().zip(right))
    {
        if *fault == Fault::None {
            let tally = expected.entry(item.key).or_default();
            tally.count += 1;
            tally.total += item.value.parse::<i64>().unwrap();
            tally.history.push(item.number);
        }
    }
    prop_assert_eq!(
        tallies.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (key, tally) in tallies {
        let mut history = tally.history.clone();
        history.sort_unstable();
        let sorted = Tally {
            history,
            ..tally.clone()
        };
        prop_assert_eq!(&sorted, &expected[key], "key {}", key);
    }
    Ok(())
}

/// Of each replica, each key's numbers grow; but for those that were handed in again, and so came later.
fn check_order(tallies: &BTreeMap<i32, Tally>, again: &[i32]) -> Result<(), TestCaseError> {
    for (key, tally) in tallies {
        for replica in [0..RIGHT, RIGHT..i32::MAX] {
            let own: Vec<i32> = tally
                .history
                .iter()
                .copied()
                .filter(|number| replica.contains(number) && !again.contains(number))
                .collect();
            prop_assert!(own.is_sorted(), "key {key}: {own:?}");
        }
    }
    Ok(())
}

#[test]
fn each_item_is_answered_and_applied_once_in_order_whatever_happens() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    let probe = runtime.block_on(Probe::new());
    let admin_url = runtime
        .block_on(testkit::Postgres::shared())
        .admin_url(&probe.database.name);
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&cases(), |case| {
        runtime.block_on(async {
            if case.one_statement {
                run::<true>(&probe, &admin_url, &case).await
            } else {
                run::<false>(&probe, &admin_url, &case).await
            }
        })
    });
    let [deadlocks, lost, repeated] = [
        &probe.trouble.deadlocks,
        &probe.trouble.lost,
        &probe.trouble.repeated,
    ]
    .map(|count| count.load(Ordering::Relaxed));
    let retried = RETRIED.load(Ordering::Relaxed);
    println!(
        "group commit: {CASES} cases, {deadlocks} deadlocks, {lost} lost connections, {repeated} found applied, {retried} handed in again"
    );
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(
        deadlocks > 0 && lost > 0,
        "nothing happened to the database"
    );
}

/// Loses the connection while the server commits, which it does to its end, and sees what the answers are.
async fn lose_the_commit<const ONE: bool>(keys: i32, items: i32) {
    let probe = Probe::new().await;
    let (_, commits) = probe.replica::<ONE>();
    let items: Vec<Item> = (0..items)
        .map(|number| Item {
            key: number % keys,
            id: Uuid::new_v4(),
            number,
            value: "5".into(),
        })
        .collect();
    let (answers, ()) = tokio::join!(submit_all(&commits, &items), async {
        testkit::eventually("the server commits", Duration::from_secs(5), || async {
            probe.is_committing().await.then_some(())
        })
        .await;
        probe.sever();
    });
    let repeated = probe.trouble.repeated.load(Ordering::Relaxed);
    assert_eq!(repeated, items.len(), "the commit was not lost");
    assert!(
        answers.iter().all(|answer| *answer == Ok(Fate::Repeated)),
        "{answers:?}"
    );
    let counts: i32 = probe
        .tallies()
        .await
        .values()
        .map(|tally| tally.count)
        .sum();
    assert_eq!(usize::try_from(counts).unwrap(), items.len());
}

// On one thread everything is handed in before the committer looks: one batch.
#[tokio::test]
async fn a_commit_whose_outcome_is_unknown_is_run_again_with_the_same_ids() {
    // A statement alone; a transaction of several waves; a batch of several statements.
    lose_the_commit::<true>(100, 100).await;
    lose_the_commit::<true>(20, 100).await;
    lose_the_commit::<false>(100, 100).await;
}

/// The same keys from two replicas, in every order.
fn shuffled(keys: i32, first: i32) -> Vec<Item> {
    let mut items: Vec<Item> = (0..keys)
        .zip(first..)
        .map(|(key, number)| Item {
            key,
            id: Uuid::new_v4(),
            number,
            value: "1".into(),
        })
        .collect();
    items.sort_by_key(|item| item.id);
    items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn two_replicas_never_deadlock_because_each_batch_is_sorted() {
    let probe = Probe::new().await;
    let ((_, left), (_, right)) = (probe.replica::<true>(), probe.replica::<true>());
    for round in 0..20 {
        let (ours, theirs) = (
            shuffled(300, round * 1_000),
            shuffled(300, RIGHT + round * 1_000),
        );
        let (ours, theirs) = tokio::join!(submit_all(&left, &ours), submit_all(&right, &theirs));
        assert!(
            ours.iter()
                .chain(&theirs)
                .all(|answer| *answer == Ok(Fate::Applied))
        );
    }
    assert_eq!(probe.trouble.deadlocks.load(Ordering::Relaxed), 0);
    assert!(
        probe
            .tallies()
            .await
            .values()
            .all(|tally| tally.count == 40)
    );

    // Without sorting, the same statement does deadlock: the test above can fail.
    let url = probe.database.url("df_action_system");
    let (mut one, mut other) = (
        PgConnection::connect(&url).await.unwrap(),
        PgConnection::connect(&url).await.unwrap(),
    );
    let collided = async {
        for _ in 0..200 {
            let (ours, theirs) = (shuffled(300, 0), shuffled(300, RIGHT));
            let (ours, theirs): (Vec<&Item>, Vec<&Item>) =
                (ours.iter().collect(), theirs.iter().collect());
            let (one, other) = tokio::join!(in_one(&mut one, &ours), in_one(&mut other, &theirs));
            let deadlock = |result: Result<Vec<Fate>, sqlx::Error>| {
                result.is_err_and(|error| DatabaseError::from(error) == DatabaseError::Collision)
            };
            if deadlock(one) || deadlock(other) {
                return true;
            }
        }
        false
    };
    assert!(collided.await, "unsorted batches did not collide");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_path_commits_at_once_and_a_busy_one_gathers() {
    let probe = Probe::new().await;
    let (_, commits) = probe.replica::<true>();
    let mut alone = Vec::new();
    for item in shuffled(30, 0) {
        let began = Instant::now();
        commits.submit(item).await.unwrap();
        alone.push(began.elapsed());
    }
    alone.sort_unstable();
    let transactions = || {
        sqlx::query_scalar::<_, i64>("SELECT count(DISTINCT xid) FROM probe.seen")
            .fetch_one(&probe.admin)
    };
    assert_eq!(
        transactions().await.unwrap(),
        30,
        "an item alone waits for nobody"
    );

    probe.clear().await;
    let began = Instant::now();
    let items = shuffled(5_000, 0);
    assert!(
        submit_all(&commits, &items)
            .await
            .iter()
            .all(|answer| *answer == Ok(Fate::Applied))
    );
    let took = began.elapsed();
    let transactions = transactions().await.unwrap();
    println!(
        "group commit: alone {:?} (median), 5000 together in {took:?} and {transactions} commits",
        alone[15]
    );
    assert!(transactions <= 20, "{transactions} commits for 5000 items");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_and_forgets_nothing_that_it_took() {
    let probe = Probe::new().await;
    let (_, commits) = probe.replica::<true>();
    let mut blocker = probe.admin.begin().await.unwrap();
    blocker.execute("LOCK TABLE probe.seen").await.unwrap();
    let items = shuffled(23_000, 0);
    let waiting = tokio::spawn({
        let (commits, items) = (commits.clone(), items.clone());
        async move { submit_all(&commits, &items).await }
    });
    let full = || async {
        commits
            .submit(items[0].clone())
            .await
            .err()
            .filter(|error| error.to_string().contains("too many"))
    };
    // Whatever fits is waiting; one more is refused while nothing moves.
    testkit::eventually("the queue is full", Duration::from_secs(10), || async {
        tokio::time::timeout(Duration::from_millis(200), full())
            .await
            .ok()
            .flatten()
    })
    .await;
    blocker.rollback().await.unwrap();
    let answers = waiting.await.unwrap();
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(DatabaseError::Unavailable(_))))
        .count();
    let applied = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(applied + refused, items.len());
    assert!((1_000..=3_000).contains(&refused), "{refused} refused");
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM probe.seen")
        .fetch_one(&probe.admin)
        .await
        .unwrap();
    assert_eq!(written, i64::try_from(applied).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_handed_in_is_answered_before_the_committer_ends() {
    let probe = Probe::new().await;
    let pools = probe.pools(4);
    let (commits, committer) = GroupCommit::start(&pools, Tallies::<true>(probe.trouble.clone()));
    let items = shuffled(500, 0);
    let submitted = tokio::spawn({
        let items = items.clone();
        async move {
            let answers = submit_all(&commits, &items).await;
            drop(commits);
            answers
        }
    });
    tokio::time::timeout(Duration::from_secs(10), committer)
        .await
        .expect("the committer ends with its last handle");
    assert!(
        submitted
            .await
            .unwrap()
            .iter()
            .all(|answer| *answer == Ok(Fate::Applied))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_died_cost_no_answer() {
    let probe = Probe::new().await;
    let pools = probe.pools(8);
    let (commits, committer) = GroupCommit::start(&pools, Tallies::<true>(probe.trouble.clone()));
    tokio::spawn(committer);
    // Eight connections at once, then all idle, then all dead: the database was restarted.
    let hold = || async {
        sqlx::query("SELECT pg_sleep(0.1)")
            .execute(pools.system())
            .await
    };
    futures::future::join_all((0..8).map(|_| hold())).await;
    assert_eq!(probe.cut().await, 8);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let answers = submit_all(&commits, &shuffled(10, 0)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}
