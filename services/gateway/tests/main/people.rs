//! People, organisations, keys and tokens over HTTP: what each operation asks its owner, and how it refuses.

use std::time::Duration;

use dashfleet_gateway::error::catalogue::Kind;
use domain::access::Role;
use serde_json::{Value, json};
use testkit::eventually;

use crate::standin::{ELSEWHERE, HERE};
use crate::world::{World, patience};

/// Method, path and body of an operation with a caller; its status, and what the owner is asked.
type Operation = (&'static str, String, Value, u16, &'static str, Value);

/// Each operation with a caller.
fn operations() -> Vec<Operation> {
    let at = |path: &str| format!("/api/v1{path}");
    let one = |path: &str| format!("/api/v1{path}/{HERE}");
    let page = json!({ "limit": 50 });
    vec![
        (
            "POST",
            at("/auth/switch"),
            json!({ "organizationId": HERE }),
            200,
            "switch",
            json!({ "organizationId": HERE, "address": "127.0.0.1", "userAgent": "" }),
        ),
        (
            "GET",
            at("/auth/sessions"),
            Value::Null,
            200,
            "sessions",
            page.clone(),
        ),
        (
            "DELETE",
            one("/auth/sessions"),
            Value::Null,
            204,
            "revoke",
            json!({ "sessionId": HERE }),
        ),
        (
            "POST",
            at("/auth/password"),
            json!({ "currentPassword": "a", "newPassword": "b" }),
            204,
            "password",
            json!({ "currentPassword": "a", "newPassword": "b" }),
        ),
        (
            "GET",
            at("/organizations"),
            Value::Null,
            200,
            "list",
            page.clone(),
        ),
        (
            "GET",
            one("/organizations"),
            Value::Null,
            200,
            "get",
            json!({ "organizationId": HERE }),
        ),
        (
            "POST",
            at("/organizations"),
            json!({ "name": "x" }),
            201,
            "create",
            json!({ "name": "x" }),
        ),
        (
            "PATCH",
            one("/organizations"),
            json!({ "legacyEnabled": true }),
            200,
            "edit",
            json!({ "organizationId": HERE, "legacyEnabled": true }),
        ),
        (
            "POST",
            one("/organizations") + "/close",
            Value::Null,
            200,
            "close",
            json!({ "organizationId": HERE }),
        ),
        ("GET", at("/users"), Value::Null, 200, "list", page.clone()),
        (
            "GET",
            one("/users"),
            Value::Null,
            200,
            "get",
            json!({ "userId": HERE }),
        ),
        (
            "POST",
            at("/users"),
            json!({ "email": "a@b", "role": "VIEWER" }),
            201,
            "invite",
            json!({ "email": "a@b", "role": "VIEWER" }),
        ),
        (
            "PATCH",
            one("/users"),
            json!({ "role": "ADMIN" }),
            200,
            "edit",
            json!({ "userId": HERE, "role": "ADMIN" }),
        ),
        (
            "DELETE",
            one("/users"),
            Value::Null,
            204,
            "remove",
            json!({ "userId": HERE }),
        ),
        (
            "POST",
            one("/users") + "/password-reset",
            Value::Null,
            200,
            "reset",
            json!({ "userId": HERE }),
        ),
        (
            "GET",
            at("/users/invitations"),
            Value::Null,
            200,
            "invitations",
            page.clone(),
        ),
        (
            "DELETE",
            one("/users/invitations"),
            Value::Null,
            204,
            "cancel",
            json!({ "invitationId": HERE }),
        ),
        (
            "GET",
            at("/api-keys"),
            Value::Null,
            200,
            "list",
            page.clone(),
        ),
        (
            "GET",
            one("/api-keys"),
            Value::Null,
            200,
            "get",
            json!({ "keyId": HERE }),
        ),
        (
            "POST",
            at("/api-keys"),
            json!({ "name": "x", "role": "VIEWER" }),
            201,
            "create",
            json!({ "name": "x", "kind": "API", "role": "VIEWER" }),
        ),
        (
            "PATCH",
            one("/api-keys"),
            json!({ "name": "x" }),
            200,
            "edit",
            json!({ "keyId": HERE, "name": "x" }),
        ),
        (
            "DELETE",
            one("/api-keys"),
            Value::Null,
            204,
            "revoke",
            json!({ "keyId": HERE }),
        ),
        (
            "GET",
            at("/enrollment-tokens"),
            Value::Null,
            200,
            "list",
            page,
        ),
        (
            "GET",
            one("/enrollment-tokens"),
            Value::Null,
            200,
            "get",
            json!({ "tokenId": HERE }),
        ),
        (
            "POST",
            at("/enrollment-tokens"),
            json!({ "name": "x" }),
            201,
            "create",
            json!({ "name": "x", "labels": {} }),
        ),
        (
            "DELETE",
            one("/enrollment-tokens"),
            Value::Null,
            204,
            "revoke",
            json!({ "tokenId": HERE }),
        ),
    ]
}

fn body(value: &Value) -> String {
    if value.is_null() {
        String::new()
    } else {
        value.to_string()
    }
}

#[tokio::test]
async fn each_operation_asks_its_owner_and_shows_the_answer() {
    let world = World::new().await;
    for (method, path, given, status, verb, expected) in operations() {
        let reply = world.send(method, &path, &[], body(&given)).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        let (asked_verb, asked) = world.identity.asked.lock().unwrap().pop().unwrap();
        assert_eq!((asked_verb, &asked), (verb, &expected), "{method} {path}");
        match status {
            204 => assert_eq!(reply.text, "", "{method} {path}"),
            201 => {
                let shown = reply.json();
                assert_eq!(shown["id"], HERE, "{method} {path}");
                if verb == "create" {
                    assert_eq!(reply.header("location"), format!("{path}/{HERE}"));
                }
            }
            _ => assert!(reply.json().is_object(), "{method} {path}"),
        }
        // Without a credential nobody is asked.
        let nobody: [(&str, &[u8]); 1] = [("authorization", b"")];
        let reply = world.send(method, &path, &nobody, body(&given)).await;
        assert_eq!(reply.status, 401, "{method} {path}");
        assert!(
            world.identity.asked.lock().unwrap().is_empty(),
            "{method} {path}"
        );
        // Another organisation's is not there.
        if path.contains(HERE) {
            let path = path.replace(HERE, ELSEWHERE);
            let reply = world.send(method, &path, &[], body(&given)).await;
            assert_eq!(reply.status, 404, "{method} {path}: {}", reply.text);
            assert_eq!(reply.json()["type"], Kind::NotFound.reference());
        }
    }
}

#[tokio::test]
async fn secrets_are_in_the_answer_that_makes_them_and_in_no_other() {
    let world = World::new().await;
    for (path, given, secret) in [
        (
            "/api/v1/api-keys",
            json!({ "name": "x", "role": "VIEWER" }),
            "key",
        ),
        ("/api/v1/enrollment-tokens", json!({ "name": "x" }), "token"),
        (
            "/api/v1/users",
            json!({ "email": "a@b", "role": "VIEWER" }),
            "link",
        ),
    ] {
        let made = world.post(path, &given).await.json();
        let secret = made[secret].as_str().unwrap();
        assert!(secret.contains("_x"), "{made}");
        for path in [path.to_owned(), format!("{path}/{HERE}")] {
            let shown = world.get(&path).await;
            assert_eq!(shown.status, 200);
            assert!(!shown.text.contains(secret), "{path}: {}", shown.text);
        }
    }
}

#[tokio::test]
async fn a_repetition_carries_its_key_to_the_owner() {
    let world = World::new().await;
    for path in ["organizations", "api-keys", "enrollment-tokens"] {
        let given = match path {
            "api-keys" => json!({ "name": "x", "role": "VIEWER" }),
            _ => json!({ "name": "x" }),
        };
        let key: [(&str, &[u8]); 1] = [("idempotency-key", b"k-1")];
        let path = format!("/api/v1/{path}");
        let reply = world.send("POST", &path, &key, given.to_string()).await;
        assert_eq!(reply.status, 201, "{path}: {}", reply.text);
        let (_, asked) = world.identity.asked.lock().unwrap().pop().unwrap();
        assert_eq!(asked["idempotencyKey"], "k-1", "{path}");
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_by_their_fields() {
    let world = World::new().await;
    for (method, path, given, paths) in [
        ("POST", "/auth/switch", json!({}), vec!["organizationId"]),
        (
            "POST",
            "/auth/switch",
            json!({ "organizationId": HERE, "address": "x" }),
            vec!["address"],
        ),
        (
            "POST",
            "/auth/password",
            json!({ "newPassword": "x" }),
            vec!["currentPassword"],
        ),
        (
            "POST",
            "/organizations",
            json!({ "name": "" }),
            vec!["name"],
        ),
        (
            "POST",
            "/organizations",
            json!({ "name": "x", "idempotencyKey": "k" }),
            vec!["idempotencyKey"],
        ),
        (
            "POST",
            "/users",
            json!({ "email": "a@b", "role": "admin" }),
            vec!["role"],
        ),
        (
            "POST",
            "/api-keys",
            json!({ "name": "x", "kind": "ROOT" }),
            vec!["kind"],
        ),
        (
            "POST",
            "/api-keys",
            json!({ "name": "x", "scopes": "all" }),
            vec!["scopes"],
        ),
        (
            "POST",
            "/api-keys",
            json!({ "name": "x", "networks": [] }),
            vec!["networks"],
        ),
        (
            "POST",
            "/api-keys",
            json!({ "name": "x", "machineCap": 0 }),
            vec!["machineCap"],
        ),
        (
            "POST",
            "/enrollment-tokens",
            json!({ "uses": 0, "hourlyCap": -1 }),
            vec!["name", "uses", "hourlyCap"],
        ),
        (
            "POST",
            "/enrollment-tokens",
            json!({ "name": "x", "labels": { "a": 1 } }),
            vec!["labels.a"],
        ),
    ] {
        let path = format!("/api/v1{path}");
        let reply = world.send(method, &path, &[], given.to_string()).await;
        assert_eq!(reply.status, 400, "{path} {given}: {}", reply.text);
        assert_eq!(reply.paths(), paths, "{path} {given}");
    }
    assert!(world.identity.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn links_open_without_a_credential_and_bad_ones_count_as_failures() {
    let world = World::with(
        crate::world::patience(),
        &[("DASHFLEET_FAILED_AUTHENTICATIONS_PER_MINUTE", "3")],
    )
    .await;
    let open: [(&str, &[u8]); 2] = [("authorization", b""), ("user-agent", b"test/1")];
    let send = async |path: &str, given: Value| {
        let path = format!("/api/v1/auth{path}");
        world.send("POST", &path, &open, given.to_string()).await
    };
    let reply = send(
        "/invitations/accept",
        json!({ "token": "good", "password": "x" }),
    )
    .await;
    assert_eq!(
        (reply.status, &reply.json()["accessToken"]),
        (201, &json!("dfa_good"))
    );
    let (_, asked) = world.identity.asked.lock().unwrap().pop().unwrap();
    assert_eq!(
        (&asked["address"], &asked["userAgent"]),
        (&json!("127.0.0.1"), &json!("test/1"))
    );
    let reset = json!({ "token": "good", "password": "x" });
    assert_eq!(send("/password/reset/complete", reset).await.status, 204);
    let reply = send("/password/reset", json!({ "email": "a@b" })).await;
    assert_eq!((reply.status, reply.text.as_str()), (202, ""));
    for _ in 0..3 {
        let reply = send(
            "/invitations/accept",
            json!({ "token": "bad", "password": "x" }),
        )
        .await;
        assert_eq!(reply.status, 403, "{}", reply.text);
    }
    let reply = send(
        "/password/reset/complete",
        json!({ "token": "good", "password": "x" }),
    )
    .await;
    assert_eq!(reply.status, 429, "who guesses links waits");
}

#[tokio::test]
async fn a_key_is_taken_from_its_networks_alone() {
    let world = World::new().await;
    let reply = world.get_as("dfk_good_elsewhere", "/api/v1/machines").await;
    assert_eq!(reply.status, 403, "{}", reply.text);
    assert!(
        reply.text.contains("not taken from this address"),
        "{}",
        reply.text
    );
    assert_eq!(
        world
            .get_as("dfk_good_too", "/api/v1/machines")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn whose_address_nobody_can_read_is_nowhere_and_not_at_the_proxy() {
    let trusted = [("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1")];
    let world = World::with(patience(), &trusted).await;
    let ask = async |credential: &str, forwarded: &[u8]| {
        let bearer = format!("Bearer {credential}");
        let headers = [
            ("authorization", bearer.as_bytes()),
            ("x-forwarded-for", forwarded),
        ];
        let reply = world.send("GET", "/api/v1/machines", &headers, "").await;
        reply.status
    };
    for unread in [&b"198.51.100.7, \xff"[..], b"198.51.100.7,", b"unknown"] {
        assert_eq!(ask("dfk_good_anywhere", unread).await, 403, "{unread:?}");
        assert_eq!(ask("dfk_good_too", unread).await, 200, "{unread:?}");
    }
    for read in [
        &b"\xff, 198.51.100.7"[..],
        b"198.51.100.7:4711",
        b"[2001:db8::1]:44",
    ] {
        assert_eq!(ask("dfk_good_anywhere", read).await, 200, "{read:?}");
    }
    assert_eq!(ask("dfk_good_elsewhere", &b"192.0.2.7:4711"[..]).await, 200);
}

#[tokio::test]
async fn what_identity_says_of_people_and_organisations_reaches_the_memory_within_a_second() {
    let world = World::new().await;
    let me = "/api/v1/auth/me";
    for (noun, verb, role) in [
        ("user", "updated", Role::Viewer),
        ("user", "removed", Role::Operator),
        ("organization", "closed", Role::Admin),
        ("organization", "updated", Role::Owner),
    ] {
        assert_eq!(world.get(me).await.status, 200);
        *world.identity.role.lock().unwrap() = role;
        world.event(noun, verb, json!({})).await;
        eventually("the new role is known", Duration::from_secs(1), || async {
            (world.get(me).await.json()["role"] == role.as_str()).then_some(())
        })
        .await;
    }
}
