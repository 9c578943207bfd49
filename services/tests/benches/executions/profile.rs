//! Where the time of one execution goes: the spans of its trace, and the owner's word that it has ended. What lies
//! between the creation and the handler is the offer and the claim; what follows the handler is the finish.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dashfleet_tests::{Api, Product};
use futures::StreamExt;
use serde_json::json;
use testkit::Collector;

use crate::{floor, job, text};

const EXECUTIONS: usize = 60;
const WARM_UP: usize = 10;
const PATIENCE: Duration = Duration::from_secs(20);

/// The spans on the way, in their order.
const STAGES: [&str; 3] = [
    "POST /api/v1/jobs/{id}/execute",
    "scheduler.job.execute",
    "builtin/noop",
];
const WORD: &str = "COMPLETED is said";

/// Prints for each span when it began and ended after the request did, as medians; one execution at a time.
pub async fn print() {
    let collector = Collector::start();
    let product = Product::start_with(
        1,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ],
    );
    let api = product.api();
    let path = format!("/api/v1/jobs/{}/execute", job(&api, "traced").await);
    let onlooker = floor::connect(&product, "gateway").await;
    let mut live = onlooker
        .subscribe("df.live.*.execution.*")
        .await
        .expect("a subscription");
    let mut stages = vec![Vec::new(); STAGES.len() + 1];
    for place in 0..WARM_UP + EXECUTIONS {
        let times = traced(&api, &path, &mut live, &collector).await;
        for (stage, times) in stages.iter_mut().zip(times) {
            if place >= WARM_UP {
                stage.push(times);
            }
        }
    }
    println!(
        "where it goes, in ms after the request reached the gateway (medians of {EXECUTIONS}, traced, one at a time):"
    );
    for (stage, times) in STAGES.iter().chain([&WORD]).zip(&stages) {
        println!(
            "  {stage:<30} from {:>5.2} to {:>5.2}",
            median(times.iter().map(|(start, _)| *start)),
            median(times.iter().map(|(_, end)| *end)),
        );
    }
}

/// When each stage began and ended, in nanoseconds after the request did.
async fn traced(
    api: &Api,
    path: &str,
    live: &mut bus::Subscription,
    collector: &Collector,
) -> Vec<(u64, u64)> {
    let trace = uuid::Uuid::new_v4().simple().to_string();
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let headers = [("traceparent", parent.as_str())];
    let post = api.send(reqwest::Method::POST, path, &headers, Some(json!({})));
    let (status, body) = post.await.expect("an answer");
    assert_eq!(status, 202, "{body}");
    let id = text(&body["executionId"]).replace('-', "");
    let ended = loop {
        let message = tokio::time::timeout(PATIENCE, live.next())
            .await
            .expect("a word")
            .expect("a message");
        let is_end = String::from_utf8_lossy(&message.payload).contains("\"COMPLETED\"");
        if is_end && message.subject.ends_with(&id) {
            break now();
        }
    };
    let spans = testkit::eventually("the trace is whole", PATIENCE, || async {
        let spans = collector.spans_of(&trace);
        let of = |name: &&str| spans.iter().find(|span| span.name == *name).cloned();
        STAGES.iter().map(of).collect::<Option<Vec<_>>>()
    })
    .await;
    let start = spans[0].start;
    let times = spans.iter().map(|span| (span.start, span.end));
    times
        .chain([(ended, ended)])
        .map(|(from, to)| (from.saturating_sub(start), to.saturating_sub(start)))
        .collect()
}

/// As spans have it.
fn now() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(passed.expect("after 1970").as_nanos()).expect("before 2554")
}

fn median(values: impl Iterator<Item = u64>) -> f64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values[values.len() / 2] as f64 / 1_000_000.0
}
