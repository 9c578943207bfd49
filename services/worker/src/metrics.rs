//! What Prometheus sees of the worker.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::error::WorkerError;

/// The names of the metrics.
#[derive(Clone, Copy, Debug)]
enum Name {
    Claims,
    Ended,
    Finishes,
    Running,
    Waiting,
    Sessions,
    LogLines,
    ClaimTime,
    FinishTime,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Claims => "dashfleet_worker_claims_total",
            Self::Ended => "dashfleet_worker_attempts_ended_total",
            Self::Finishes => "dashfleet_worker_finishes_total",
            Self::Running => "dashfleet_worker_running",
            Self::Waiting => "dashfleet_worker_finishes_waiting",
            Self::Sessions => "dashfleet_worker_sessions_total",
            Self::LogLines => "dashfleet_worker_log_lines_total",
            Self::ClaimTime => "dashfleet_worker_claim_duration_seconds",
            Self::FinishTime => "dashfleet_worker_finish_duration_seconds",
        }
    }
}

/// The metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Offers that were claimed, by what came of it: granted, refused.
    pub claims: IntCounterVec,
    /// Attempts that ended here, by outcome.
    pub ended: IntCounterVec,
    /// What became of finishes, by verdict.
    pub finishes: IntCounterVec,
    /// Handlers that run.
    pub running: IntGauge,
    /// Finishes that are not committed yet.
    pub waiting: IntGauge,
    /// Sessions, by what became of them: begun, lost, ended.
    pub sessions: IntCounterVec,
    /// Lines that handlers logged: kept, dropped.
    pub log_lines: IntCounterVec,
    /// From a claim to its answer.
    pub claim_time: Histogram,
    /// From a handler's end to its commit.
    pub finish_time: Histogram,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`WorkerError::Bug`] when a name is taken.
    pub fn new() -> Result<Self, WorkerError> {
        let bug = |error: prometheus::Error| WorkerError::Bug(error.to_string());
        let counters = |name: Name, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name.as_str(), help), &[label]).map_err(bug)
        };
        let gauge = |name: Name, help: &str| IntGauge::new(name.as_str(), help).map_err(bug);
        let times = |name: Name, help: &str| {
            let opts = HistogramOpts::new(name.as_str(), help).buckets(vec![
                0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
            ]);
            Histogram::with_opts(opts).map_err(bug)
        };
        let metrics = Self {
            registry: Registry::new(),
            claims: counters(Name::Claims, "Offers claimed, by result.", "result")?,
            ended: counters(
                Name::Ended,
                "Attempts that ended here, by outcome.",
                "outcome",
            )?,
            finishes: counters(Name::Finishes, "Finishes, by verdict.", "verdict")?,
            running: gauge(Name::Running, "Handlers that run.")?,
            waiting: gauge(Name::Waiting, "Finishes that are not committed yet.")?,
            sessions: counters(Name::Sessions, "Sessions, by what became of them.", "event")?,
            log_lines: counters(Name::LogLines, "Lines that handlers logged.", "result")?,
            claim_time: times(Name::ClaimTime, "Seconds from a claim to its answer.")?,
            finish_time: times(
                Name::FinishTime,
                "Seconds from a handler's end to its commit.",
            )?,
        };
        let collectors: [Box<dyn Collector>; 9] = [
            Box::new(metrics.claims.clone()),
            Box::new(metrics.ended.clone()),
            Box::new(metrics.finishes.clone()),
            Box::new(metrics.running.clone()),
            Box::new(metrics.waiting.clone()),
            Box::new(metrics.sessions.clone()),
            Box::new(metrics.log_lines.clone()),
            Box::new(metrics.claim_time.clone()),
            Box::new(metrics.finish_time.clone()),
        ];
        for collector in collectors {
            metrics.registry.register(collector).map_err(bug)?;
        }
        Ok(metrics)
    }

    /// Where they are registered.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// The counter of lines that were dropped.
    pub(crate) fn log_dropped(&self) -> IntCounter {
        self.log_lines.with_label_values(&["dropped"])
    }
}
