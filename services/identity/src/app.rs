//! Decisions, authorization, transactions.
//!
//! People: [`login`], [`session`], [`account`] (their passwords), [`reset`] (what a link for one is worth), [`password`], [`attempts`] (limits of guessing), [`member`],
//! [`invitation`], [`mail`], [`organization`]. Keys: [`key`], [`token`], [`grant`], [`signer`], [`secret`], [`idempotency`].
//! Who acts: [`acting`]; lists: [`page`]. Machines: [`enrollment`],
//! [`machine`], [`edit`] (what operators say of them), [`legacy`] (those over HTTP), [`action_key`]. Connections: [`callout`] who may connect, [`key_set`] what it decides from, [`feed`]
//! what keeps that fresh, [`kick`] cutting what was revoked. [`audit`] who did what. Besides: [`buckets`] limits, [`bootstrap`] the
//! first organisation, [`rescue`] for whoever is locked out.

pub mod account;
pub mod acting;
pub mod action_key;
pub mod attempts;
pub mod audit;
pub mod bootstrap;
pub mod buckets;
pub mod callout;
pub mod edit;
pub mod enrollment;
pub mod feed;
pub mod grant;
pub mod idempotency;
pub mod invitation;
pub mod key;
pub mod key_set;
pub mod kick;
pub mod legacy;
pub mod login;
pub mod machine;
pub mod mail;
pub mod member;
pub mod organization;
pub mod page;
pub mod password;
pub mod rescue;
pub mod reset;
pub mod secret;
pub mod session;
pub mod signer;
pub mod token;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bus::system::SystemBus;
use bus::{Bus, Denials, GrantVerifier};
use database::{AuditRelay, GroupCommit, Pools, Relay};
use owner::Outboxes;
use runtime::Shutdown;
use tokio::sync::Notify;

use crate::app::buckets::Buckets;
use crate::app::callout::Gate;
use crate::app::feed::Feed;
use crate::app::key_set::KeySet;
use crate::app::kick::Kicker;
use crate::app::mail::Mailer;
use crate::app::password::Passwords;
use crate::app::signer::Signer;
use crate::config::MailConfig;
use crate::error::IdentityError;
use crate::metrics::Metrics;
use crate::store::Hash;
use crate::store::audit::append::Appends;

/// What the service is made of.
pub struct Parts {
    /// The database.
    pub pools: Pools,
    /// Events, the audit's entries, and what was refused.
    pub outboxes: Outboxes,
    /// Chains of the audit.
    pub audit: GroupCommit<Appends>,
    /// For how many days audit entries are kept.
    pub audit_retention_days: i32,
    /// The bus.
    pub bus: Bus,
    /// The connection that kicks.
    pub system: SystemBus,
    /// Counters.
    pub metrics: Metrics,
    /// The end.
    pub shutdown: Shutdown,
    /// Seeds of the keys that sign grants, the one in use first.
    pub jwt_seeds: Vec<String>,
    /// Where agents connect.
    pub agent_nats_urls: Vec<String>,
    /// PEM of the authority that signed those servers' certificates.
    pub agent_nats_ca: Option<String>,
    /// Where people reach the installation, for links.
    pub public_url: Option<String>,
    /// How mails leave; without it links are shown.
    pub mail: Option<MailConfig>,
}

/// The service's state; one per process, shared by all that it does.
pub struct App {
    pub(crate) pools: Pools,
    pub(crate) relay: Relay,
    pub(crate) bus: Bus,
    pub(crate) audit: GroupCommit<Appends>,
    pub(crate) audit_retention_days: i32,
    /// Woken after a commit that wrote an audit entry.
    pub audit_relay: AuditRelay,
    /// What was refused.
    pub denials: Denials,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
    pub(crate) signer: Signer,
    pub(crate) passwords: Passwords,
    pub(crate) login_failures: Buckets<Hash>,
    pub(crate) keys: KeySet,
    pub(crate) gate: Gate,
    pub(crate) feed: Feed,
    pub(crate) kicker: Kicker,
    pub(crate) mailer: Option<Mailer>,
    pub(crate) mail_wake: Notify,
    pub(crate) public_url: Option<String>,
    answering: AtomicBool,
    agent_nats_urls: Vec<String>,
    agent_nats_ca: Option<String>,
}

impl App {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`IdentityError`] when the seed cannot be used.
    pub async fn new(parts: Parts) -> Result<Arc<Self>, IdentityError> {
        Ok(Arc::new(Self {
            signer: Signer::from_seeds(&parts.jwt_seeds)?,
            passwords: Passwords::new().await?,
            login_failures: attempts::failures(),
            keys: KeySet::default(),
            gate: Gate::default(),
            feed: Feed::default(),
            kicker: Kicker::new(parts.system, parts.metrics.kicks.clone()),
            mailer: parts.mail.as_ref().map(Mailer::new).transpose()?,
            mail_wake: Notify::new(),
            public_url: parts.public_url,
            answering: AtomicBool::new(false),
            pools: parts.pools,
            relay: parts.outboxes.relay,
            bus: parts.bus,
            audit: parts.audit,
            audit_retention_days: parts.audit_retention_days,
            audit_relay: parts.outboxes.audit_relay,
            denials: parts.outboxes.denials,
            metrics: parts.metrics,
            shutdown: parts.shutdown,
            agent_nats_urls: parts.agent_nats_urls,
            agent_nats_ca: parts.agent_nats_ca,
        }))
    }

    /// Verifies grants with the keys of this very service.
    #[must_use]
    pub fn verifier(&self) -> GrantVerifier {
        GrantVerifier::fixed(&self.signer.jwks(), contract::identity::SERVICE)
    }

    /// The bus brings questions from now on.
    pub fn set_answering(&self) {
        self.answering.store(true, Ordering::Release);
    }

    /// Why the service cannot do its work, apart from its connections; `None` when it can.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        if !self.feed.database_answers() {
            return Some("the database does not answer".into());
        }
        if !self.keys.is_loaded() {
            return Some("the machines' keys are not loaded yet".into());
        }
        (!self.answering.load(Ordering::Acquire)).then(|| "nothing is answered yet".into())
    }
}
