//! People, keys and tokens on the whole product with two replicas of each service: what is said at one gateway holds at the
//! other within a second.

use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ME: &str = "/api/v1/auth/me";
const PASSWORD: &str = "a password of many words";

async fn sent(api: &Api, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let body = (!body.is_null()).then_some(body);
    let answer = api.send(method, path, &[], body).await;
    answer.expect("an answer")
}

async fn made(api: &Api, path: &str, body: Value) -> Value {
    let (status, body) = api.post(path, body).await;
    assert!(status.is_success(), "POST {path}: {status} {body}");
    body
}

/// Waits until a credential is refused at this gateway; how long that took.
async fn refused(url: &str, credential: &str) -> Duration {
    let (api, began) = (Api::new(url, credential), Instant::now());
    while began.elapsed() < Duration::from_secs(5) {
        if sent(&api, Method::GET, ME, Value::Null).await.0 == StatusCode::UNAUTHORIZED {
            return began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still accepted after five seconds");
}

async fn login(url: &str, email: &str, password: &str) -> Api {
    let body = json!({ "email": email, "password": password });
    let tokens = made(&Api::new(url, ""), "/api/v1/auth/login", body).await;
    Api::new(url, tokens["accessToken"].as_str().expect("a token"))
}

/// Invites somebody at one gateway, who joins at the other; the person's credential.
async fn join(admin: &Api, url: &str, email: &str, role: &str) -> Api {
    let invite = json!({ "email": email, "role": role });
    let invited = made(admin, "/api/v1/users", invite).await;
    let (_, token) = invited["link"]
        .as_str()
        .and_then(|link| link.split_once('#'))
        .expect("a link");
    let accept = json!({ "token": token, "password": PASSWORD, "name": "Ann" });
    let path = "/api/v1/auth/invitations/accept";
    let tokens = made(&Api::new(url, ""), path, accept).await;
    Api::new(url, tokens["accessToken"].as_str().expect("a token"))
}

#[tokio::test]
async fn what_is_said_of_people_and_keys_at_one_gateway_holds_at_the_other_within_a_second() {
    let product = Product::start(2);
    let dev = product.dev();
    let text = |name: &str| dev[name].as_str().expect("a text").to_owned();
    let other = dev["gatewayUrls"][1].as_str().expect("a second gateway");
    let admin = login(&text("url"), &text("adminEmail"), &text("adminPassword")).await;
    let me = admin.get(ME).await;
    let scopes = me["scopes"].as_array().expect("scopes");
    assert!(scopes.contains(&json!("platform:admin")), "{me}");

    let ann = join(&admin, other, "ann@example.org", "ADMIN").await;
    let id = ann.get(ME).await["id"].as_str().expect("an id").to_owned();
    let key = json!({ "name": "ci", "role": "OPERATOR" });
    let key = made(&ann, "/api/v1/api-keys", key).await;
    let secret = key["key"].as_str().expect("a key");
    let program = Api::new(other, secret);
    assert_eq!(program.get(ME).await["role"], "OPERATOR");
    let ping = json!({ "machineId": product.machine(), "kind": "ping", "payload": {} });
    made(&program, "/api/v1/actions", ping.clone()).await;

    // A role that changes here is another one there.
    let user = format!("/api/v1/users/{id}");
    let demote = json!({ "role": "VIEWER" });
    let (status, body) = sent(&admin, Method::PATCH, &user, demote).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let began = Instant::now();
    while program.get(ME).await["role"] != "VIEWER" {
        assert!(began.elapsed() < Duration::from_secs(1), "the role");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (status, _) = sent(&ann, Method::GET, "/api/v1/api-keys", Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    // What the person's key was allowed a moment ago is refused when it is said again: it has what its maker has now.
    let (status, body) = program.post("/api/v1/actions", ping).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");

    // Who is removed here is nobody there, and so are the keys that they made.
    let (status, body) = sent(&admin, Method::DELETE, &user, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    for credential in [&ann.key, &program.key] {
        let took = refused(other, credential).await;
        println!("people: refused at the other gateway after {took:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    // A key that is revoked here is refused there.
    let key = made(
        &admin,
        "/api/v1/api-keys",
        json!({ "name": "ci", "role": "VIEWER" }),
    )
    .await;
    let secret = key["key"].as_str().expect("a key");
    Api::new(other, secret).get("/api/v1/machines").await;
    let path = format!("/api/v1/api-keys/{}", key["id"].as_str().expect("an id"));
    let (status, _) = sent(&admin, Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(refused(other, secret).await < Duration::from_secs(1));

    // A key that comes from elsewhere is refused by the gateway itself, and the audit has it all the same.
    let key = json!({ "name": "elsewhere", "role": "VIEWER", "networks": ["192.0.2.0/24"] });
    let key = made(&admin, "/api/v1/api-keys", key).await;
    let elsewhere = Api::new(other, key["key"].as_str().expect("a key"));
    for _ in 0..5 {
        let (status, body) = sent(&elsewhere, Method::GET, "/api/v1/machines", Value::Null).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    }
    let id = key["id"].as_str().expect("an id");
    let told = format!("/api/v1/audit-events?call=http.request&outcome=DENIED&actor={id}");
    let told = testkit::eventually("the attempt is told", Duration::from_secs(10), || async {
        admin.get(&told).await["items"].get(0).cloned()
    })
    .await;
    assert_eq!(told["resource"]["id"], "GET /api/v1/machines", "{told}");
    assert_eq!(told["actor"]["name"], "elsewhere", "{told}");
    assert_eq!(told["address"], "127.0.0.1", "{told}");

    // A new organisation, and its end.
    let org = made(&admin, "/api/v1/organizations", json!({ "name": "second" })).await;
    let org = org["id"].as_str().expect("an id");
    let switch = json!({ "organizationId": org });
    let there = made(&admin, "/api/v1/auth/switch", switch).await;
    let there = Api::new(other, there["accessToken"].as_str().expect("a token"));
    assert_eq!(there.get("/api/v1/machines").await["items"], json!([]));
    let close = format!("/api/v1/organizations/{org}/close");
    let (status, body) = sent(&admin, Method::POST, &close, Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(refused(other, &there.key).await < Duration::from_secs(1));
}
