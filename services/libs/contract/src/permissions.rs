//! Who may say and hear what on the bus: the one table. From it, and from the list of pools, come the server's configuration
//! ([`crate::server_config`]), and the rights in every agent's JWT ([`agent_permissions`]); a test tries each
//! identity against it on a real server.

use domain::job::is_pool;
use domain::{MachineId, OrgId};
use serde_json::{Value, json};

use crate::streams::WORK;
use crate::subject::{Up, act_all, agent_inbox, up};
use crate::work;

/// The account of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// Everything that DashFleet says.
    App,
    /// The auth callout.
    Auth,
    /// The server's own: connections, kicks.
    Sys,
}

impl Account {
    /// The account's name in the server's configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "APP",
            Self::Auth => "AUTH",
            Self::Sys => "SYS",
        }
    }
}

/// A service's user and its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name: service, and account where that is not APP, or pool where it is a worker's.
    pub name: String,
    /// Its account.
    pub account: Account,
    /// What it may publish; patterns.
    pub publish: Vec<String>,
    /// What it may subscribe; patterns.
    pub subscribe: Vec<String>,
    /// Whether it may answer a request at whatever reply subject it names. Only where no agent can ask.
    pub allow_responses: bool,
}

impl User {
    /// The variable that carries its public key into the server's configuration.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "DASHFLEET_NKEY_{}",
            self.name.to_uppercase().replace('-', "_")
        )
    }

    /// Where its seed lies in the keys folder: `<service>/nats[-<account>].nk`, `worker/nats-<pool>.nk`.
    #[must_use]
    pub fn seed_file(&self) -> String {
        match self.name.split_once('-') {
            Some((service, account)) => format!("{service}/nats-{account}.nk"),
            None => format!("{}/nats.nk", self.name),
        }
    }
}

/// A row of the table: a [`User`] that every installation has.
struct Row {
    name: &'static str,
    account: Account,
    publish: &'static [&'static str],
    subscribe: &'static [&'static str],
    allow_responses: bool,
}

impl Row {
    fn user(&self) -> User {
        let owned =
            |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        User {
            name: self.name.to_owned(),
            account: self.account,
            publish: owned(self.publish),
            subscribe: owned(self.subscribe),
            allow_responses: self.allow_responses,
        }
    }
}

/// The users that do not depend on the pools: each service's but the workers'.
const SERVICES: &[Row] = &[
    Row {
        name: "bootstrap",
        account: Account::App,
        publish: &["$JS.API.INFO", "$JS.API.STREAM.>", "$JS.API.CONSUMER.>"],
        subscribe: &["_INBOX.s.bootstrap.>"],
        allow_responses: false,
    },
    Row {
        name: "gateway",
        account: Account::App,
        publish: &[
            "df.rpc.identity.>",
            "df.rpc.action.>",
            "df.rpc.scheduler.>",
            "df.rpc.metrics.>",
            "df.rpc.worker.*.route",
            crate::rate::SUBJECT,
            "$JS.API.CONSUMER.CREATE.EVENTS.>",
            "$JS.API.CONSUMER.INFO.EVENTS.>",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS.>",
            "$JS.API.CONSUMER.DELETE.EVENTS.>",
            "$JS.API.STREAM.INFO.EVENTS",
        ],
        subscribe: &[
            "df.live.>",
            "df.evt.>",
            crate::rate::SUBJECT,
            "_INBOX.s.gateway.>",
        ],
        allow_responses: false,
    },
    Row {
        name: "identity",
        account: Account::App,
        publish: &[
            "_INBOX.s.>",
            "df.evt.*.user.*",
            "df.evt.*.key.*",
            "df.evt.*.machine.*",
            "df.evt.*.organization.*",
            // Its copies of what it signed, to verify the audit.
            "df.svc.identity.action.audit.*",
        ],
        subscribe: &[
            "df.rpc.identity.>",
            "df.svc.*.identity.>",
            "df.evt.*.key.*",
            "df.evt.*.machine.*",
            "$SRV.*",
            "$SRV.*.identity",
            "$SRV.*.identity.*",
            "_INBOX.s.identity.>",
        ],
        allow_responses: false,
    },
    Row {
        name: "identity-auth",
        account: Account::Auth,
        publish: &[],
        subscribe: &["$SYS.REQ.USER.AUTH"],
        allow_responses: true,
    },
    Row {
        name: "identity-sys",
        account: Account::Sys,
        publish: &["$SYS.REQ.SERVER.*.KICK", "$SYS.REQ.SERVER.PING.CONNZ"],
        subscribe: &["_INBOX.s.identity.>"],
        allow_responses: false,
    },
    Row {
        name: "action",
        account: Account::App,
        publish: &[
            "df.act.>",
            "df.evt.*.action.*",
            "df.live.*.action.*",
            "df.svc.action.identity.>",
            "df.svc.action.metrics.>",
            "_INBOX.s.>",
            "_INBOX.a.>",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS.action",
            "$JS.ACK.EVENTS.action.>",
        ],
        subscribe: &[
            "df.up.*.*.accepted",
            "df.up.*.*.started",
            "df.up.*.*.result",
            "df.up.*.*.sync",
            "df.up.*.*.output.*",
            "df.rpc.action.>",
            "df.svc.*.action.>",
            "$SRV.*",
            "$SRV.*.action",
            "$SRV.*.action.*",
            "_INBOX.s.action.>",
        ],
        allow_responses: false,
    },
    Row {
        name: "scheduler",
        account: Account::App,
        publish: &[
            "df.work.*",
            "df.evt.*.execution.*",
            "df.evt.*.job.*",
            "df.evt.*.execution-settings.*",
            "df.live.*.execution.*",
            "df.svc.scheduler.identity.>",
            "df.svc.scheduler.action.>",
            // To its own replicas: something waits, something was taken.
            crate::work::BELL,
            "_INBOX.s.>",
            "_INBOX.w.>",
        ],
        subscribe: &[
            "df.rpc.scheduler.>",
            "df.svc.*.scheduler.>",
            crate::work::BELL,
            "$SRV.*",
            "$SRV.*.scheduler",
            "$SRV.*.scheduler.*",
            "_INBOX.s.scheduler.>",
        ],
        allow_responses: false,
    },
    Row {
        name: "metrics",
        account: Account::App,
        publish: &[
            "df.evt.*.machine.*",
            "df.evt.*.alert.*",
            "df.live.*.machine.*",
            "df.live.*.sample.*",
            "df.svc.metrics.identity.>",
            "_INBOX.s.>",
            "_INBOX.a.>",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS.metrics",
            "$JS.ACK.EVENTS.metrics.>",
        ],
        subscribe: &[
            "df.up.*.*.metrics",
            "df.up.*.*.inventory",
            "df.up.*.*.stopping",
            "df.rpc.metrics.>",
            "df.svc.*.metrics.>",
            "$SRV.*",
            "$SRV.*.metrics",
            "$SRV.*.metrics.*",
            "_INBOX.s.metrics.>",
        ],
        allow_responses: false,
    },
    Row {
        name: "metrics-sys",
        account: Account::Sys,
        publish: &["$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.STATSZ"],
        subscribe: &[
            "$SYS.ACCOUNT.APP.CONNECT",
            "$SYS.ACCOUNT.APP.DISCONNECT",
            "$SYS.SERVER.*.SHUTDOWN",
            "$SYS.SERVER.*.STATSZ",
            "_INBOX.s.metrics.>",
        ],
        allow_responses: false,
    },
];

/// The user of a pool's workers; its keys and its rights are no other pool's.
fn worker(pool: &str) -> User {
    let (caller, stream) = (work::caller(pool), WORK.name);
    User {
        publish: vec![
            format!("df.svc.{caller}.scheduler.run.*"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{pool}"),
            format!("$JS.ACK.{stream}.{pool}.>"),
        ],
        subscribe: vec![format!("{}.>", work::inbox(pool))],
        name: caller,
        account: Account::App,
        allow_responses: false,
    }
}

/// Every user, where these pools of workers are: the services', then each pool's. Agents are not here: their rights are
/// made by [`agent_permissions`].
#[must_use]
pub fn users(pools: &[String]) -> Vec<User> {
    let workers = pools.iter().map(|pool| worker(pool));
    SERVICES.iter().map(Row::user).chain(workers).collect()
}

/// The user of this name; a worker's, whatever its pool.
#[must_use]
pub fn user(name: &str) -> Option<User> {
    match work::pool_of(name) {
        Some(pool) => is_pool(pool).then(|| worker(pool)),
        None => SERVICES.iter().find(|row| row.name == name).map(Row::user),
    }
}

/// The most subscriptions of an agent, as its JWT says. (nats-server 2.15 does not apply it to whom a callout admits:
/// [`crate::server_config::MAX_SUBSCRIPTIONS`] does.)
pub const AGENT_SUBSCRIPTIONS_MAX: u32 = 8;

/// What an agent may publish: its own `df.up` words.
#[must_use]
pub fn agent_publish(org: OrgId, machine: MachineId) -> Vec<String> {
    let all = up(org, machine, Up::Metrics);
    let prefix = all.trim_end_matches(Up::Metrics.as_str());
    vec![format!("{prefix}>")]
}

/// What an agent may subscribe: its own orders and its own inbox.
#[must_use]
pub fn agent_subscribe(org: OrgId, machine: MachineId) -> Vec<String> {
    vec![
        act_all(org, machine),
        format!("{}.>", agent_inbox(org, machine)),
    ]
}

/// The `nats` part of an agent's user JWT (NATS JWT version 2).
#[must_use]
pub fn agent_permissions(org: OrgId, machine: MachineId) -> Value {
    json!({
        "pub": { "allow": agent_publish(org, machine) },
        "sub": { "allow": agent_subscribe(org, machine) },
        "subs": AGENT_SUBSCRIPTIONS_MAX,
        "data": -1,
        "payload": crate::agent::MESSAGE_MAX_BYTES,
        "type": "user",
        "version": 2,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing)]

    use super::*;
    use crate::streams::STREAMS;
    use crate::subject::matches;

    fn two_pools() -> Vec<User> {
        users(&domain::job::pools("default,gpu-2").expect("pools"))
    }

    #[test]
    fn no_stream_captures_a_subject_that_an_agent_may_publish() {
        let subject = up(OrgId::new(), MachineId::new(), Up::Metrics);
        for stream in STREAMS {
            for pattern in stream.subjects {
                assert!(
                    !matches(pattern, &subject),
                    "{} captures {subject}",
                    stream.name
                );
                assert!(!pattern.starts_with("df.up") && *pattern != ">" && *pattern != "df.>");
            }
        }
    }

    #[test]
    fn nobody_hears_another_inbox_and_only_action_gives_orders() {
        for user in two_pools() {
            let service = user.name.split('-').next().unwrap_or_default();
            for pattern in &user.subscribe {
                if pattern.starts_with("_INBOX") {
                    let own = match user.name.strip_prefix("worker-") {
                        Some(pool) => format!("_INBOX.w.{pool}.>"),
                        None => format!("_INBOX.s.{service}.>"),
                    };
                    assert_eq!(*pattern, own, "{}", user.name);
                }
                assert!(
                    *pattern != ">" && !pattern.starts_with("df.act"),
                    "{}",
                    user.name
                );
            }
            let orders = user
                .publish
                .iter()
                .any(|pattern| pattern.starts_with("df.act"));
            assert_eq!(orders, user.name == "action", "{}", user.name);
            let up = user
                .publish
                .iter()
                .any(|pattern| pattern.starts_with("df.up"));
            assert!(!up, "{} speaks as an agent", user.name);
        }
    }

    #[test]
    fn only_a_service_speaks_to_its_replicas() {
        let own = [
            ("gateway", crate::rate::SUBJECT),
            ("scheduler", crate::work::BELL),
        ];
        for user in two_pools() {
            for patterns in [&user.publish, &user.subscribe] {
                for (service, subject) in own {
                    let reaches = patterns.iter().any(|pattern| matches(pattern, subject));
                    assert_eq!(reaches, user.name == service, "{} {subject}", user.name);
                }
            }
        }
    }

    #[test]
    fn a_worker_says_runs_of_its_own_pool_and_nothing_else() {
        let workers: Vec<User> = two_pools()
            .into_iter()
            .filter(|user| work::pool_of(&user.name).is_some())
            .collect();
        assert_eq!(workers.len(), 2);
        for (user, pool) in workers.iter().zip(["default", "gpu-2"]) {
            assert_eq!(user.name, format!("worker-{pool}"));
            assert_eq!(
                (user.seed_file(), user.account),
                (format!("worker/nats-{pool}.nk"), Account::App)
            );
            let own = [
                format!("df.svc.worker-{pool}.scheduler.run.*"),
                format!("$JS.API.CONSUMER.MSG.NEXT.WORK.{pool}"),
                format!("$JS.ACK.WORK.{pool}.>"),
            ];
            assert_eq!(user.publish, own);
            assert_eq!(user.subscribe, [format!("_INBOX.w.{pool}.>")]);
        }
    }

    #[test]
    fn a_worker_takes_no_offer_of_another_pool_and_says_nothing_for_it() {
        let pools = ["default", "gpu-2", "gpu"];
        for (own, other) in pools
            .iter()
            .flat_map(|own| pools.map(|other| (*own, other)))
        {
            let user = user(&work::caller(own)).expect("a worker");
            let may = |patterns: &[String], subject: String| {
                let allowed = patterns.iter().any(|pattern| matches(pattern, &subject));
                assert_eq!(allowed, own == other, "{own}'s worker: {subject}");
            };
            let said = [
                format!("df.svc.worker-{other}.scheduler.run.claim"),
                format!("$JS.API.CONSUMER.MSG.NEXT.WORK.{other}"),
                format!("$JS.ACK.WORK.{other}.1.2.3.4.5"),
            ];
            for subject in said {
                may(&user.publish, subject);
            }
            may(&user.subscribe, format!("_INBOX.w.{other}.1.2"));
            // What is offered comes by the consumer alone.
            let heard = user.subscribe.iter().chain(&user.publish);
            for pattern in heard {
                assert!(!matches(pattern, &work::subject(other)), "{pattern}");
            }
        }
    }

    #[test]
    fn a_pool_changes_nothing_of_the_others() {
        let pools = |list| domain::job::pools(list).expect("pools");
        let (one, two) = (users(&pools("default")), users(&pools("default,gpu")));
        assert_eq!(two[..one.len()], one[..]);
        assert_eq!(two[one.len()..], [user("worker-gpu").expect("a user")]);
        let variables: std::collections::BTreeSet<_> = two.iter().map(User::variable).collect();
        assert_eq!(variables.len(), two.len());
        assert_eq!(user("worker-two words"), None);
    }

    #[test]
    fn an_agent_is_held_to_its_own_subjects() {
        let (org, machine, other) = (OrgId::new(), MachineId::new(), MachineId::new());
        let allowed = |patterns: &[String], subject: &str| {
            patterns.iter().any(|pattern| matches(pattern, subject))
        };
        let (publish, subscribe) = (agent_publish(org, machine), agent_subscribe(org, machine));
        assert!(allowed(&publish, &up(org, machine, Up::Result)));
        assert!(!allowed(&publish, &up(org, other, Up::Result)));
        assert!(!allowed(
            &subscribe,
            &crate::subject::act(org, other, crate::order::Verb::New)
        ));
    }
}
