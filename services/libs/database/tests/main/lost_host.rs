//! A database whose host is gone without a word: nobody waits for it as long as TCP would.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::probe::{Fate, Item, Probe};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_host_is_gone_is_given_up_and_what_was_handed_in_is_written() {
    let probe = Probe::new().await;
    let (_, commits) = probe.replica::<true>();
    let item = |number| Item {
        key: 1,
        id: Uuid::now_v7(),
        number,
        value: "1".into(),
    };
    assert_eq!(commits.submit(item(1)).await, Ok(Fate::Applied));
    // The connection goes back to the pool, which tries it then; the next time it is used untried, for it was busy a
    // moment ago.
    tokio::time::sleep(Duration::from_millis(200)).await;
    probe.wire.strike_dumb();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    let answer = tokio::time::timeout(Duration::from_secs(60), commits.submit(item(2))).await;
    assert_eq!(answer.expect("an end"), Ok(Fate::Applied));
    assert!(
        begun.elapsed() > Duration::from_secs(15),
        "a statement may take that long: {:?}",
        begun.elapsed()
    );
    assert_eq!(probe.tallies().await[&1].history, [1, 2]);
}

#[tokio::test]
async fn the_server_notices_soon_that_our_host_is_gone() {
    let probe = Probe::new().await;
    let pools = probe.pools(1);
    for (name, expected) in [
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "15000"),
        ("statement_timeout", "15s"),
        ("idle_in_transaction_session_timeout", "30s"),
    ] {
        let set: String = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SHOW {name}")))
            .fetch_one(pools.system())
            .await
            .unwrap();
        assert_eq!(set, expected, "{name}");
    }
}
