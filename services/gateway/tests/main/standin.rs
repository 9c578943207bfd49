//! Stand-in owners: they answer by the contract, on a real bus, as their own users.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bus::{Bus, GrantVerifier, Service};
use contract::action::{
    Action, ActionBatch, ActionCancel, ActionCreate, ActionFanOut, ActionGet, ActionList,
    ActionPage,
};
use contract::audit::{AuditList, AuditRefused};
use contract::grant::{Grant, ISSUER, Jwk, Jwks, PrincipalKind};
use contract::identity::{
    ActionKeyFingerprints, ActionKeysGet, Challenge, Challenged, Done, Enroll, Enrolled, Exchange,
    Exchanged, JwksGet, KeyStanding, Login, Logout, MachineEdit, MachineLabel, MachineRelease,
    MachineRevoke, Me, Principal, Refresh, ReleaseAccept, Standing, StandingGet, Tokens,
};
use contract::legacy::{LegacyQueue, LegacyReport, LegacyResult};
use contract::metrics::{Machine, MachineGet, MachineList, MachinePage, SampleList, SamplePage};
use contract::{Problem, ProblemKind};
use domain::access::{LEGACY_SCOPES, Role, Scopes};
use domain::action::{ActionKind, ActionStatus, Payload};
use domain::labels::{LabelError, Selector};
use domain::{ActionId, CredentialId, MachineId, OrgId, Timestamp};
use nkeys::KeyPair;
use uuid::Uuid;

use crate::messages;

#[path = "standin/audit.rs"]
pub mod audit;
#[path = "standin/edit.rs"]
mod edit;
#[path = "standin/legacy.rs"]
mod legacy;
#[path = "standin/people.rs"]
mod people;
#[path = "standin/scheduler.rs"]
mod scheduler;

pub use scheduler::{Scheduler, told};

/// Machines by which a test chooses what the owner does.
pub const ELSEWHERE: &str = "00000000-0000-7000-8000-000000000404";
pub const SLOW: &str = "00000000-0000-7000-8000-000000000503";
pub const BUSY: &str = "00000000-0000-7000-8000-000000000429";
pub const HERE: &str = "00000000-0000-7000-8000-000000000200";
/// Actions likewise.
pub const DELIVERED: &str = "00000000-0000-7000-8000-000000000202";
pub const ENDED: &str = "00000000-0000-7000-8000-000000000409";
/// Selectors likewise.
pub const SLOW_ONES: &str = "speed=slow";
pub const NO_ONES: &str = "env=none";

/// The change that every edit is.
pub const CHANGE: i64 = 77;

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

/// Identity's memory, and what a test turns.
pub struct Identity {
    key: Mutex<KeyPair>,
    pub org: OrgId,
    /// The person behind every access token.
    pub person: Uuid,
    pub exchanges: AtomicUsize,
    pub delay: Mutex<Duration>,
    pub lifetime: Mutex<chrono::Duration>,
    pub refused: Mutex<HashSet<String>>,
    pub role: Mutex<Role>,
    pub ids: Mutex<HashMap<String, CredentialId>>,
    pub addresses: Mutex<Vec<String>>,
    pub edits: Mutex<Vec<MachineEdit>>,
    pub labels: Mutex<Vec<MachineLabel>>,
    /// What was asked about people, organisations, keys and tokens, as it travelled.
    pub asked: Mutex<Vec<(&'static str, serde_json::Value)>>,
    pub lists: Mutex<Vec<AuditList>>,
    pub origins: Mutex<Vec<Option<IpAddr>>>,
    /// What the gateway itself refused: with which credential, and from where.
    pub turned_away: Mutex<Vec<(CredentialId, Option<IpAddr>, AuditRefused)>>,
}

impl Identity {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            key: Mutex::new(KeyPair::new_user()),
            org: OrgId::new(),
            person: Uuid::now_v7(),
            exchanges: AtomicUsize::new(0),
            delay: Mutex::default(),
            lifetime: Mutex::new(chrono::Duration::seconds(300)),
            refused: Mutex::default(),
            role: Mutex::new(Role::Owner),
            ids: Mutex::default(),
            addresses: Mutex::default(),
            edits: Mutex::default(),
            labels: Mutex::default(),
            asked: Mutex::default(),
            lists: Mutex::default(),
            origins: Mutex::default(),
            turned_away: Mutex::default(),
        })
    }

    pub fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    pub fn credential(&self, credential: &str) -> CredentialId {
        *self
            .ids
            .lock()
            .unwrap()
            .entry(credential.to_owned())
            .or_insert_with(CredentialId::new)
    }

    pub fn jwks(&self) -> Jwks {
        let (_, public) = nkeys::from_public_key(&self.key.lock().unwrap().public_key()).unwrap();
        let text = |text: &str| text.to_owned();
        Jwks {
            keys: vec![Jwk {
                kty: text("OKP"),
                crv: text("Ed25519"),
                x: URL_SAFE_NO_PAD.encode(public),
                kid: text("test"),
                alg: text("EdDSA"),
                usage: text("sig"),
            }],
        }
    }

    /// From now on grants are signed with another key.
    pub fn rotate(&self) {
        *self.key.lock().unwrap() = KeyPair::new_user();
    }

    fn exchange(&self, credential: &str) -> Result<Exchanged, Problem> {
        self.exchanges.fetch_add(1, Ordering::SeqCst);
        let good = ["dfa_good", "dfk_good", "dfl_good"]
            .iter()
            .any(|good| credential.starts_with(good));
        let legacy = credential.starts_with("dfl_");
        let networks = match credential.rsplit_once('_') {
            Some((_, "elsewhere")) => Some(vec!["192.0.2.0/24".to_owned()]),
            Some((_, "anywhere")) => Some(vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()]),
            _ => None,
        };
        if !good || self.refused.lock().unwrap().contains(credential) {
            return Err(Problem::new(
                ProblemKind::Unauthenticated,
                "the credential is not accepted",
            ));
        }
        let now = Timestamp::now();
        let expires_at = now.plus(*self.lifetime.lock().unwrap());
        let role = *self.role.lock().unwrap();
        let id = self.credential(credential);
        let person = credential.starts_with("dfa_");
        let grant = Grant {
            iss: ISSUER.into(),
            org: self.org,
            sub: if person { self.person } else { id.0 },
            kind: if person {
                PrincipalKind::User
            } else {
                PrincipalKind::ApiKey
            },
            role,
            scopes: if legacy {
                Scopes::of_legacy_key(LEGACY_SCOPES).unwrap()
            } else {
                role.scopes()
            },
            aud: ["identity", "action", "scheduler", "metrics"]
                .map(Into::into)
                .to_vec(),
            credential: id,
            iat: now.millis() / 1_000,
            exp: expires_at.millis() / 1_000,
        };
        Ok(Exchanged {
            grant: self.sign(&grant),
            credential: id,
            org: self.org,
            expires_at,
            networks,
            legacy,
        })
    }

    fn sign(&self, grant: &Grant) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"JWT","kid":"test"}"#);
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(grant).unwrap());
        let signed = format!("{header}.{claims}");
        let signature = self.key.lock().unwrap().sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub async fn answer(self: &Arc<Self>, bus: &Bus) -> Service {
        let verifier = GrantVerifier::fixed(&self.jwks(), "identity");
        let service = Service::start(bus, "identity", Some(verifier))
            .await
            .unwrap();
        let this = self.clone();
        let exchange = move |_, request: Exchange| {
            let this = this.clone();
            async move {
                let delay = *this.delay.lock().unwrap();
                let answer = this.exchange(&request.credential);
                tokio::time::sleep(delay).await;
                answer
            }
        };
        service.answer(exchange).await.unwrap();
        service
            .answer(move |_, ActionKeysGet {}| {
                std::future::ready(Ok(ActionKeyFingerprints {
                    fingerprints: vec!["0123abcd".to_owned()],
                }))
            })
            .await
            .unwrap();
        let jwks = self.jwks();
        service
            .answer(move |_, JwksGet {}| std::future::ready(Ok(jwks.clone())))
            .await
            .unwrap();
        let this = self.clone();
        let login = move |_, login: Login| {
            this.addresses.lock().unwrap().push(login.address.clone());
            std::future::ready(match login.password.as_str() {
                "right" => Ok(messages::tokens()),
                _ => Err(Problem::new(
                    ProblemKind::Unauthenticated,
                    "address or password is wrong",
                )),
            })
        };
        service.answer(login).await.unwrap();
        let refresh = |_, refresh: Refresh| async move {
            match refresh.refresh_token.as_str() {
                "dfr_good" => Ok::<Tokens, _>(messages::tokens()),
                _ => Err(Problem::new(
                    ProblemKind::Unauthenticated,
                    "the refresh token is not accepted",
                )),
            }
        };
        service.answer(refresh).await.unwrap();
        let logout = |ctx: bus::Context, Logout {}| async move {
            ctx.grant()?;
            Ok(Done {})
        };
        service.answer(logout).await.unwrap();
        let me = |ctx: bus::Context, Me {}| async move {
            let grant = ctx.grant()?;
            Ok(Principal {
                organization_id: grant.org,
                role: grant.role,
                ..messages::principal()
            })
        };
        service.answer(me).await.unwrap();
        service
            .answer(|_, Challenge {}| async { Ok::<Challenged, _>(messages::challenged()) })
            .await
            .unwrap();
        let standing = |_, get: StandingGet| async move {
            match get.signature.as_str() {
                "good" => Ok(Standing {
                    standing: KeyStanding::Revoked,
                }),
                _ => Err(Problem::new(
                    ProblemKind::Forbidden,
                    "the signature does not fit",
                )),
            }
        };
        service.answer(standing).await.unwrap();
        let enroll = |_, enroll: Enroll| async move {
            match enroll.token.as_str() {
                "dfe_good" => Ok::<Enrolled, _>(messages::enrolled()),
                _ => Err(Problem::new(
                    ProblemKind::Forbidden,
                    "the enrolment token is used up",
                )),
            }
        };
        service.answer(enroll).await.unwrap();
        self.answer_edits(&service).await;
        self.answer_people(&service).await;
        self.answer_audit(&service).await;
        let known = |machine: MachineId| {
            if machine.0 == id(ELSEWHERE) {
                Err(Problem::not_found("machine"))
            } else {
                Ok(Done {})
            }
        };
        let revoke = move |ctx: bus::Context, revoke: MachineRevoke| async move {
            ctx.grant()?.require(domain::access::MACHINES_WRITE)?;
            known(revoke.machine_id)
        };
        service.answer(revoke).await.unwrap();
        let release = move |ctx: bus::Context, release: MachineRelease| async move {
            ctx.grant()?.require(domain::access::MACHINES_WRITE)?;
            if release.accept == ReleaseAccept::New {
                let text = "the key with which it came has no room";
                return Err(Problem::new(ProblemKind::Conflict, text));
            }
            known(release.machine_id)
        };
        service.answer(release).await.unwrap();
        bus.settled().await;
        service
    }
}

/// Action's memory.
#[derive(Default)]
pub struct Actions {
    pub created: Mutex<Vec<ActionCreate>>,
    pub fanned_out: Mutex<Vec<ActionFanOut>>,
    pub listed: Mutex<Vec<ActionList>>,
    pub organizations: Mutex<HashSet<OrgId>>,
    pub legacy_queued: Mutex<Vec<LegacyQueue>>,
    pub legacy_results: Mutex<Vec<LegacyResult>>,
    by_key: Mutex<HashMap<String, (ActionCreate, Action)>>,
}

impl Actions {
    fn create(&self, create: &ActionCreate) -> Result<Action, Problem> {
        let kind: ActionKind = create
            .kind
            .parse()
            .map_err(|error| Problem::invalid("kind", error))?;
        Payload::parse(kind, &create.payload)
            .map_err(|error| Problem::invalid(error.path, error.message))?;
        match create.machine_id.0 {
            machine if machine == id(ELSEWHERE) => return Err(Problem::not_found("machine")),
            machine if machine == id(BUSY) => {
                let problem = Problem::new(
                    ProblemKind::RateLimited,
                    "too many actions for this machine",
                );
                return Err(Problem {
                    retry_after_ms: Some(6_500),
                    ..problem
                });
            }
            _ => {}
        }
        let made = Action {
            id: ActionId::new(),
            machine_id: create.machine_id,
            kind,
            payload: create.payload.clone(),
            ..messages::action_queued()
        };
        let Some(key) = &create.idempotency_key else {
            return Ok(made);
        };
        let mut by_key = self.by_key.lock().unwrap();
        let (first, action) = by_key
            .entry(key.clone())
            .or_insert_with(|| (create.clone(), made));
        if first == create {
            Ok(action.clone())
        } else {
            Err(Problem::new(
                ProblemKind::Conflict,
                "this idempotency key was used for another body",
            ))
        }
    }

    fn fan_out(fan_out: &ActionFanOut) -> Result<ActionBatch, Problem> {
        let kind: ActionKind = fan_out
            .kind
            .parse()
            .map_err(|error| Problem::invalid("kind", error))?;
        let selector: Selector = fan_out
            .selector
            .parse()
            .map_err(|error: LabelError| Problem::invalid(error.path, error.message))?;
        let machines: &[&str] = match selector.to_string().as_str() {
            "" => return Err(Problem::invalid("selector", "must not be empty")),
            NO_ONES => &[],
            _ => &[HERE, DELIVERED],
        };
        let items = machines
            .iter()
            .map(|machine| messages::action_summary(id(machine).into(), kind));
        Ok(ActionBatch {
            items: items.collect(),
        })
    }

    pub async fn answer(self: &Arc<Self>, bus: &Bus, jwks: &Jwks) -> Service {
        let verifier = GrantVerifier::fixed(jwks, "action");
        let service = Service::start(bus, "action", Some(verifier)).await.unwrap();
        let this = self.clone();
        let create = move |ctx: bus::Context, create: ActionCreate| {
            let this = this.clone();
            async move {
                let grant = ctx.grant()?;
                grant.require(domain::access::ACTIONS_WRITE)?;
                this.organizations.lock().unwrap().insert(grant.org);
                this.created.lock().unwrap().push(create.clone());
                if create.machine_id.0 == id(SLOW) {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                this.create(&create)
            }
        };
        service.answer(create).await.unwrap();
        let this = self.clone();
        let fan_out = move |ctx: bus::Context, fan_out: ActionFanOut| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(domain::access::ACTIONS_WRITE)?;
                this.fanned_out.lock().unwrap().push(fan_out.clone());
                if fan_out.selector == SLOW_ONES {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                Self::fan_out(&fan_out)
            }
        };
        service.answer(fan_out).await.unwrap();
        let this = self.clone();
        let list = move |ctx: bus::Context, list: ActionList| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(domain::access::ACTIONS_READ)?;
                this.listed.lock().unwrap().push(list);
                Ok(ActionPage {
                    items: vec![messages::action_ended()],
                    next_cursor: Some("next".into()),
                })
            }
        };
        service.answer(list).await.unwrap();
        let get = |ctx: bus::Context, get: ActionGet| async move {
            ctx.grant()?.require(domain::access::ACTIONS_READ)?;
            if get.action_id.0 == id(ELSEWHERE) {
                return Err(Problem::not_found("action"));
            }
            Ok(Action {
                id: get.action_id,
                ..messages::action_ended()
            })
        };
        service.answer(get).await.unwrap();
        let cancel = |ctx: bus::Context, cancel: ActionCancel| async move {
            ctx.grant()?.require(domain::access::ACTIONS_WRITE)?;
            let status = match cancel.action_id.0 {
                action if action == id(ENDED) => {
                    return Err(Problem::new(ProblemKind::Conflict, "the action has ended"));
                }
                action if action == id(DELIVERED) => ActionStatus::Delivered,
                _ => ActionStatus::Cancelled,
            };
            Ok(Action {
                id: cancel.action_id,
                status,
                cancel_requested: true,
                ..messages::action_queued()
            })
        };
        service.answer(cancel).await.unwrap();
        self.answer_legacy(&service).await;
        bus.settled().await;
        service
    }
}

/// Metrics' memory.
#[derive(Default)]
pub struct Metrics {
    pub machines: Mutex<Vec<MachineList>>,
    pub gets: Mutex<Vec<MachineGet>>,
    pub samples: Mutex<Vec<SampleList>>,
    pub legacy_reports: Mutex<Vec<LegacyReport>>,
    /// Full pages of the fleet, whatever was reported.
    pub legacy_pages: AtomicUsize,
}

impl Metrics {
    pub async fn answer(self: &Arc<Self>, bus: &Bus, jwks: &Jwks) -> Service {
        let verifier = GrantVerifier::fixed(jwks, "metrics");
        let service = Service::start(bus, "metrics", Some(verifier))
            .await
            .unwrap();
        let this = self.clone();
        let list = move |ctx: bus::Context, list: MachineList| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(domain::access::MACHINES_READ)?;
                this.machines.lock().unwrap().push(list);
                Ok(MachinePage {
                    items: vec![messages::machine()],
                    next_cursor: None,
                })
            }
        };
        service.answer(list).await.unwrap();
        let this = self.clone();
        let get = move |ctx: bus::Context, get: MachineGet| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(domain::access::MACHINES_READ)?;
                this.gets.lock().unwrap().push(get.clone());
                if get.machine_id.0 == id(ELSEWHERE) {
                    return Err(Problem::not_found("machine"));
                }
                if get.machine_id.0 == id(SLOW) {
                    return Err(Problem::unavailable("identity is away"));
                }
                Ok(Machine {
                    id: get.machine_id,
                    ..messages::machine()
                })
            }
        };
        service.answer(get).await.unwrap();
        let this = self.clone();
        let samples = move |ctx: bus::Context, list: SampleList| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(domain::access::MACHINES_READ)?;
                this.samples.lock().unwrap().push(list);
                Ok(SamplePage {
                    items: vec![messages::sample()],
                    next_cursor: None,
                })
            }
        };
        service.answer(samples).await.unwrap();
        self.answer_legacy(&service).await;
        bus.settled().await;
        service
    }
}
