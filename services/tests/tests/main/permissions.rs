//! The permission table, tried with each service's key on a real server: everything in its own row works, and of the
//! others' rows, and of what is in nobody's, nothing does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::action::ActionGet;
use contract::call::gateway_subject;
use contract::permissions::{Account, User, agent_publish, agent_subscribe, users};
use contract::subject::matches;
use contract::{Envelope, Problem};
use domain::{ActionId, MachineId, OrgId};
use futures::StreamExt;
use serde_json::{Value, json};
use testkit::Nats;

use super::hostile::{Hostile, no_publish, no_subscribe};

/// The pools of workers: two, so that each worker has somebody to steal from.
const POOLS: &str = "default,gpu";

/// What a thief would publish beside what the table names.
const WISHES: [&str; 52] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.CREATE.EVIL",
    "$JS.API.STREAM.UPDATE.EVENTS",
    "$JS.API.STREAM.DELETE.EVENTS",
    "$JS.API.STREAM.PURGE.EVENTS",
    "$JS.API.STREAM.MSG.GET.EVENTS",
    "$JS.API.STREAM.MSG.DELETE.EVENTS",
    "$JS.API.STREAM.SNAPSHOT.EVENTS",
    "$JS.API.STREAM.RESTORE.EVENTS",
    "$JS.API.STREAM.PEER.REMOVE.EVENTS",
    "$JS.API.STREAM.LEADER.STEPDOWN.EVENTS",
    "$JS.API.DIRECT.GET.EVENTS",
    "$JS.API.CONSUMER.CREATE.EVENTS",
    "$JS.API.CONSUMER.CREATE.EVENTS.evil",
    "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.evil",
    "$JS.API.CONSUMER.DELETE.EVENTS.action",
    "$JS.API.CONSUMER.DELETE.EVENTS.metrics",
    "$JS.API.CONSUMER.PAUSE.EVENTS.action",
    "$JS.API.CONSUMER.RESET.EVENTS.action",
    "$JS.API.CONSUMER.MSG.NEXT.EVENTS.action",
    "$JS.API.CONSUMER.MSG.NEXT.EVENTS.metrics",
    "$JS.API.ACCOUNT.PURGE.APP",
    "$JS.API.META.LEADER.STEPDOWN",
    "$JS.API.SERVER.REMOVE",
    "$JS.ACK.EVENTS.action.1.2.3.4.5",
    "$JS.ACK.EVENTS.metrics.1.2.3.4.5",
    "$JS.FC.EVENTS.action.x",
    "$KV.settings.x",
    "$O.MODULES.C.x",
    "$SRV.PING",
    "$SRV.INFO.identity",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.PING.VARZ",
    "$SYS.REQ.SERVER.x.RELOAD",
    "$SYS.REQ.ACCOUNT.APP.CONNZ",
    "$SYS.REQ.ACCOUNT.APP.CLAIMS.UPDATE",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.USER.INFO",
    "$SYS.DEBUG.SUBSCRIBERS",
    "df.work.default",
    "df.work.other",
    "df.scheduler.bell",
    "df.svc.worker-default.scheduler.run.claim",
    "df.svc.worker-other.scheduler.run.claim",
    "df.svc.scheduler.identity.principal.grant",
    "_INBOX.w.other.x",
    "$JS.API.STREAM.PURGE.WORK",
    "$JS.API.STREAM.MSG.GET.WORK",
    "$JS.API.CONSUMER.CREATE.WORK.evil",
    "$JS.API.CONSUMER.MSG.NEXT.WORK.default",
    "$JS.API.CONSUMER.MSG.NEXT.WORK.other",
    "$JS.ACK.WORK.default.1.2.3.4.5",
];

/// What a thief would listen to.
const EARS: [&str; 35] = [
    ">",
    "*",
    "*.>",
    "*.*.*.*.*",
    "df.>",
    "df.*.>",
    "df.act.>",
    "df.act.*.*.new",
    "df.up.>",
    "df.up.*.*.*",
    "df.rpc.>",
    "df.svc.>",
    "df.evt.>",
    "df.live.>",
    "df.work.>",
    "df.scheduler.>",
    "_INBOX.>",
    "_INBOX.*.>",
    "_INBOX.s.>",
    "_INBOX.s.*.>",
    "_INBOX.a.>",
    "_INBOX.w.>",
    "_INBOX.w.*.>",
    "_INBOX.w.other.>",
    "$JS.>",
    "$JS.API.>",
    "$JS.API.CONSUMER.MSG.NEXT.>",
    "$JS.ACK.>",
    "$JS.EVENT.>",
    "$SYS.>",
    "$SYS.REQ.>",
    "$SYS.REQ.USER.AUTH",
    "$SYS.ACCOUNT.>",
    "$SRV.>",
    "$SRV.PING.>",
];

/// A subject that a pattern covers.
fn concrete(pattern: &str) -> String {
    pattern.replace('*', "probe").replace('>', "probe.probe")
}

/// Whether the server takes a subscription for one that a pattern allows. It holds the one against the other as if it
/// were a subject: so a `*` at the end allows a `>` there, too, which brings what lies below.
fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(expected), Some(token)) if expected == token => {}
            _ => return false,
        }
    }
}

/// What agents may say and hear, as patterns.
fn agents() -> (Vec<String>, Vec<String>) {
    let (org, machine) = (OrgId::new(), MachineId::new());
    (agent_publish(org, machine), agent_subscribe(org, machine))
}

/// Every subject that somebody or nobody may publish, but not this user.
fn forbidden_subjects(users: &[User], user: &User) -> BTreeSet<String> {
    let (agents_say, agents_hear) = agents();
    let rows = users
        .iter()
        .flat_map(|other| other.publish.iter().chain(&other.subscribe));
    let all = rows
        .cloned()
        .chain(WISHES.map(ToOwned::to_owned))
        .chain(agents_say)
        .chain(agents_hear);
    let subjects = all.map(|pattern| concrete(&pattern));
    subjects
        .filter(|subject| !user.publish.iter().any(|pattern| matches(pattern, subject)))
        .collect()
}

/// Every pattern that somebody or nobody may subscribe, but not this user.
fn forbidden_patterns(users: &[User], user: &User) -> BTreeSet<String> {
    let (agents_say, agents_hear) = agents();
    let rows = users
        .iter()
        .flat_map(|other| other.subscribe.iter().chain(&other.publish));
    let all = rows
        .cloned()
        .chain(EARS.map(ToOwned::to_owned))
        .chain(agents_say)
        .chain(agents_hear);
    all.filter(|pattern| !user.subscribe.iter().any(|wide| covers(wide, pattern)))
        .collect()
}

async fn connect(nats: &Nats, user: &User) -> Hostile {
    Hostile::with_seed(&nats.url(), &nats.seed(&user.name))
        .await
        .unwrap()
}

/// Every user, hearing everything that it may: what others do shows here.
struct Watch<'a>(Vec<(&'a User, Hostile)>);

impl<'a> Watch<'a> {
    async fn over(nats: &Nats, users: &'a [User]) -> Self {
        let mut all = Vec::new();
        for user in users {
            let mut watch = connect(nats, user).await;
            for pattern in &user.subscribe {
                watch.subscribe(pattern, None).await;
            }
            watch.sync().await;
            assert_eq!(
                watch.take_errors(),
                Vec::<String>::new(),
                "{} may not hear its own row",
                user.name
            );
            all.push((user, watch));
        }
        Self(all)
    }

    /// What each heard of this test's own words: user, subject, word.
    async fn heard(&mut self) -> Vec<(&'a User, String, String)> {
        let mut all = Vec::new();
        for (user, watch) in &mut self.0 {
            watch.sync().await;
            for message in watch.take_messages() {
                let word = String::from_utf8_lossy(&message.payload).into_owned();
                if word.starts_with("allowed ") || word.starts_with("forbidden ") {
                    all.push((*user, message.subject, word));
                }
            }
        }
        all
    }
}

/// The streams and their consumers, as the bootstrap user sees them.
async fn jetstream(nats: &Nats) -> Value {
    let bootstrap = contract::permissions::user("bootstrap").unwrap();
    let mut bootstrap = connect(nats, &bootstrap).await;
    bootstrap.subscribe("_INBOX.s.bootstrap.>", None).await;
    let inbox = "_INBOX.s.bootstrap.probe";
    let streams = bootstrap.request("$JS.API.STREAM.NAMES", inbox, b"").await;
    let consumers = bootstrap
        .request("$JS.API.CONSUMER.NAMES.EVENTS", inbox, b"")
        .await;
    let workers = bootstrap
        .request("$JS.API.CONSUMER.NAMES.WORK", inbox, b"")
        .await;
    let info = bootstrap
        .request("$JS.API.STREAM.INFO.EVENTS", inbox, b"")
        .await;
    json!({ "streams": streams["streams"], "consumers": consumers["consumers"], "workers": workers["consumers"], "messages": info["state"]["last_seq"], "config": info["config"] })
}

/// The server refused this, all of this, and nothing else.
fn same(user: &User, refused: &[String], expected: Vec<String>) {
    let missing: Vec<_> = expected
        .iter()
        .filter(|word| !refused.contains(word))
        .collect();
    let more: Vec<_> = refused
        .iter()
        .filter(|word| !expected.contains(word))
        .collect();
    assert!(
        missing.is_empty() && more.is_empty() && refused.len() == expected.len(),
        "{}: not refused {missing:#?}, refused {more:#?}",
        user.name
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_tried_against_the_permission_table() {
    let nats = Nats::start_with_pools(POOLS).await;
    let users = users(&domain::job::pools(POOLS).unwrap());
    let mut watch = Watch::over(&nats, &users).await;
    let before = jetstream(&nats).await;
    assert_eq!(before["streams"], json!(["EVENTS", "WORK"]));
    assert_eq!(before["consumers"], json!(["action", "metrics"]));
    assert_eq!(before["workers"], json!(["default", "gpu"]));

    let (mut allowed, mut denied_publish, mut denied_subscribe, mut events) = (0, 0, 0, 0);
    for user in &users {
        let mut thief = connect(&nats, user).await;
        for pattern in &user.publish {
            thief
                .publish(
                    &concrete(pattern),
                    None,
                    format!("allowed {}", user.name).as_bytes(),
                )
                .await;
            events += i32::from(user.account == Account::App && pattern.starts_with("df.evt."));
        }
        thief.sync().await;
        assert_eq!(
            thief.take_errors(),
            Vec::<String>::new(),
            "{} may not say its own row",
            user.name
        );
        allowed += user.publish.len() + user.subscribe.len();

        let subjects = forbidden_subjects(&users, user);
        for subject in &subjects {
            thief
                .publish(subject, None, format!("forbidden {}", user.name).as_bytes())
                .await;
        }
        thief.sync().await;
        same(
            user,
            &thief.take_errors(),
            subjects.iter().map(|subject| no_publish(subject)).collect(),
        );
        denied_publish += subjects.len();

        let patterns = forbidden_patterns(&users, user);
        for pattern in &patterns {
            thief.subscribe(pattern, None).await;
            thief.subscribe(pattern, Some("identity")).await;
        }
        thief.sync().await;
        let refusals = patterns.iter().flat_map(|pattern| {
            [
                no_subscribe(pattern, None),
                no_subscribe(pattern, Some("identity")),
            ]
        });
        same(user, &thief.take_errors(), refusals.collect());
        denied_subscribe += 2 * patterns.len();
        assert!(!thief.is_closed());
    }

    // What was allowed arrived, at everybody who may hear it; what was forbidden, at nobody.
    let heard = watch.heard().await;
    for sender in &users {
        for subject in sender
            .publish
            .iter()
            .map(|pattern| concrete(pattern))
            .filter(|subject| subject.starts_with("df."))
        {
            for (listener, _) in watch
                .0
                .iter()
                .filter(|(listener, _)| listener.account == sender.account)
            {
                let expected = listener
                    .subscribe
                    .iter()
                    .any(|pattern| matches(pattern, &subject));
                let word = format!("allowed {}", sender.name);
                let came = heard.iter().any(|(user, at, said)| {
                    user.name == listener.name && *at == subject && *said == word
                });
                assert_eq!(
                    came, expected,
                    "{} says {subject} to {}",
                    sender.name, listener.name
                );
            }
        }
    }
    let astray: Vec<_> = heard
        .iter()
        .filter(|(_, _, word)| word.starts_with("forbidden"))
        .collect();
    assert!(astray.is_empty(), "{astray:?}");
    let events = before["messages"].as_i64().unwrap() + i64::from(events);
    let after = testkit::eventually(
        "the stream has what was allowed, and no more",
        Duration::from_secs(5),
        || async {
            let now = jetstream(&nats).await;
            (now["messages"].as_i64() == Some(events)).then_some(now)
        },
    )
    .await;
    for part in ["streams", "consumers", "workers", "config"] {
        assert_eq!(after[part], before[part]);
    }
    let denied = denied_publish + denied_subscribe;
    println!(
        "permissions: {} keys, {allowed} allowed, {denied} denied ({denied_publish} publish, {denied_subscribe} subscribe)",
        users.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_aimed_at_another_services_ear_is_not_believed() {
    // The gateway may make consumers on EVENTS, and a consumer delivers wherever it is told to: with the event's own
    // subject, by which the bus library knows that it was not sent there (law L5).
    let nats = Nats::start().await;
    let bus = nats.bus("action").await;
    let service = bus::Service::start(&bus, "action", None).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let answer = move |_: bus::Context, _: ActionGet| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Err(Problem::not_found("action")))
    };
    service.answer(answer).await.unwrap();
    let mut ear = bus.subscribe("_INBOX.s.action.ear").await.unwrap();
    bus.flush().await.unwrap();

    let mut gateway = connect(&nats, &contract::permissions::user("gateway").unwrap()).await;
    gateway.subscribe("_INBOX.s.gateway.>", None).await;
    let targets = [
        (gateway_subject::<ActionGet>(), Some("action")),
        ("_INBOX.s.action.ear".to_owned(), None),
    ];
    for (number, (target, group)) in targets.into_iter().enumerate() {
        let name = format!("evil{number}");
        let mut config = json!({ "name": name, "deliver_subject": target, "ack_policy": "none", "deliver_policy": "all", "inactive_threshold": 60_000_000_000_i64 });
        if let Some(group) = group {
            config["deliver_group"] = group.into();
        }
        let request = json!({ "stream_name": "EVENTS", "config": config }).to_string();
        let made = gateway
            .request(
                &format!("$JS.API.CONSUMER.CREATE.EVENTS.{name}"),
                "_INBOX.s.gateway.made",
                request.as_bytes(),
            )
            .await;
        assert!(made["error"].is_null(), "{made}");
    }
    // An event that is a good question, too.
    let org = OrgId::new();
    let question = Envelope::new(
        1,
        Some(org),
        ActionGet {
            action_id: ActionId::new(),
        },
    );
    let question = serde_json::to_vec(&question).unwrap();
    let mut identity = connect(&nats, &contract::permissions::user("identity").unwrap()).await;
    identity
        .publish(
            &format!("df.evt.{}.machine.enrolled", org.token()),
            None,
            &question,
        )
        .await;
    identity.sync().await;
    let heard = tokio::time::timeout(Duration::from_millis(500), ear.next()).await;
    assert!(heard.is_err(), "{heard:?}");
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    for name in ["evil0", "evil1"] {
        let info = gateway
            .request(
                &format!("$JS.API.CONSUMER.INFO.EVENTS.{name}"),
                "_INBOX.s.gateway.info",
                b"",
            )
            .await;
        assert_eq!(
            info["delivered"]["consumer_seq"], 1,
            "the server did deliver it: {info}"
        );
    }
    service.stop().await;
}
