//! Where the time of one action goes: the spans of its trace, on the way from the request to the committed result.

use std::collections::HashMap;
use std::time::Duration;

use dashfleet_tests::{Api, Product};
use serde_json::json;
use testkit::Collector;
use testkit::traces::Span;

const ACTIONS: usize = 60;
const WARM_UP: usize = 10;
const PATIENCE: Duration = Duration::from_secs(20);

/// The spans on the way, in their order.
const STAGES: [&str; 5] = [
    "POST /api/v1/actions",
    "action.action.create",
    "action.execute",
    "action.report",
    "agent.result",
];

/// Prints for each span when it began and ended after the request did, as medians.
pub async fn print() {
    let collector = Collector::start();
    let product = Product::start_with(
        1,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ],
    );
    let (api, machine) = (product.api(), product.machine());
    let mut stages: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
    for place in 0..WARM_UP + ACTIONS {
        let spans = traced_ping(&api, &machine, &collector).await;
        let of = |name: &str| spans.iter().find(|span| span.name == name);
        let start = of(STAGES[0]).expect("the request").start;
        for stage in STAGES.iter().filter(|_| place >= WARM_UP) {
            let span = of(stage).expect("a stage");
            stages.entry(stage).or_default().push((
                span.start.saturating_sub(start),
                span.end.saturating_sub(start),
            ));
        }
    }
    println!(
        "where it goes, in ms after the request reached the gateway (medians of {ACTIONS}, traced):"
    );
    for stage in STAGES {
        let times = &stages[stage];
        println!(
            "  {stage:<22} from {:>5.2} to {:>5.2}",
            median(times.iter().map(|(start, _)| *start)),
            median(times.iter().map(|(_, end)| *end)),
        );
    }
}

async fn traced_ping(api: &Api, machine: &str, collector: &Collector) -> Vec<Span> {
    let trace = uuid::Uuid::new_v4().simple().to_string();
    let (status, action) = api
        .send(
            reqwest::Method::POST,
            "/api/v1/actions",
            &[("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"))],
            Some(json!({ "machineId": machine, "kind": "ping", "payload": {} })),
        )
        .await
        .expect("an answer");
    assert_eq!(status, 201, "{action}");
    testkit::eventually("the trace is whole", PATIENCE, || async {
        let spans = collector.spans_of(&trace);
        STAGES
            .iter()
            .all(|stage| spans.iter().any(|span| span.name == *stage))
            .then_some(spans)
    })
    .await
}

fn median(values: impl Iterator<Item = u64>) -> f64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values[values.len() / 2] as f64 / 1_000_000.0
}
