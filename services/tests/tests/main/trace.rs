//! One action is one trace: from the HTTP request through gateway and action to the agent, and back. So is an execution,
//! through gateway and scheduler to the worker's handler, and back to the scheduler's commit of its end.

use std::collections::HashMap;
use std::time::Duration;

use dashfleet_tests::Product;
use serde_json::json;
use testkit::Collector;
use testkit::traces::Span;

const PATIENCE: Duration = Duration::from_secs(20);
/// The caller's own span.
const CALLER: &str = "b7ad6b7169203331";

#[tokio::test]
async fn an_action_is_one_tree_from_the_request_to_the_agent_and_back() {
    let collector = Collector::start();
    let product = Product::start_with(
        1,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ],
    );
    let (api, machine) = (product.api(), product.machine());
    let trace = uuid::Uuid::new_v4().simple().to_string();
    let (status, action) = api
        .send(
            reqwest::Method::POST,
            "/api/v1/actions",
            &[("traceparent", &format!("00-{trace}-{CALLER}-01"))],
            Some(json!({ "machineId": machine, "kind": "ping", "payload": {} })),
        )
        .await
        .expect("an answer");
    assert_eq!(status, 201, "{action}");
    api.ended(action["id"].as_str().expect("an id"), PATIENCE)
        .await;

    // Programs send their spans when they like: a span may come before the one that it is in.
    let spans = testkit::eventually("the trace is whole", PATIENCE, || async {
        let spans = collector.spans_of(&trace);
        let back = spans.iter().any(|span| span.name == "agent.result");
        let hanging = spans.iter().any(|span| {
            span.parent != CALLER && !spans.iter().any(|other| other.id == span.parent)
        });
        (back && !hanging).then_some(spans)
    })
    .await;

    let by_id: HashMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "sent twice: {spans:#?}");
    let roots: Vec<_> = spans.iter().filter(|span| span.parent == CALLER).collect();
    assert_eq!(roots.len(), 1, "{roots:?}");
    let back = spans
        .iter()
        .find(|span| span.name == "agent.result")
        .expect("the way back");
    let way: Vec<_> = way_up(back, &by_id)
        .iter()
        .map(|span| (span.service.as_str(), span.name.as_str()))
        .collect();
    assert_eq!(
        way,
        [
            ("dashfleet-action", "agent.result"),
            ("dashfleet-agent", "action.report"),
            ("dashfleet-action", "action.action.create"),
            ("dashfleet-gateway", "POST /api/v1/actions"),
        ]
    );
    let executed = spans
        .iter()
        .filter(|span| span.service == "dashfleet-agent" && span.name == "action.execute");
    assert_eq!(executed.count(), 1, "{spans:#?}");
}

#[tokio::test]
async fn an_execution_is_one_tree_from_the_request_to_the_handler_and_back() {
    let collector = Collector::start();
    let product = Product::start_with(
        1,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ],
    );
    let api = product.api();
    let job = json!({ "name": "traced", "handler": "builtin/noop" });
    let (status, job) = api.post("/api/v1/jobs", job).await;
    assert_eq!(status, 201, "{job}");
    let job = job["id"].as_str().expect("an id");
    let trace = uuid::Uuid::new_v4().simple().to_string();
    let (status, execution) = api
        .send(
            reqwest::Method::POST,
            &format!("/api/v1/jobs/{job}/execute"),
            &[("traceparent", &format!("00-{trace}-{CALLER}-01"))],
            Some(json!({})),
        )
        .await
        .expect("an answer");
    assert_eq!(status, 202, "{execution}");

    let spans = testkit::eventually("the trace is whole", PATIENCE, || async {
        let spans = collector.spans_of(&trace);
        let there = |name: &str| spans.iter().any(|span| span.name == name);
        let hanging = spans.iter().any(|span| {
            span.parent != CALLER && !spans.iter().any(|other| other.id == span.parent)
        });
        let whole = there("builtin/noop") && there("execution.finish") && !hanging;
        whole.then_some(spans)
    })
    .await;
    let by_id: HashMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "sent twice: {spans:#?}");
    assert_eq!(
        spans.iter().filter(|span| span.parent == CALLER).count(),
        1,
        "{spans:#?}"
    );
    let of_worker = spans
        .iter()
        .filter(|span| span.service == "dashfleet-worker");
    assert_eq!(of_worker.count(), 1, "one attempt, one span: {spans:#?}");
    let handled = the("builtin/noop", &spans);
    let finished = the("execution.finish", &spans);
    let asked = [
        ("dashfleet-scheduler", "scheduler.job.execute"),
        ("dashfleet-gateway", "POST /api/v1/jobs/{id}/execute"),
    ];
    for (span, service) in [
        (handled, "dashfleet-worker"),
        (finished, "dashfleet-scheduler"),
    ] {
        let way: Vec<_> = way_up(span, &by_id)
            .iter()
            .map(|span| (span.service.as_str(), span.name.as_str()))
            .collect();
        assert_eq!(way[0], (service, span.name.as_str()));
        assert_eq!(way[1..], asked, "{spans:#?}");
    }

    // What the trace tells in the order of time. (The request is answered before or after the handler begins: nobody waits.)
    let executed = the("scheduler.job.execute", &spans);
    let request = the("POST /api/v1/jobs/{id}/execute", &spans);
    let times = [
        ("the request began", request.start),
        ("its execution was made", executed.start),
        ("the handler began", handled.start),
        ("the handler ended", handled.end),
        ("its end was taken", finished.start),
        ("its end was committed", finished.end),
    ];
    assert!(
        times.is_sorted_by_key(|(_, at)| *at),
        "not in this order: {times:#?}"
    );
}

/// The one span of this name.
fn the<'a>(name: &str, spans: &'a [Span]) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {spans:#?}");
    found[0]
}

/// A span and those that it is in, up to the request.
fn way_up<'a>(span: &'a Span, by_id: &HashMap<&str, &'a Span>) -> Vec<&'a Span> {
    let mut way = vec![span];
    while let Some(parent) = way.last().and_then(|span| by_id.get(span.parent.as_str())) {
        assert!(way.len() < 20, "a span is inside itself");
        way.push(parent);
    }
    way
}
