//! An agent that is away keeps its samples: when it is back the server gets them with their own times, none twice; what
//! it keeps has a bound, and beyond that the oldest go first, counted.
//!
//! Ten minutes at a sample every 5 s are 120 samples. Here the agent takes a sample every 100 ms, so that it has kept as
//! many after 12 s; everything else is as it is: the program, its files, the path to the server, which is cut.

use std::time::Duration;

use contract::agent::Sample;
use dashfleet_agent::buffer::{Bounds, Buffer};
use dashfleet_tests::{Product, TestAgent, Wire};
use domain::Timestamp;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// What ten minutes bring.
const TEN_MINUTES: usize = 120;
const PERIOD: Duration = Duration::from_millis(100);
/// The samples in a subject of the bus.
const SAMPLES: &str = ".metrics ";

async fn wire_to(product: &Product) -> Wire {
    Wire::to(product.dev()["natsUrl"].as_str().expect("natsUrl")).await
}

/// What the agent's files say that the server does not have, the oldest first.
fn kept(agent: &TestAgent) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(agent.samples())
        .expect("the buffer")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let mut kept: Vec<Value> = Vec::new();
    for file in files {
        // A file may be removed, and a line may be half written, while they are read.
        for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(through) = line["through"].as_str() {
                kept.retain(|sample| at(sample) > through);
            } else if line["sample"].is_object() {
                kept.push(line["sample"].clone());
            }
        }
    }
    kept
}

async fn has_kept(agent: &TestAgent, count: usize) {
    let what = format!("{count} samples are kept");
    testkit::eventually(&what, PATIENCE, || async {
        (kept(agent).len() >= count).then_some(())
    })
    .await;
}

/// Bytes in the agent's files.
fn bytes(agent: &TestAgent) -> u64 {
    let files = std::fs::read_dir(agent.samples()).expect("the buffer");
    files
        .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()))
        .sum()
}

/// Times are texts of one length: they compare as times do.
fn at(sample: &Value) -> &str {
    sample["at"].as_str().expect("a time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_collected_in_ten_minutes_offline_comes_with_its_own_times_and_none_twice() {
    let product = Product::start(2);
    let api = product.api();
    let wire = wire_to(&product).await;
    let mut agent = TestAgent::enroll(&product, "away");
    agent.samples_every(PERIOD);
    agent.reaches(&[wire.url()]);
    agent.start();
    api.machine_is(&agent.machine, "ONLINE", PATIENCE).await;

    wire.cut();
    api.machine_is(&agent.machine, "OFFLINE", PATIENCE).await;
    has_kept(&agent, TEN_MINUTES / 2).await;
    // A crash in the middle costs nothing.
    agent.kill();
    agent.start();
    has_kept(&agent, TEN_MINUTES).await;

    // Back; but the first answer is lost, after the server's commit: the agent must send that again.
    let away = kept(&agent);
    wire.lose_answers_to(SAMPLES);
    let first = at(&away[0]).to_owned();
    testkit::eventually("the first are written", PATIENCE, || async {
        let written = api.samples(&agent.machine, &first, 1).await;
        (!written.is_empty()).then_some(())
    })
    .await;
    assert!(
        kept(&agent).len() >= away.len(),
        "no answer, so all are kept"
    );
    wire.cut();
    wire.mend();
    let last = at(&away[away.len() - 1]).to_owned();
    testkit::eventually("the last is written", PATIENCE, || async {
        let written = api.samples(&agent.machine, &last, 1).await;
        (!written.is_empty()).then_some(())
    })
    .await;
    let written = api.samples(&agent.machine, &first, 10_000).await;
    let of_then: Vec<&Value> = written
        .iter()
        .take_while(|sample| at(sample) <= last.as_str())
        .collect();
    assert_eq!(of_then, away.iter().collect::<Vec<_>>());
    println!("{} samples, from {first} to {last}", away.len());
    // What came afterwards follows; and the agent has room again.
    assert!(written.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])));
    testkit::eventually("nothing old is kept", PATIENCE, || async {
        kept(&agent)
            .iter()
            .all(|sample| at(sample) > last.as_str())
            .then_some(())
    })
    .await;
    assert_eq!(agent.status()["agent"]["samplesDropped"], 0);
}

/// A sample of a machine with many disks: some kilobytes.
fn sample(at: Timestamp) -> Sample {
    let disk = |place: u64| {
        json!({
            "mount": format!("/srv/volumes/{place:04}/of-a-machine-with-many-of-them"),
            "fileSystem": "ext4",
            "total": 1_u64 << 40,
            "used": place << 30,
            "percent": 12.5,
        })
    };
    let sample = json!({
        "at": at,
        "cpu": { "percent": 1.5, "cores": vec![1.5; 64] },
        "memory": { "total": 8_u64 << 30, "used": 2_u64 << 30, "available": 6_u64 << 30, "percent": 25.0 },
        "swap": { "total": 0, "used": 0 },
        "disks": (0..100).map(disk).collect::<Vec<_>>(),
        "networks": [],
        "uptimeSeconds": 5,
        "processes": 7,
    });
    serde_json::from_value(sample).expect("a sample")
}

/// Since when it fills the buffer, a sample every 5 s.
const SPAN: chrono::Duration = chrono::Duration::hours(9);
/// So far from the bound: a few seconds' worth of what the agent itself collects.
const ALMOST: u64 = 64 * 1024;

/// Fills an agent's buffer almost to its bound, with the agent's own code; the times of the samples. An outage that fills
/// it takes days, or (as here) hours of a machine with many disks.
fn fill(agent: &TestAgent) -> Vec<String> {
    let bounds = Bounds::default();
    let mut buffer = Buffer::open(&agent.samples(), bounds).expect("the buffer");
    let mut times = Vec::new();
    let mut next = Timestamp::now().plus(-SPAN);
    while buffer.bytes() + ALMOST < bounds.total {
        buffer.push(sample(next));
        times.push(next.to_string());
        next = next.plus(chrono::Duration::seconds(5));
    }
    assert!(
        next < Timestamp::now(),
        "{next}: more than fits into {SPAN}"
    );
    assert_eq!(buffer.dropped(), 0);
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_keeps_its_bound_and_drops_the_oldest_first_and_counts_them() {
    let product = Product::start(1);
    let api = product.api();
    let wire = wire_to(&product).await;
    wire.cut();
    let mut agent = TestAgent::enroll(&product, "full");
    let times = fill(&agent);
    agent.samples_every(PERIOD);
    agent.reaches(&[wire.url()]);
    agent.start();
    let bound = Bounds::default().total;
    let dropped = testkit::eventually("the agent says that it drops", PATIENCE, || async {
        assert!(bytes(&agent) <= bound, "{} bytes", bytes(&agent));
        let status = agent.status();
        let dropped = status["agent"]["samplesDropped"].as_u64()?;
        (dropped > 0).then_some(usize::try_from(dropped).expect("a count"))
    })
    .await;
    let left = &times[dropped..];
    let kept: Vec<String> = kept(&agent)
        .iter()
        .take(left.len())
        .map(|sample| at(sample).to_owned())
        .collect();
    assert_eq!(
        kept, left,
        "{dropped} dropped, and these are not the oldest"
    );

    wire.mend();
    let sent = Duration::from_secs(240);
    testkit::eventually("the buffer is sent", sent, || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (bytes(&agent) < 2 << 20).then_some(())
    })
    .await;
    let last = times.last().expect("a time").as_str();
    let written: Vec<String> = api
        .samples(&agent.machine, &times[0], times.len() * 2)
        .await
        .iter()
        .map(|sample| at(sample).to_owned())
        .take_while(|at| at.as_str() <= last)
        .collect();
    assert_eq!(written, left);
    println!(
        "{} samples kept, {dropped} dropped, {bound} bytes",
        left.len()
    );
}
