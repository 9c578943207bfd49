//! What identity counts.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::error::IdentityError;

/// The metrics' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Auth callouts, by outcome.
    Callouts,
    /// How long a callout's decision takes.
    CalloutDuration,
    /// Logins, by outcome.
    Logins,
    /// Credentials exchanged for grants, by outcome.
    Exchanges,
    /// Enrolments, by outcome.
    Enrollments,
    /// Connections cut.
    Kicks,
    /// Machines in the key set.
    KeySet,
    /// Mails, by outcome.
    Mails,
}

impl Name {
    /// The name and the help text.
    #[must_use]
    pub fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Callouts => (
                "dashfleet_identity_callouts_total",
                "Auth callouts, by outcome",
            ),
            Self::CalloutDuration => (
                "dashfleet_identity_callout_duration_seconds",
                "Time to decide an auth callout",
            ),
            Self::Logins => ("dashfleet_identity_logins_total", "Logins, by outcome"),
            Self::Exchanges => (
                "dashfleet_identity_exchanges_total",
                "Credentials exchanged, by outcome",
            ),
            Self::Enrollments => (
                "dashfleet_identity_enrollments_total",
                "Enrolments, by outcome",
            ),
            Self::Kicks => ("dashfleet_identity_kicks_total", "Connections cut"),
            Self::KeySet => (
                "dashfleet_identity_key_set_machines",
                "Machines in the key set",
            ),
            Self::Mails => ("dashfleet_identity_mails_total", "Mails, by outcome"),
        }
    }

    fn opts(self) -> Opts {
        let (name, help) = self.texts();
        Opts::new(name, help)
    }
}

/// How a callout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalloutOutcome {
    /// The agent may connect.
    Admitted,
    /// Its key is revoked.
    Revoked,
    /// Nobody knows its key.
    Unknown,
    /// Too many attempts from its address, or of its machine.
    Limited,
}

impl CalloutOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
            Self::Limited => "limited",
        }
    }
}

/// How a login, an exchange or an enrolment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Granted.
    Granted,
    /// Refused.
    Refused,
    /// Not decided: something was away.
    Failed,
}

impl Outcome {
    /// The outcome that a result shows.
    pub fn of<T>(result: &Result<T, IdentityError>) -> Self {
        match result {
            Ok(_) => Self::Granted,
            Err(IdentityError::Refused(_)) => Self::Refused,
            Err(_) => Self::Failed,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    callouts: IntCounterVec,
    /// How long a callout's decision takes.
    pub callout_duration: Histogram,
    logins: IntCounterVec,
    exchanges: IntCounterVec,
    enrollments: IntCounterVec,
    /// Connections cut.
    pub kicks: IntCounter,
    mails: IntCounterVec,
    /// Machines in the key set.
    pub key_set: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, IdentityError> {
        let by_outcome = |name: Name| {
            let vec = IntCounterVec::new(name.opts(), &["outcome"]);
            registered(registry, vec)
        };
        let duration = HistogramOpts::from(Name::CalloutDuration.opts()).buckets(vec![
            0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0,
        ]);
        Ok(Self {
            callouts: by_outcome(Name::Callouts)?,
            callout_duration: registered(registry, Histogram::with_opts(duration))?,
            logins: by_outcome(Name::Logins)?,
            exchanges: by_outcome(Name::Exchanges)?,
            enrollments: by_outcome(Name::Enrollments)?,
            mails: by_outcome(Name::Mails)?,
            kicks: registered(registry, IntCounter::with_opts(Name::Kicks.opts()))?,
            key_set: registered(registry, IntGauge::with_opts(Name::KeySet.opts()))?,
        })
    }

    /// Counts a callout.
    pub fn callout(&self, outcome: CalloutOutcome) {
        self.callouts.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a login.
    pub fn login(&self, outcome: Outcome) {
        self.logins.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a mail that was sent, or was to be.
    pub fn mail(&self, sent: bool) {
        let outcome = if sent { "sent" } else { "failed" };
        self.mails.with_label_values(&[outcome]).inc();
    }

    /// Counts an exchange.
    pub fn exchange(&self, outcome: Outcome) {
        self.exchanges.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts an enrolment.
    pub fn enrollment(&self, outcome: Outcome) {
        self.enrollments
            .with_label_values(&[outcome.as_str()])
            .inc();
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> Result<C, IdentityError> {
    let collector = collector.map_err(IdentityError::internal)?;
    registry
        .register(Box::new(collector.clone()))
        .map_err(IdentityError::internal)?;
    Ok(collector)
}
