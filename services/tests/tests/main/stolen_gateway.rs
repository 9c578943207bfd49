//! Somebody has the gateway's key of the bus, and no credential (law L4): every call that the gateway may make is made with
//! no grant and with forged ones, and changes nothing; what may be heard has no secret in it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::Envelope;
use contract::envelope::GRANT_HEADER;
use contract::grant::{Grant, ISSUER, PrincipalKind};
use dashfleet_tests::Api;
use domain::access::Role;
use domain::{CredentialId, Timestamp};
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::coverage::world::{PASSWORD, Things, World, everything};
use super::hostile::Hostile;
use super::rules::files;

const INBOX: &str = "_INBOX.s.gateway.thief";
/// Calls that need no grant because they bring their own secret, or ask for what everybody may know. They tell nothing of an
/// organisation to whoever has neither.
const OPEN: [&str; 12] = [
    "df.rpc.identity.auth.login",
    "df.rpc.identity.auth.refresh",
    "df.rpc.identity.auth.forgot",
    "df.rpc.identity.auth.reset",
    "df.rpc.identity.auth.accept",
    "df.rpc.identity.grant.exchange",
    "df.rpc.identity.jwks.get",
    "df.rpc.identity.actionkeys.get",
    "df.rpc.identity.enrollment.challenge",
    "df.rpc.identity.enrollment.complete",
    "df.rpc.identity.enrollment.standing",
    "df.rpc.identity.status.get",
];
/// Those of them that answer everybody.
const FOR_ALL: [&str; 4] = [
    "df.rpc.identity.auth.forgot",
    "df.rpc.identity.jwks.get",
    "df.rpc.identity.actionkeys.get",
    "df.rpc.identity.enrollment.challenge",
];

/// The texts of the files below a folder.
fn texts(folder: &str, extension: &str) -> Vec<String> {
    let paths = files::tracked().into_iter();
    let paths = paths.filter(|path| path.starts_with(folder) && path.ends_with(extension));
    paths.map(|path| files::read(&path)).collect()
}

/// Every call of the gateway's, from the contract's own declarations: its subject and the name of its request.
fn calls() -> BTreeMap<String, String> {
    let mut calls = BTreeMap::new();
    for text in texts("services/libs/contract/src/", ".rs") {
        for line in text
            .lines()
            .filter(|line| line.starts_with("crate::call!("))
        {
            let (request, rest) = line
                .trim_start_matches("crate::call!(")
                .split_once(" => ")
                .expect("a request");
            let mut parts = rest.split(", ");
            let service = parts
                .next()
                .and_then(|part| part.split('"').nth(1))
                .expect("a service");
            let name = |part: Option<&str>| part.expect("a name").trim_matches('"').to_owned();
            let (noun, verb) = (name(parts.next()), name(parts.next()));
            if matches!(parts.next(), Some("Gateway" | "Both")) {
                let request = request.rsplit("::").next().unwrap_or(request).to_owned();
                calls.insert(format!("df.rpc.{service}.{noun}.{verb}"), request);
            }
        }
    }
    calls
}

/// The example of each message, from the contract's snapshots.
fn examples() -> BTreeMap<String, Value> {
    let mut examples = BTreeMap::new();
    for text in texts("services/libs/contract/snapshots/", ".json") {
        let room: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
        examples.extend(room);
    }
    examples
}

/// An example about things that are really there.
fn about(value: &mut Value, things: &Things) {
    let Value::Object(fields) = value else { return };
    for (name, id) in [
        ("machineId", &things.machine),
        ("actionId", &things.action),
        ("keyId", &things.key),
        ("tokenId", &things.token),
        ("userId", &things.user),
        ("invitationId", &things.invitation),
        ("sessionId", &things.session),
        ("organizationId", &things.organization),
        ("jobId", &things.job),
        ("executionId", &things.execution),
    ] {
        if let Some(field) = fields.get_mut(name) {
            *field = json!(id);
        }
    }
    if let Some(Value::Array(ids)) = fields.get_mut("machineIds") {
        *ids = vec![json!(things.machine)];
    }
    if let Some(Value::Array(items)) = fields.get_mut("items") {
        items.iter_mut().for_each(|item| about(item, things));
    }
}

/// A grant with every right that identity did not sign.
fn forged(things: &Things, kid: &str, header: &Value, key: Option<&KeyPair>) -> String {
    let now = Timestamp::now().millis() / 1_000;
    let grant = Grant {
        iss: ISSUER.into(),
        org: things.organization.parse().expect("an id"),
        sub: uuid::Uuid::now_v7(),
        kind: PrincipalKind::User,
        role: Role::Owner,
        scopes: Role::Owner.scopes(),
        aud: ["identity", "action", "scheduler", "metrics"]
            .map(Into::into)
            .to_vec(),
        credential: CredentialId::new(),
        iat: now,
        exp: now + 300,
    };
    let mut header = header.clone();
    header["kid"] = json!(kid);
    let parts = [header, json!(grant)].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = parts.join(".");
    let signature = key.map_or_else(String::new, |key| {
        URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).expect("a signature"))
    });
    format!("{signed}.{signature}")
}

async fn thief(world: &World) -> Hostile {
    let dev = world.product.dev();
    let seed = world.product.folder().join("keys/gateway/nats.nk");
    let seed = std::fs::read_to_string(seed).expect("the gateway's seed");
    let url = dev["natsUrl"].as_str().expect("natsUrl");
    let mut thief = Hostile::with_seed(url, seed.trim()).await.expect("let in");
    for pattern in [INBOX, "df.live.>", "df.evt.>"] {
        thief.subscribe(pattern, None).await;
    }
    thief.sync().await;
    thief
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_credentials_changes_nothing() {
    let world = World::new().await;
    let mut thief = thief(&world).await;
    let before = (everything(&world.owner).await, world.theirs().await);
    let jwks = Api::new(&world.owner.url, "")
        .get("/.well-known/jwks.json")
        .await;
    let kid = jwks["keys"][0]["kid"].as_str().expect("a key").to_owned();
    let own = KeyPair::new_user();
    let algorithm = |name: &str| json!({ "alg": name, "typ": "JWT" });
    let grants = [
        "garbage".to_owned(),
        forged(&world.ours, &kid, &algorithm("EdDSA"), Some(&own)),
        forged(&world.ours, "unknown", &algorithm("EdDSA"), Some(&own)),
        forged(&world.ours, &kid, &algorithm("none"), None),
        forged(&world.ours, &kid, &algorithm("HS256"), Some(&own)),
    ];
    let (calls, examples) = (calls(), examples());
    assert!(calls.len() > 56, "the calls were not read: {calls:?}");
    let mut attempts = 0;
    for (subject, request) in &calls {
        let mut body = examples
            .get(request)
            .unwrap_or_else(|| panic!("{request} has no example"))
            .clone();
        about(&mut body, &world.ours);
        let payload = json!(Envelope::new(1, None, body)).to_string();
        let mut answers = vec![thief.request(subject, INBOX, payload.as_bytes()).await];
        for grant in &grants {
            let header = (GRANT_HEADER, grant.as_str());
            let asked = thief.request_with_header(subject, INBOX, header, payload.as_bytes());
            answers.push(asked.await);
        }
        attempts += answers.len();
        for (number, answer) in answers.iter().enumerate() {
            // Whoever shows a grant that is none is refused, even where none is needed.
            if number == 0 && FOR_ALL.contains(&subject.as_str()) {
                assert!(answer["ok"].is_object(), "{subject}: {answer}");
                continue;
            }
            let kind = answer["error"]["kind"]
                .as_str()
                .unwrap_or_else(|| panic!("{subject} was answered (attempt {number}): {answer}"));
            let open = OPEN.contains(&subject.as_str());
            assert!(open || kind == "UNAUTHENTICATED", "{subject}: {answer}");
        }
    }
    let after = (everything(&world.owner).await, world.theirs().await);
    for (whose, after, before) in [("ours", after.0, before.0), ("theirs", after.1, before.1)] {
        for (list, before) in before.as_object().expect("lists") {
            assert_eq!(&after[list], before, "{list} of {whose} changed");
        }
    }
    println!("stolen gateway: {} calls, {attempts} attempts", calls.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_hears_without_being_asked_has_no_secret() {
    let world = World::new().await;
    let thief = thief(&world).await;
    let dev = world.product.dev();
    let mut secrets: Vec<String> = ["adminPassword", "apiKey", "legacyApiKey", "enrollmentToken"]
        .iter()
        .map(|name| dev[name].as_str().expect("a text").to_owned())
        .collect();
    secrets.push(PASSWORD.to_owned());
    secrets.push(world.owner.key.clone());
    // Everything again that makes a secret, while somebody listens.
    let owner = &world.owner;
    let keep = |body: &Value, name: &str, secrets: &mut Vec<String>| {
        let text = body[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name} in {body}"));
        secrets.push(text.rsplit('#').next().unwrap_or(text).to_owned());
    };
    let token = post(owner, "enrollment-tokens", json!({ "name": "heard" })).await;
    keep(&token, "token", &mut secrets);
    let key = post(
        owner,
        "api-keys",
        json!({ "name": "heard", "role": "ADMIN" }),
    )
    .await;
    keep(&key, "key", &mut secrets);
    let invite = json!({ "email": "heard@example.org", "role": "VIEWER" });
    let invited = post(owner, "users", invite).await;
    keep(&invited, "link", &mut secrets);
    let reset = format!("users/{}/password-reset", world.ours.user);
    keep(&post(owner, &reset, json!({})).await, "link", &mut secrets);
    let login = json!({ "email": "owner@example.org", "password": PASSWORD });
    let tokens = post(&Api::new(&owner.url, ""), "auth/login", login).await;
    for name in ["accessToken", "refreshToken"] {
        keep(&tokens, name, &mut secrets);
    }
    let refresh = json!({ "refreshToken": tokens["refreshToken"] });
    let tokens = post(&Api::new(&owner.url, ""), "auth/refresh", refresh).await;
    for name in ["accessToken", "refreshToken"] {
        keep(&tokens, name, &mut secrets);
    }
    let ended = Api::new(&owner.url, tokens["accessToken"].as_str().expect("a token"));
    ended.post("/api/v1/auth/logout", json!({})).await;
    let key = format!("/api/v1/api-keys/{}", key["id"].as_str().expect("an id"));
    let revoked = owner.send(reqwest::Method::DELETE, &key, &[], None).await;
    assert!(revoked.expect("an answer").0.is_success());
    // Of an action, its end is an event.
    let action = owner.action(&world.ours.machine, "ping", json!({})).await;
    let cancel = format!("/api/v1/actions/{action}/cancel");
    let (status, body) = owner.post(&cancel, json!({})).await;
    assert!(status.is_success(), "{status} {body}");

    let mut heard: Vec<(String, String)> = Vec::new();
    for wanted in [".key.", ".user.", ".action."] {
        testkit::eventually("the events are heard", Duration::from_secs(20), || {
            let came = thief.take_messages().into_iter();
            heard.extend(came.map(|message| {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                (message.subject, text)
            }));
            let there = heard.iter().any(|(subject, _)| subject.contains(wanted));
            async move { there.then_some(()) }
        })
        .await;
    }
    for (subject, text) in &heard {
        for secret in &secrets {
            assert!(
                secret.len() >= 12,
                "a secret of {} characters",
                secret.len()
            );
            assert!(
                !text.contains(secret.as_str()),
                "{subject} tells a secret: {text}"
            );
        }
    }
    println!(
        "stolen gateway: {} secrets, {} messages",
        secrets.len(),
        heard.len()
    );
}

async fn post(api: &Api, path: &str, body: Value) -> Value {
    let (status, body) = api.post(&format!("/api/v1/{path}"), body).await;
    assert!(status.is_success(), "POST {path}: {status} {body}");
    body
}
