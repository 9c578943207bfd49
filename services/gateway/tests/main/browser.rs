//! Browsers: what they are told, which other origins may read, and sessions in their cookies.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::standin::HERE;
use crate::world::{GOOD, Reply, World, patience};

const ME: &str = "/api/v1/auth/me";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const TLS: [(&str, &str); 1] = [("DASHFLEET_PUBLIC_URL", "https://fleet.example.org")];

fn headers<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a [u8])> {
    let mut headers: Vec<(&str, &[u8])> = vec![("authorization", b"")];
    headers.extend(pairs.iter().map(|(name, value)| (*name, value.as_bytes())));
    headers
}

async fn ask(
    world: &World,
    method: &str,
    path: &str,
    pairs: &[(&str, &str)],
    body: &Value,
) -> Reply {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    world.send(method, path, &headers(pairs), body).await
}

fn with_cookies() -> Value {
    json!({ "email": "a@b", "password": "right", "session": "COOKIE" })
}

/// What an answer sets: by name, the value and the attributes.
fn set(reply: &Reply) -> BTreeMap<String, (String, String)> {
    let lines = reply.headers.get_all("set-cookie").iter();
    lines
        .map(|line| {
            let line = line.to_str().unwrap();
            let (pair, attributes) = line.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), (value.to_owned(), attributes.to_owned()))
        })
        .collect()
}

/// The cookies that a browser sends to this path.
fn jar(cookies: &BTreeMap<String, (String, String)>, path: &str) -> String {
    let sent = cookies.iter().filter(|(_, (_, attributes))| {
        let only = attributes.split("Path=").nth(1).unwrap();
        let only = only.split(';').next().unwrap();
        only == "/" || only == path
    });
    let pairs: Vec<_> = sent
        .map(|(name, (value, _))| format!("{name}={value}"))
        .collect();
    pairs.join("; ")
}

#[tokio::test]
async fn a_session_in_cookies_begins_is_used_refreshed_and_ended() {
    let world = World::with(patience(), &TLS).await;
    let here = ("sec-fetch-site", "same-origin");
    let begun = ask(&world, "POST", LOGIN, &[here], &with_cookies()).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    let fields: Vec<String> = begun.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["csrfToken", "expiresIn"], "no token in the answer");
    assert!(!begun.text.contains("dfa_") && !begun.text.contains("dfr_"));
    let csrf = begun.json()["csrfToken"].as_str().unwrap().to_owned();

    let cookies = set(&begun);
    let names: Vec<_> = cookies.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "__Host-dashfleet-csrf",
            "__Host-dashfleet-session",
            "__Secure-dashfleet-refresh"
        ]
    );
    for (name, (_, attributes)) in &cookies {
        let hidden = !name.ends_with("csrf");
        assert_eq!(attributes.contains("HttpOnly"), hidden, "{name}");
        assert!(
            attributes.contains("Secure") && attributes.contains("SameSite=Strict"),
            "{name}: {attributes}"
        );
        assert!(!attributes.contains("Domain"), "{name}");
    }
    assert!(
        cookies["__Secure-dashfleet-refresh"]
            .1
            .contains(&format!("Path={REFRESH};"))
    );
    assert_eq!(cookies["__Host-dashfleet-csrf"].0, csrf);

    // A question needs the cookie alone.
    let jarred = jar(&cookies, ME);
    assert!(!jarred.contains("dfr_"), "the refresh token stays at home");
    let me = ask(&world, "GET", ME, &[("cookie", &jarred)], &Value::Null).await;
    assert_eq!(me.status, 200, "{}", me.text);

    // A change needs the word of a page of ours.
    let release = format!("/api/v1/machines/{HERE}/release");
    let jarred = jar(&cookies, &release);
    let cookie = ("cookie", jarred.as_str());
    let token = ("x-csrf-token", csrf.as_str());
    for (headers, status) in [
        (vec![cookie, token, here], 204),
        (vec![cookie, token], 204),
        (
            vec![cookie, token, ("origin", "https://fleet.example.org")],
            204,
        ),
        (vec![cookie, here], 403),
        (vec![cookie, here, ("x-csrf-token", "")], 403),
        (
            vec![
                cookie,
                here,
                ("x-csrf-token", "0123456789abcdef0123456789abcdef"),
            ],
            403,
        ),
        (vec![cookie, token, ("sec-fetch-site", "cross-site")], 403),
        (vec![cookie, token, ("sec-fetch-site", "same-site")], 403),
        (
            vec![cookie, token, ("origin", "https://evil.example.org")],
            403,
        ),
        (vec![cookie, token, ("origin", "null")], 403),
        (vec![token, here], 401),
    ] {
        let reply = ask(&world, "POST", &release, &headers, &Value::Null).await;
        assert_eq!(reply.status, status, "{headers:?}: {}", reply.text);
    }

    // The refresh goes on with the same word, so that other tabs go on too.
    let jarred = jar(&cookies, REFRESH);
    let cookie = ("cookie", jarred.as_str());
    let refused = ask(&world, "POST", REFRESH, &[cookie, here], &Value::Null).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let refreshed = ask(
        &world,
        "POST",
        REFRESH,
        &[cookie, here, token],
        &Value::Null,
    )
    .await;
    assert_eq!(refreshed.status, 201, "{}", refreshed.text);
    assert_eq!(refreshed.json()["csrfToken"], csrf.as_str());
    let cookies = set(&refreshed);
    assert_eq!(cookies.len(), 3);

    // Another organisation is another session, in the same cookies and with the same word.
    let (switch, elsewhere) = ("/api/v1/auth/switch", json!({ "organizationId": HERE }));
    let jarred = jar(&cookies, switch);
    let cookie = ("cookie", jarred.as_str());
    let switched = ask(&world, "POST", switch, &[cookie, here], &elsewhere).await;
    assert_eq!(switched.status, 403, "{}", switched.text);
    let switched = ask(&world, "POST", switch, &[cookie, here, token], &elsewhere).await;
    assert_eq!(switched.status, 201, "{}", switched.text);
    assert_eq!(switched.json()["csrfToken"], csrf.as_str());
    let cookies = set(&switched);
    let bearer = ("authorization", "Bearer dfa_good");
    let switched = ask(&world, "POST", switch, &[cookie, bearer], &elsewhere).await;
    assert_eq!((switched.status, set(&switched).len()), (200, 0));

    let jarred = jar(&cookies, LOGOUT);
    let cookie = ("cookie", jarred.as_str());
    assert_eq!(
        ask(&world, "POST", LOGOUT, &[cookie, here], &Value::Null)
            .await
            .status,
        403
    );
    let ended = ask(&world, "POST", LOGOUT, &[cookie, here, token], &Value::Null).await;
    assert_eq!(ended.status, 204, "{}", ended.text);
    for (name, (value, attributes)) in set(&ended) {
        assert!(
            value.is_empty() && attributes.contains("Max-Age=0"),
            "{name}={value}; {attributes}"
        );
    }
    assert_eq!(set(&ended).len(), 3);
}

#[tokio::test]
async fn tokens_are_in_the_answer_unless_cookies_are_asked_for() {
    let world = World::with(patience(), &TLS).await;
    for body in [
        json!({ "email": "a@b", "password": "right" }),
        json!({ "email": "a@b", "password": "right", "session": "TOKEN" }),
    ] {
        let reply = ask(&world, "POST", LOGIN, &[], &body).await;
        assert_eq!(reply.status, 200);
        assert!(reply.json()["accessToken"].is_string() && set(&reply).is_empty());
    }
    let body = json!({ "refreshToken": "dfr_good" });
    let reply = ask(&world, "POST", REFRESH, &[], &body).await;
    assert_eq!(reply.status, 200);
    assert!(reply.json()["refreshToken"].is_string() && set(&reply).is_empty());
    let reply = ask(&world, "POST", REFRESH, &[], &Value::Null).await;
    assert_eq!(
        (reply.status, reply.paths()),
        (400, vec!["refreshToken".to_owned()])
    );
    let unknown = json!({ "email": "a@b", "password": "right", "session": "cookie" });
    let reply = ask(&world, "POST", LOGIN, &[], &unknown).await;
    assert_eq!(
        (reply.status, reply.paths()),
        (400, vec!["session".to_owned()])
    );
}

#[tokio::test]
async fn a_page_of_another_site_cannot_log_a_browser_in_and_a_wrong_password_sets_nothing() {
    let world = World::with(patience(), &TLS).await;
    for from in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://evil.example.org"),
    ] {
        let reply = ask(&world, "POST", LOGIN, &[from], &with_cookies()).await;
        assert_eq!((reply.status, set(&reply).len()), (403, 0), "{from:?}");
    }
    let wrong = json!({ "email": "a@b", "password": "wrong", "session": "COOKIE" });
    let reply = ask(&world, "POST", LOGIN, &[], &wrong).await;
    assert_eq!((reply.status, set(&reply).len()), (401, 0));
}

#[tokio::test]
async fn a_credential_in_the_header_goes_before_the_cookie_and_keys_are_never_taken_from_cookies() {
    let world = World::with(patience(), &TLS).await;
    let bearer = format!("Bearer {GOOD}");
    let release = format!("/api/v1/machines/{HERE}/release");
    let bad = ("cookie", "__Host-dashfleet-session=dfa_revoked.0");
    let reply = ask(
        &world,
        "POST",
        &release,
        &[
            ("authorization", &bearer),
            bad,
            ("sec-fetch-site", "cross-site"),
        ],
        &Value::Null,
    )
    .await;
    assert_eq!(reply.status, 204, "{}", reply.text);
    let both = [("authorization", bearer.as_str()), bad];
    let reply = ask(&world, "POST", LOGOUT, &both, &Value::Null).await;
    assert_eq!(
        (reply.status, set(&reply).len()),
        (204, 0),
        "another session's end"
    );
    let wrong = [
        ("authorization", "Bearer dfk_wrong"),
        ("cookie", "__Host-dashfleet-session=dfa_good.0"),
    ];
    assert_eq!(
        ask(&world, "GET", ME, &wrong, &Value::Null).await.status,
        401
    );
    for cookie in [
        "__Host-dashfleet-session=dfk_good.0",
        "__Host-dashfleet-session=dfl_good.0",
        "__Host-dashfleet-session=dfa_good",
        "__Host-dashfleet-session=",
        "__Host-dashfleet-session=dfa_good.0; __Host-dashfleet-session=dfa_good.0",
        "dashfleet-session=dfa_good.0",
        "session=dfa_good.0",
    ] {
        let reply = ask(&world, "GET", ME, &[("cookie", cookie)], &Value::Null).await;
        assert_eq!(reply.status, 401, "{cookie}");
    }
    let good = [("cookie", "__Host-dashfleet-session=dfa_good.0")];
    assert_eq!(
        ask(&world, "GET", ME, &good, &Value::Null).await.status,
        200
    );
    for path in ["/api/fleet", "/api/actions/pending?machine_id=x"] {
        let reply = ask(&world, "GET", path, &good, &Value::Null).await;
        assert_eq!(
            reply.status, 403,
            "{path}: a cookie opens none of Dash-Fleet's"
        );
    }
}

#[tokio::test]
async fn a_refresh_that_is_over_takes_the_cookies_away() {
    let world = World::with(patience(), &TLS).await;
    let begun = ask(&world, "POST", LOGIN, &[], &with_cookies()).await;
    let csrf = begun.json()["csrfToken"].as_str().unwrap().to_owned();
    let jarred = jar(&set(&begun), REFRESH).replace("dfr_good", "dfr_used");
    let pairs = [("cookie", jarred.as_str()), ("x-csrf-token", csrf.as_str())];
    let over = ask(&world, "POST", REFRESH, &pairs, &Value::Null).await;
    assert_eq!((over.status, set(&over).len()), (401, 3), "{}", over.text);
}

#[tokio::test]
async fn without_tls_cookies_are_for_this_machine_or_where_the_configuration_says_so() {
    // From this machine, to this machine.
    let world = World::with(patience(), &[("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let begun = ask(&world, "POST", LOGIN, &[], &with_cookies()).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    let cookies = set(&begun);
    assert!(cookies.contains_key("dashfleet-session"));
    assert!(
        cookies
            .values()
            .all(|(_, attributes)| !attributes.contains("Secure"))
    );
    let jarred = jar(&cookies, ME);
    let me = ask(&world, "GET", ME, &[("cookie", &jarred)], &Value::Null).await;
    assert_eq!(me.status, 200);
    // By a proxy, from elsewhere: not without TLS, and with it under the safe names.
    let from = ("x-forwarded-for", "198.51.100.7");
    for pairs in [
        vec![from],
        vec![from, ("x-forwarded-proto", "http")],
        vec![("host", "fleet.example.org")],
    ] {
        let reply = ask(&world, "POST", LOGIN, &pairs, &with_cookies()).await;
        assert_eq!(
            (reply.status, reply.paths()),
            (400, vec!["session".to_owned()]),
            "{pairs:?}"
        );
        let reply = ask(
            &world,
            "GET",
            ME,
            &[&pairs[..], &[("cookie", &jarred)]].concat(),
            &Value::Null,
        )
        .await;
        assert_eq!(reply.status, 401, "{pairs:?}");
    }
    let tls = [from, ("x-forwarded-proto", "https")];
    let begun = ask(&world, "POST", LOGIN, &tls, &with_cookies()).await;
    assert!(set(&begun).contains_key("__Host-dashfleet-session"));

    let plain = [
        ("DASHFLEET_PUBLIC_URL", "http://fleet.lan:8080"),
        ("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let world = World::with(patience(), &plain).await;
    let begun = ask(&world, "POST", LOGIN, &[from], &with_cookies()).await;
    assert!(
        set(&begun).contains_key("dashfleet-session"),
        "{}",
        begun.text
    );
}

#[tokio::test]
async fn every_answer_tells_browsers_what_it_is_not() {
    let world = World::with(patience(), &TLS).await;
    for (path, status) in [
        (ME, 200),
        ("/nowhere", 404),
        ("/api/fleet", 403),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/install.sh", 200),
    ] {
        let reply = world.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(reply.header(name), value, "{path} {name}");
        }
        assert!(reply.header("permissions-policy").contains("camera=()"));
        let policy = reply.header("content-security-policy");
        match path {
            "/docs" | "/openapi.json" => assert!(policy.starts_with("default-src 'self'; ")),
            _ => assert_eq!(
                policy, "default-src 'none'; frame-ancestors 'none'",
                "{path}"
            ),
        }
        assert!(policy.contains("frame-ancestors 'none'"));
        assert!(!reply.headers.contains_key("access-control-allow-origin"));
        assert!(!reply.headers.contains_key("server"));
    }
}

#[tokio::test]
async fn transport_security_is_said_under_tls_alone() {
    let world = World::with(patience(), &[("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1")]).await;
    for (said, expected) in [("https", true), ("http", false), ("", false)] {
        let reply = ask(
            &world,
            "GET",
            "/docs",
            &[("x-forwarded-proto", said)],
            &Value::Null,
        )
        .await;
        let there = reply.headers.contains_key("strict-transport-security");
        assert_eq!(there, expected, "{said}");
    }
    let world = World::new().await;
    let reply = ask(
        &world,
        "GET",
        "/docs",
        &[("x-forwarded-proto", "https")],
        &Value::Null,
    )
    .await;
    assert!(
        !reply.headers.contains_key("strict-transport-security"),
        "nobody trusts whoever says so"
    );
}

#[tokio::test]
async fn other_origins_are_shut_out_unless_they_are_named_exactly() {
    const DASH: &str = "https://dash.example.org";
    let asks = |origin: &'static str| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "x-csrf-token"),
        ]
    };
    let closed = World::with(patience(), &TLS).await;
    let reply = ask(
        &closed,
        "OPTIONS",
        "/api/v1/actions",
        &asks(DASH),
        &Value::Null,
    )
    .await;
    assert_eq!(reply.status, 405);
    assert!(
        !reply
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("access-control"))
    );

    let open = World::with(
        patience(),
        &[
            TLS[0],
            (
                "DASHFLEET_CORS_ORIGINS",
                "https://dash.example.org, http://localhost:5173",
            ),
        ],
    )
    .await;
    for origin in [DASH, "http://localhost:5173"] {
        let reply = ask(
            &open,
            "OPTIONS",
            "/api/v1/actions",
            &asks(origin),
            &Value::Null,
        )
        .await;
        assert_eq!(reply.status, 204, "{}", reply.text);
        assert_eq!(reply.header("access-control-allow-origin"), origin);
        assert_eq!(reply.header("access-control-allow-credentials"), "true");
        assert_eq!(reply.header("vary"), "origin");
        assert!(
            reply
                .header("access-control-allow-methods")
                .contains("POST")
        );
        assert!(
            reply
                .header("access-control-allow-headers")
                .contains("x-csrf-token")
        );
    }
    for origin in [
        "https://evil.example.org",
        "https://dash.example.org.evil.example",
        "http://dash.example.org",
        "https://dash.example.org:8443",
        "null",
        "*",
    ] {
        for (method, status) in [("OPTIONS", 405), ("GET", 200)] {
            let reply = open
                .send(
                    method,
                    "/api/v1/actions",
                    &asks(origin).map(|(n, v)| (n, v.as_bytes())),
                    "",
                )
                .await;
            assert_eq!(reply.status, status, "{origin}");
            assert!(
                !reply.headers.contains_key("access-control-allow-origin"),
                "{origin}"
            );
            assert_eq!(reply.header("vary"), "origin", "caches keep them apart");
        }
    }
    // Refusals can be read too, and the rates.
    let origin: [(&str, &[u8]); 1] = [("origin", DASH.as_bytes())];
    let reply = open
        .send("GET", "/api/v1/machines?limit=0", &origin, "")
        .await;
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (400, DASH)
    );
    assert!(
        reply
            .header("access-control-expose-headers")
            .contains("ratelimit-remaining")
    );
    // Agents' routes are not for pages.
    for path in ["/api/fleet", "/install.sh", "/api/status"] {
        let reply = open.send("GET", path, &origin, "").await;
        assert!(
            !reply.headers.contains_key("access-control-allow-origin"),
            "{path}"
        );
    }
    // A page of a named origin may use the cookies, which only a page of the same site has.
    let pairs = [("origin", DASH), ("sec-fetch-site", "same-site")];
    let begun = ask(&open, "POST", LOGIN, &pairs, &with_cookies()).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
}
