//! Two organisations with one of everything each, and everybody who might ask.

use dashfleet_tests::agent::Door;
use dashfleet_tests::{Api, Product, TestAgent};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::table::Needs;

/// Everybody's.
pub const PASSWORD: &str = "a password of many words";
/// What a key may have at all: all scopes but those that only people have.
const PROGRAMS: [&str; 14] = [
    "organization:read",
    "members:read",
    "api-keys:read",
    "enrollment-tokens:read",
    "enrollment-tokens:write",
    "audit-events:read",
    "machines:read",
    "machines:write",
    "actions:read",
    "actions:write",
    "jobs:read",
    "jobs:execute",
    "jobs:write",
    "modules:write",
];

/// One of everything that an organisation has; ids.
#[derive(Clone, Debug, Default)]
pub struct Things {
    pub organization: String,
    pub machine: String,
    pub action: String,
    pub job: String,
    /// One that waits for a time that does not come.
    pub execution: String,
    pub key: String,
    pub token: String,
    pub user: String,
    pub invitation: String,
    pub session: String,
    /// A text that stands in names of this organisation and nowhere else.
    pub secret_name: String,
}

impl Things {
    /// What the `{id}` of a path means.
    pub fn of_path(&self, path: &str) -> String {
        let nouns = [
            ("/organizations/", &self.organization),
            ("/machines/", &self.machine),
            ("/actions/", &self.action),
            ("/jobs/", &self.job),
            ("/executions/", &self.execution),
            ("/api-keys/", &self.key),
            ("/enrollment-tokens/", &self.token),
            ("/invitations/", &self.invitation),
            ("/users/", &self.user),
            ("/sessions/", &self.session),
        ];
        let found = nouns.iter().find(|(noun, _)| path.contains(noun));
        found.map_or_else(|| panic!("what does {path} mean?"), |(_, id)| (*id).clone())
    }
}

/// Everybody.
pub struct World {
    pub product: Product,
    pub ours: Things,
    pub theirs: Things,
    /// OWNER of ours, and nothing besides.
    pub owner: Api,
    /// OWNER of ours, and administrator of the platform.
    platform: Api,
    /// OWNER of theirs.
    other: Api,
    /// People of ours by their role, the weakest first.
    people: Vec<(&'static str, Api)>,
    /// Keys of ours without one scope each.
    lacking: Vec<(&'static str, Api)>,
    /// A key with everything that a key can have.
    program: Api,
    /// A key with no scope.
    empty: Api,
    /// A key of Dash-Fleet's.
    legacy: Api,
    /// Credentials that are none (any more), with what they are.
    nobody: Vec<(&'static str, Api)>,
}

async fn made(api: &Api, path: &str, body: Value) -> Value {
    let (status, body) = api.post(path, body).await;
    assert!(status.is_success(), "POST {path}: {status} {body}");
    body
}

fn text(value: &Value, name: &str) -> String {
    let text = value[name].as_str();
    text.unwrap_or_else(|| panic!("{name} in {value}"))
        .to_owned()
}

async fn login(url: &str, email: &str, password: &str) -> Api {
    let body = json!({ "email": email, "password": password });
    let tokens = made(&Api::new(url, ""), "/api/v1/auth/login", body).await;
    Api::new(url, &text(&tokens, "accessToken"))
}

/// Invites somebody, who joins.
async fn join(admin: &Api, email: &str, role: &str) -> Api {
    let invited = made(
        admin,
        "/api/v1/users",
        json!({ "email": email, "role": role }),
    )
    .await;
    let link = text(&invited, "link");
    let (_, token) = link.split_once('#').expect("a token in the link");
    let accept = json!({ "token": token, "password": PASSWORD, "name": email });
    let stranger = Api::new(&admin.url, "");
    let tokens = made(&stranger, "/api/v1/auth/invitations/accept", accept).await;
    Api::new(&admin.url, &text(&tokens, "accessToken"))
}

async fn key(owner: &Api, body: Value) -> (String, Api) {
    let key = made(owner, "/api/v1/api-keys", body).await;
    (text(&key, "id"), Api::new(&owner.url, &text(&key, "key")))
}

async fn delete(api: &Api, path: &str) {
    let answer = api.send(Method::DELETE, path, &[], None).await;
    let (status, body) = answer.expect("an answer");
    assert_eq!(status, StatusCode::NO_CONTENT, "DELETE {path}: {body}");
}

/// One of everything, made by this owner.
async fn things(product: &Product, owner: &Api, name: &str) -> Things {
    let organization = text(&owner.get("/api/v1/auth/me").await, "organizationId");
    let token = json!({ "name": format!("{name}-token"), "uses": 10 });
    let token = made(owner, "/api/v1/enrollment-tokens", token).await;
    let door = Door {
        token: text(&token, "token"),
        ..product.door()
    };
    let machine = TestAgent::enroll_at(&door, name, &[]).machine.clone();
    // It never connects, so what it is asked for stays.
    let ping = json!({ "machineId": machine, "kind": "ping", "payload": {} });
    let action = testkit::eventually(
        "the owner of actions knows the machine",
        std::time::Duration::from_secs(20),
        || async {
            let (status, body) = owner.post("/api/v1/actions", ping.clone()).await;
            status.is_success().then(|| text(&body, "id"))
        },
    )
    .await;
    let job = json!({ "name": format!("{name}-job"), "handler": "builtin/noop" });
    let job = text(&made(owner, "/api/v1/jobs", job).await, "id");
    // It waits for weeks, so it stays as it is.
    let later = chrono::Utc::now() + chrono::Duration::days(20);
    let order = json!({ "runAt": later.to_rfc3339_opts(chrono::SecondsFormat::Millis, true) });
    let execute = format!("/api/v1/jobs/{job}/execute");
    let execution = text(&made(owner, &execute, order).await, "executionId");
    let email = format!("{name}-member@example.org");
    let member = join(owner, &email, "OPERATOR").await;
    let invitation = json!({ "email": format!("{name}-guest@example.org"), "role": "VIEWER" });
    let sessions = owner.get("/api/v1/auth/sessions").await;
    Things {
        organization,
        machine,
        action,
        job,
        execution,
        key: key(
            owner,
            json!({ "name": format!("{name}-key"), "role": "VIEWER" }),
        )
        .await
        .0,
        token: text(&token, "id"),
        user: text(&member.get("/api/v1/auth/me").await, "id"),
        invitation: text(&made(owner, "/api/v1/users", invitation).await, "id"),
        session: text(&sessions["items"][0], "id"),
        secret_name: name.to_owned(),
    }
}

impl World {
    /// # Panics
    /// When something cannot be made.
    pub async fn new() -> Self {
        let product = Product::start(1);
        let dev = product.dev();
        let url = text(&dev, "url");
        let (email, password) = (text(&dev, "adminEmail"), text(&dev, "adminPassword"));
        let platform = login(&url, &email, &password).await;

        let owner = join(&platform, "owner@example.org", "OWNER").await;
        // Its sessions are one's own: this one is ended at the end.
        let spare = login(&url, "owner@example.org", PASSWORD).await;
        let mut ours = things(&product, &owner, "ours").await;
        let sessions = spare.get("/api/v1/auth/sessions").await;
        ours.session = sessions["items"]
            .as_array()
            .expect("sessions")
            .iter()
            .find(|session| session["current"] == true)
            .map(|session| text(session, "id"))
            .expect("the spare one");

        let organization = json!({ "name": "theirs-organization" });
        let organization = made(&platform, "/api/v1/organizations", organization).await;
        let switch = json!({ "organizationId": organization["id"] });
        let there = made(&platform, "/api/v1/auth/switch", switch).await;
        let there = Api::new(&url, &text(&there, "accessToken"));
        let other = join(&there, "other@example.org", "OWNER").await;
        let theirs = things(&product, &other, "theirs").await;

        let mut people = Vec::new();
        for role in ["VIEWER", "OPERATOR", "ADMIN"] {
            let email = format!("{}@example.org", role.to_lowercase());
            people.push((role, join(&owner, &email, role).await));
        }
        let mut lacking = Vec::new();
        for scope in PROGRAMS {
            let scopes: Vec<_> = PROGRAMS.iter().filter(|other| **other != scope).collect();
            let body = json!({ "name": "lacking", "role": "OWNER", "scopes": scopes });
            lacking.push((scope, key(&owner, body).await.1));
        }
        let (_, program) = key(&owner, json!({ "name": "program", "role": "OWNER" })).await;
        let empty = json!({ "name": "empty", "role": "OWNER", "scopes": [] });
        let (_, empty) = key(&owner, empty).await;
        let legacy = Api::new(&url, &text(&dev, "legacyApiKey"));

        let nobody = nobody(&owner, &url, &email, &password).await;
        Self {
            product,
            ours,
            theirs,
            owner,
            platform,
            other,
            people,
            lacking,
            program,
            empty,
            legacy,
            nobody,
        }
    }

    /// Somebody who may.
    pub fn right(&self, needs: Needs) -> &Api {
        match needs {
            Needs::Platform => &self.platform,
            _ => &self.owner,
        }
    }

    /// Everybody who must not, with the status that tells them.
    pub fn refused(&self, needs: Needs) -> Vec<(String, &Api, StatusCode)> {
        if needs == Needs::Nothing {
            return Vec::new();
        }
        let unknown = self.nobody.iter();
        let mut refused: Vec<_> = unknown
            .map(|(who, api)| ((*who).to_owned(), api, StatusCode::UNAUTHORIZED))
            .collect();
        let mut forbidden = |who: String, api| refused.push((who, api, StatusCode::FORBIDDEN));
        forbidden("a key of Dash-Fleet's".to_owned(), &self.legacy);
        match needs {
            Needs::Nothing | Needs::Credential => {}
            Needs::Session => forbidden("a key".to_owned(), &self.program),
            Needs::Platform => {
                forbidden("an owner".to_owned(), &self.owner);
                forbidden("a key".to_owned(), &self.program);
            }
            Needs::Scope(scope) => {
                forbidden("a key without scopes".to_owned(), &self.empty);
                match self.lacking.iter().find(|(lacks, _)| *lacks == scope) {
                    Some((_, api)) => forbidden(format!("a key without {scope}"), api),
                    // What only people have, no key has.
                    None => forbidden("a key of an owner".to_owned(), &self.program),
                }
                let weakest = domain::access::SCOPES
                    .iter()
                    .find(|(name, _)| *name == scope)
                    .unwrap_or_else(|| panic!("{scope} is in no table"));
                for (role, api) in &self.people {
                    if role.parse::<domain::access::Role>().expect("a role") < weakest.1 {
                        forbidden(format!("a {role}"), api);
                    }
                }
            }
        }
        refused
    }

    /// All that the other organisation has, as its owner sees it, without what time changes.
    pub async fn theirs(&self) -> Value {
        everything(&self.other).await
    }
}

/// All that an organisation has, as this caller sees it, without what time changes.
pub async fn everything(api: &Api) -> Value {
    let mut all = serde_json::Map::new();
    let lists = [
        "machines",
        "actions",
        "jobs",
        "executions",
        "execution-settings",
        "api-keys",
        "enrollment-tokens",
        "users",
        "users/invitations",
        "organizations",
        "auth/sessions",
    ];
    for list in lists {
        let mut value = api.get(&format!("/api/v1/{list}")).await;
        timeless(&mut value);
        all.insert(list.to_owned(), value);
    }
    all.into()
}

/// Credentials that are none.
async fn nobody(owner: &Api, url: &str, email: &str, password: &str) -> Vec<(&'static str, Api)> {
    let soon = chrono::Utc::now() + chrono::Duration::seconds(2);
    let expiring = json!({
        "name": "expiring", "role": "OWNER",
        "expiresAt": soon.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    });
    let (_, expired) = key(owner, expiring).await;
    let (id, revoked) = key(owner, json!({ "name": "revoked", "role": "OWNER" })).await;
    delete(owner, &format!("/api/v1/api-keys/{id}")).await;
    let ended = login(url, email, password).await;
    let (status, body) = ended.post("/api/v1/auth/logout", json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    let credentials = json!({ "email": email, "password": password });
    let tokens = made(&Api::new(url, ""), "/api/v1/auth/login", credentials).await;
    let refresh = Api::new(url, &text(&tokens, "refreshToken"));
    let of_kind = |prefix: &str| format!("{prefix}_{}", "x".repeat(43));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    vec![
        ("nobody", Api::new(url, "")),
        ("garbage", Api::new(url, "garbage")),
        ("a token that nobody gave", Api::new(url, &of_kind("dfa"))),
        ("a key that nobody made", Api::new(url, &of_kind("dfk"))),
        ("a refresh token", refresh),
        ("an expired key", expired),
        ("a revoked key", revoked),
        ("a session that was ended", ended),
    ]
}

/// What a connected machine says of itself whenever it likes: its addresses change while other tests make networks.
const SAID_BY_MACHINES: [&str; 5] = [
    "inventory",
    "health",
    "latestSample",
    "status",
    "statusReason",
];

/// Takes out what changes by itself.
fn timeless(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let present = fields.get("status").and_then(Value::as_str);
            let connects = matches!(present, Some("ONLINE" | "OFFLINE"));
            fields.retain(|name, _| {
                let said = connects && SAID_BY_MACHINES.contains(&name.as_str());
                !(said || name.starts_with("last"))
            });
            fields.values_mut().for_each(timeless);
        }
        Value::Array(items) => items.iter_mut().for_each(timeless),
        _ => {}
    }
}
