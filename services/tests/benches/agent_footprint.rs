//! The agent's footprint: memory and processor time over a minute of its usual work (a sample every 5 s), beside Debian's
//! `prometheus-node-exporter` in the same run (scraped every 5 s, as Prometheus would), then after many actions, and after
//! an hour's worth of samples at a hundred times the speed. Where node_exporter is not installed its package is unpacked
//! below `target`; where it cannot be had either, the bench says so and goes on without it.
//!
//! Aims: at most 15 MB of resident memory and no growth; at most 0.15 s of processor time a minute.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product, TestAgent, debian, processor};
use futures::StreamExt;
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_secs(5);
/// An hour's 720 samples at a hundred times the speed.
const FAST_PERIOD: Duration = Duration::from_millis(50);
const FAST_FOR: Duration = Duration::from_secs(36);
const ACTIONS: usize = 10_000;
const AT_ONCE: usize = 16;

/// What the kernel says of a process: resident and proportional memory in KiB, processor time in seconds.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    rss: u64,
    anonymous: u64,
    pss: u64,
    cpu: f64,
    threads: u64,
}

impl Footprint {
    fn of(pid: i32) -> Self {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a process that lives")
        };
        let field = |text: &str, name: &str| -> u64 {
            text.lines()
                .find_map(|line| {
                    line.strip_prefix(name)?
                        .split_whitespace()
                        .next()?
                        .parse()
                        .ok()
                })
                .unwrap_or(0)
        };
        let (status, rollup) = (read("status"), read("smaps_rollup"));
        Self {
            rss: field(&status, "VmRSS:"),
            anonymous: field(&status, "RssAnon:"),
            pss: field(&rollup, "Pss:"),
            cpu: processor::seconds(pid),
            threads: field(&status, "Threads:"),
        }
    }

    fn show(self, what: &str, before: Self) {
        println!(
            "{what}: RSS {:.1} MB (of it not of files {:.1}), PSS {:.1} MB, {} threads, {:.2} s of processor time",
            self.rss as f64 / 1_000.0 * 1.024,
            self.anonymous as f64 / 1_000.0 * 1.024,
            self.pss as f64 / 1_000.0 * 1.024,
            self.threads,
            self.cpu - before.cpu
        );
    }
}

/// node_exporter, and where it answers.
struct Exporter {
    child: Child,
    url: String,
}

impl Exporter {
    fn start() -> Option<Self> {
        let name = "prometheus-node-exporter";
        let program = debian::program(&[name], name, "NODE_EXPORTER")?;
        let address = format!("127.0.0.1:{}", testkit::folder::free_port());
        let child = Command::new(&program)
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("node_exporter");
        Some(Self {
            child,
            url: format!("http://{address}/metrics"),
        })
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits for the machine's first sample. A machine that enrolled this moment may not be in the list yet.
async fn sampled(api: &Api, agent: &TestAgent) {
    let path = format!("/api/v1/machines/{}", agent.machine);
    let begun = Instant::now();
    loop {
        let answer = api.send(reqwest::Method::GET, &path, &[], None).await;
        let (_, machine) = answer.expect("an answer");
        if machine["status"] == "ONLINE" && machine["latestSample"].is_object() {
            return;
        }
        assert!(begun.elapsed() < MINUTE, "no sample: {machine}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::main]
async fn main() {
    // The one who asks is one key, and asks for thousands.
    let product = Product::start_with(1, &[("DASHFLEET_REQUESTS_PER_SECOND", "100000")]);
    let api = product.api();
    let mut agent = TestAgent::enroll(&product, "footprint");
    agent.samples_every(PERIOD);
    agent.start();
    let exporter = Exporter::start();
    sampled(&api, &agent).await;
    let pid = agent.pid().expect("it runs");
    // What the first connection and the first inventory cost is not what a minute costs.
    tokio::time::sleep(Duration::from_secs(10)).await;

    let before = Footprint::of(pid);
    let exporter_before = exporter
        .as_ref()
        .map(|exporter| Footprint::of(exporter.pid()));
    let begun = Instant::now();
    while begun.elapsed() < MINUTE {
        if let Some(exporter) = &exporter {
            let page = reqwest::get(&exporter.url).await.expect("a page");
            page.bytes().await.expect("its text");
        }
        tokio::time::sleep(PERIOD).await;
    }
    Footprint::of(pid).show("agent, 60 s, a sample every 5 s", before);
    if let (Some(exporter), Some(before)) = (&exporter, exporter_before) {
        Footprint::of(exporter.pid()).show("node_exporter, 60 s, scraped every 5 s", before);
    }
    drop(exporter);

    let before = Footprint::of(pid);
    let begun = Instant::now();
    futures::stream::iter(0..ACTIONS)
        .for_each_concurrent(AT_ONCE, |_| async {
            let id = api.action(&agent.machine, "ping", json!({})).await;
            let ended = api.ended(&id, MINUTE).await;
            assert_eq!(ended["status"], "SUCCEEDED");
        })
        .await;
    println!(
        "{ACTIONS} actions took {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Footprint::of(pid).show("agent, after that", before);
    // The allocator's reserve goes back once a minute.
    tokio::time::sleep(MINUTE + PERIOD).await;
    Footprint::of(pid).show("agent, a minute later", before);

    agent.kill();
    agent.samples_every(FAST_PERIOD);
    agent.start();
    sampled(&api, &agent).await;
    let pid = agent.pid().expect("it runs");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = Footprint::of(pid);
    before.show(
        "agent, a new life with the journal of these actions",
        before,
    );
    tokio::time::sleep(FAST_FOR).await;
    Footprint::of(pid).show("agent, after 720 samples at 100 times the speed", before);
    agent.kill();
}
