//! The installation's state and keys, open to everybody and so asked of the owners only now and then.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::eventually;

use crate::world::World;

#[tokio::test]
async fn the_status_names_what_answers_and_what_does_not() {
    let mut world = World::new().await;
    let reply = world.get_as("", "/api/status").await;
    assert_eq!(reply.status, 200);
    let part = |name: &str, status: &str| json!({ "name": name, "status": status });
    let all = ["bus", "identity", "action", "scheduler", "metrics"].map(|name| part(name, "OK"));
    assert_eq!(
        reply.json(),
        json!({ "status": "OK", "version": env!("CARGO_PKG_VERSION"), "parts": all })
    );

    world.identity_leaves().await;
    let degraded = eventually("identity is missed", Duration::from_secs(3), || async {
        let status = world.get_as("", "/api/status").await.json();
        (status["status"] == "DEGRADED").then_some(status)
    })
    .await;
    assert_eq!(degraded["parts"][1], part("identity", "AWAY"));
    assert_eq!(degraded["parts"][2], part("action", "OK"));

    world.nats.kill();
    eventually("all is missed", Duration::from_secs(5), || async {
        let began = Instant::now();
        let status = world.get_as("", "/api/status").await;
        assert_eq!(status.status, 200);
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "it does not wait long: {:?}",
            began.elapsed()
        );
        status.json()["parts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|part| part["status"] == "AWAY")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_keys_are_identitys_and_outlast_its_absence() {
    let mut world = World::new().await;
    let reply = world.get_as("", "/.well-known/jwks.json").await;
    assert_eq!(
        reply.json(),
        serde_json::to_value(world.identity.jwks()).unwrap()
    );
    world.identity_leaves().await;
    assert_eq!(world.get_as("", "/.well-known/jwks.json").await.status, 200);
}

#[tokio::test]
async fn requests_are_counted_by_template_and_never_by_path() {
    let world = World::new().await;
    let machine = crate::standin::HERE;
    assert_eq!(
        world
            .get(&format!("/api/v1/machines/{machine}"))
            .await
            .status,
        200
    );
    assert_eq!(world.get("/api/v1/nobody-knows").await.status, 404);
    assert_eq!(
        world.send("BREW", "/api/v1/machines", &[], "").await.status,
        405
    );
    let text = world
        .client
        .get(format!("{}/metrics", world.admin))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        "dashfleet_gateway_http_requests_total{method=\"GET\",route=\"/api/v1/machines/{id}\",status=\"200\"} 1",
        "dashfleet_gateway_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1",
        "dashfleet_gateway_http_requests_total{method=\"_OTHER\",route=\"/api/v1/machines\",status=\"405\"} 1",
        "dashfleet_gateway_http_request_duration_seconds_count{method=\"GET\",route=\"/api/v1/machines/{id}\"} 1",
        "dashfleet_gateway_grants_total{outcome=\"exchanged\"} 1",
        "dashfleet_gateway_http_requests_in_flight 0",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains(machine) && !text.contains("nobody-knows") && !text.contains("BREW"));
}
