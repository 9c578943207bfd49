//! Stand-ins for identity and metrics that speak the real protocol, and the door by which agents come.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::callout::{Admitted, CalloutKeys};
use bus::{Context, GrantVerifier, Service};
use contract::audit::{
    AuditAppend, AuditAppended, AuditCountersign, AuditEntry, AuditHeads, AuditHeadsPage,
    AuditVerdict, Head, HeadSignature,
};
use contract::grant::{Jwk, Jwks};
use contract::identity::{
    ActionKeysPut, Deployment, Done, JwksGet, MachineChanges, MachineChangesPage,
    MachineQuarantine, MachineRecord,
};
use contract::legacy::{LegacyBind, LegacyBound};
use contract::metrics::{MachineSelect, MachineSelection, Presence, PresenceGet, PresencePage};
use contract::{Problem, ProblemKind};
use domain::access::MACHINES_READ;
use domain::{DeploymentId, MachineId};
use nkeys::{KeyPair, XKey};
use testkit::Nats;

/// What the stand-ins know.
#[derive(Default)]
pub struct Feeds {
    pub machines: Vec<MachineRecord>,
    pub presence: Vec<Presence>,
    pub action_keys: Vec<String>,
    pub quarantined: Vec<MachineQuarantine>,
    pub change: i64,
    /// What every selector chooses, in every organisation.
    pub chosen: Vec<MachineId>,
    /// What metrics says instead.
    pub select_refusal: Option<Problem>,
    /// What metrics was asked.
    pub selects: Vec<MachineSelect>,
    /// What identity was asked about machines over HTTP; it refuses all.
    pub binds: Vec<LegacyBind>,
    /// The audit's entries, in their order, each as often as it came.
    pub audit: Vec<AuditEntry>,
    /// Whether identity does not take any for now, or takes them and its answer is lost.
    pub audit_away: bool,
    pub audit_answers_lost: bool,
    /// The ends of chains, and what action signed of them.
    pub heads: Vec<Head>,
    pub countersigned: Vec<HeadSignature>,
}

impl Feeds {
    fn select(&mut self, asked: MachineSelect) -> Result<MachineSelection, Problem> {
        let (cursor, limit) = (asked.cursor, asked.limit as usize);
        self.selects.push(asked);
        if let Some(refusal) = &self.select_refusal {
            return Err(refusal.clone());
        }
        let mut items = self.chosen.clone();
        items.retain(|machine| cursor.is_none_or(|cursor| *machine > cursor));
        items.sort_unstable();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().copied().filter(|_| more);
        Ok(MachineSelection { items, next_cursor })
    }
}

/// Identity and metrics. Metrics believes a grant that `jwt` signed; what is chosen is what the test says.
pub async fn stand_ins(
    nats: &Nats,
    feeds: &Arc<Mutex<Feeds>>,
    jwt: &KeyPair,
    deployment: DeploymentId,
) -> Vec<Service> {
    let identity = Service::start(&nats.bus("identity").await, "identity", None)
        .await
        .unwrap();
    let (_, raw) = nkeys::from_public_key(&jwt.public_key()).unwrap();
    let jwks = Jwks {
        keys: vec![Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: URL_SAFE_NO_PAD.encode(raw),
            kid: "test".into(),
            alg: "EdDSA".into(),
            usage: "sig".into(),
        }],
    };
    let verifier = GrantVerifier::fixed(&jwks, "metrics");
    identity
        .answer(move |_, _: JwksGet| std::future::ready(Ok(jwks.clone())))
        .await
        .unwrap();
    let state = feeds.clone();
    identity
        .answer(move |_, put: ActionKeysPut| {
            state.lock().unwrap().action_keys = put.keys;
            async move {
                Ok(Deployment {
                    deployment_id: deployment,
                })
            }
        })
        .await
        .unwrap();
    let state = feeds.clone();
    identity
        .answer(move |_, asked: MachineChanges| {
            let items = state
                .lock()
                .unwrap()
                .machines
                .iter()
                .filter(|record| record.change > asked.after)
                .cloned()
                .collect();
            async move { Ok(MachineChangesPage { items, more: false }) }
        })
        .await
        .unwrap();
    let state = feeds.clone();
    identity
        .answer(move |_, seen: MachineQuarantine| {
            state.lock().unwrap().quarantined.push(seen);
            async move { Ok(Done {}) }
        })
        .await
        .unwrap();
    let state = feeds.clone();
    identity
        .answer(move |_, asked: LegacyBind| {
            let mut state = state.lock().unwrap();
            let is_it = |record: &&MachineRecord| {
                let legacy = record.legacy.as_ref();
                legacy.is_some_and(|legacy| legacy.name == asked.name)
            };
            let known = state.machines.iter().any(|record| is_it(&record));
            state.binds.push(asked);
            let refused = if known {
                Problem::new(ProblemKind::Forbidden, "quarantined")
            } else {
                Problem::not_found("machine")
            };
            async move { Err::<LegacyBound, _>(refused) }
        })
        .await
        .unwrap();
    audit(&identity, feeds).await;
    let metrics = Service::start(&nats.bus("metrics").await, "metrics", Some(verifier))
        .await
        .unwrap();
    let state = feeds.clone();
    metrics
        .answer(move |_, asked: PresenceGet| {
            let items = state
                .lock()
                .unwrap()
                .presence
                .iter()
                .filter(|presence| presence.version > asked.after)
                .cloned()
                .collect();
            async move { Ok(PresencePage { items, more: false }) }
        })
        .await
        .unwrap();
    let state = feeds.clone();
    metrics
        .answer(move |context: Context, asked: MachineSelect| {
            let allowed = context
                .grant()
                .and_then(|grant| grant.require(MACHINES_READ));
            std::future::ready(allowed.and_then(|()| state.lock().unwrap().select(asked)))
        })
        .await
        .unwrap();
    vec![identity, metrics]
}

/// Identity, as far as the audit goes.
async fn audit(identity: &Service, feeds: &Arc<Mutex<Feeds>>) {
    let state = feeds.clone();
    identity
        .answer(move |_, append: AuditAppend| {
            let mut state = state.lock().unwrap();
            let away = Problem::unavailable("the database is away");
            let answer = if state.audit_away {
                Err(away)
            } else {
                let items = vec![AuditVerdict::Applied; append.entries.len()];
                state.audit.extend(append.entries);
                match state.audit_answers_lost {
                    true => Err(away),
                    false => Ok(AuditAppended { items }),
                }
            };
            async move { answer }
        })
        .await
        .unwrap();
    let state = feeds.clone();
    identity
        .answer(move |_, _: AuditHeads| {
            let items = state.lock().unwrap().heads.clone();
            async move { Ok(AuditHeadsPage { items, more: false }) }
        })
        .await
        .unwrap();
    let state = feeds.clone();
    identity
        .answer(move |_, given: AuditCountersign| {
            state.lock().unwrap().countersigned.extend(given.items);
            async move { Ok(Done {}) }
        })
        .await
        .unwrap();
}

/// Lets in every agent whose machine identity knows.
pub async fn callout(nats: &Nats, feeds: &Arc<Mutex<Feeds>>) {
    let bus = nats.bus("identity-auth").await;
    let seed = |name: &str| runtime::keys::read_seed(&nats.keys("identity"), name).unwrap();
    let keys = CalloutKeys {
        issuer: KeyPair::from_seed(&seed("callout-issuer.nk")).unwrap(),
        xkey: XKey::from_seed(&seed("callout-xkey.nk")).unwrap(),
    };
    let feeds = feeds.clone();
    tokio::spawn(async move {
        let decide = move |attempt: bus::callout::Attempt| {
            let known = feeds
                .lock()
                .unwrap()
                .machines
                .iter()
                .rev()
                .find(|record| record.public_key == attempt.public_key)
                .cloned();
            async move {
                known
                    .map(|record| Admitted {
                        org: record.org,
                        machine: record.machine_id,
                        lifetime: Duration::from_secs(3_600),
                    })
                    .ok_or_else(|| "unknown key".to_owned())
            }
        };
        drop(bus::callout::serve(&bus, keys, decide).await);
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
}
