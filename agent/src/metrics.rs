//! Counters of the agent itself, for whoever sets `DASHFLEET_AGENT_ADMIN_ADDR`.

use prometheus::{IntGauge, Registry};

use crate::collect::sampler::Sampler;
use crate::engine::Engine;

/// The names, each with what it says.
const NAMES: &[(Name, &str, &str)] = &[
    (
        Name::Accepted,
        "dashfleet_agent_actions_accepted",
        "Actions taken since the start",
    ),
    (
        Name::Executed,
        "dashfleet_agent_actions_executed",
        "Actions begun since the start",
    ),
    (
        Name::JournalFull,
        "dashfleet_agent_actions_journal_full",
        "Actions refused because the disk is full",
    ),
    (
        Name::Stale,
        "dashfleet_agent_orders_stale",
        "Orders about something long settled",
    ),
    (
        Name::Refused,
        "dashfleet_agent_orders_refused",
        "Messages refused because they could not be believed",
    ),
    (
        Name::Open,
        "dashfleet_agent_actions_open",
        "Actions accepted and not ended",
    ),
    (
        Name::Unreported,
        "dashfleet_agent_results_unreported",
        "Results that the server does not have",
    ),
    (
        Name::BufferBytes,
        "dashfleet_agent_buffer_bytes",
        "Bytes of samples that wait on the disk",
    ),
    (
        Name::SamplesDropped,
        "dashfleet_agent_samples_dropped",
        "Samples dropped for want of room since the start",
    ),
    (
        Name::SamplesRefused,
        "dashfleet_agent_samples_refused",
        "Samples that the server refused for good since the start",
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Accepted,
    Executed,
    JournalFull,
    Stale,
    Refused,
    Open,
    Unreported,
    BufferBytes,
    SamplesDropped,
    SamplesRefused,
}

/// The counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    gauges: Vec<(Name, IntGauge)>,
    sampler: Sampler,
}

impl Metrics {
    /// Counters at zero.
    ///
    /// # Errors
    /// When a name is given twice.
    pub fn new(sampler: Sampler) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let mut gauges = Vec::with_capacity(NAMES.len());
        for (name, text, help) in NAMES {
            let gauge = IntGauge::new(*text, *help)?;
            registry.register(Box::new(gauge.clone()))?;
            gauges.push((*name, gauge));
        }
        Ok(Self {
            registry,
            gauges,
            sampler,
        })
    }

    /// Where they are gathered from.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// How many samples were dropped for want of room.
    #[must_use]
    pub fn samples_dropped(&self) -> u64 {
        self.sampler.state().dropped
    }

    /// How many samples the server refused for good.
    #[must_use]
    pub fn samples_refused(&self) -> u64 {
        self.sampler.state().refused
    }

    /// Takes over how everything stands.
    pub fn note(&self, engine: &Engine, unreported: usize, refused: u64) {
        let tally = engine.tally();
        let buffer = self.sampler.state();
        for (name, gauge) in &self.gauges {
            let value = match name {
                Name::Accepted => tally.accepted,
                Name::Executed => tally.executed,
                Name::JournalFull => tally.journal_full,
                Name::Stale => tally.stale,
                Name::Refused => refused,
                Name::Open => engine.open() as u64,
                Name::Unreported => unreported as u64,
                Name::BufferBytes => buffer.bytes,
                Name::SamplesDropped => buffer.dropped,
                Name::SamplesRefused => buffer.refused,
            };
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}
