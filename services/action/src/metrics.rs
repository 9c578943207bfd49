//! What Prometheus sees of the action service.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

use crate::error::ActionError;

/// The names of the metrics.
#[derive(Clone, Copy, Debug)]
enum Name {
    Created,
    Ended,
    Reports,
    Rings,
    EndToEnd,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "dashfleet_action_created_total",
            Self::Ended => "dashfleet_action_ended_total",
            Self::Reports => "dashfleet_action_reports_total",
            Self::Rings => "dashfleet_action_rings_total",
            Self::EndToEnd => "dashfleet_action_duration_seconds",
        }
    }
}

/// The metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Actions created, by kind.
    pub created: IntCounterVec,
    /// Actions ended, by status.
    pub ended: IntCounterVec,
    /// Reports of agents, by verdict.
    pub reports: IntCounterVec,
    /// Doorbells rung, by verb.
    pub rings: IntCounterVec,
    /// From creation to the committed result, of actions that ended by a result.
    pub duration: Histogram,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`ActionError::Bug`] when a name is taken.
    pub fn new() -> Result<Self, ActionError> {
        let bug = |error: prometheus::Error| ActionError::Bug(error.to_string());
        let counter = |name: Name, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name.as_str(), help), &[label]).map_err(bug)
        };
        let registry = Registry::new();
        let metrics = Self {
            created: counter(Name::Created, "Actions created, by kind.", "kind")?,
            ended: counter(Name::Ended, "Actions ended, by status.", "status")?,
            reports: counter(Name::Reports, "Reports of agents, by verdict.", "verdict")?,
            rings: counter(Name::Rings, "Doorbells rung, by verb.", "verb")?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    Name::EndToEnd.as_str(),
                    "Seconds from creation to the committed result.",
                )
                .buckets(vec![
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0,
                ]),
            )
            .map_err(bug)?,
            registry,
        };
        for collector in [
            &metrics.created,
            &metrics.ended,
            &metrics.reports,
            &metrics.rings,
        ] {
            metrics
                .registry
                .register(Box::new(collector.clone()))
                .map_err(bug)?;
        }
        metrics
            .registry
            .register(Box::new(metrics.duration.clone()))
            .map_err(bug)?;
        Ok(metrics)
    }

    /// Where they are registered.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }
}
