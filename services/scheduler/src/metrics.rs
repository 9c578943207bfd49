//! What Prometheus sees of the scheduler.

use prometheus::core::Collector;
use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use crate::error::SchedulerError;

/// The names of the metrics.
#[derive(Clone, Copy, Debug)]
enum Name {
    Offers,
    Claims,
    Finishes,
    Ended,
    LeasesLost,
    Waiting,
    QueueAge,
    Window,
    Duration,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Offers => "dashfleet_scheduler_offers_total",
            Self::Claims => "dashfleet_scheduler_claims_total",
            Self::Finishes => "dashfleet_scheduler_finishes_total",
            Self::Ended => "dashfleet_scheduler_executions_ended_total",
            Self::LeasesLost => "dashfleet_scheduler_leases_lost_total",
            Self::Waiting => "dashfleet_scheduler_executions_waiting",
            Self::QueueAge => "dashfleet_scheduler_queue_age_seconds",
            Self::Window => "dashfleet_scheduler_offer_window",
            Self::Duration => "dashfleet_scheduler_execution_duration_seconds",
        }
    }
}

/// The metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Offers made, by pool.
    pub offers: IntCounterVec,
    /// Claims by result: granted, repeated, refused.
    pub claims: IntCounterVec,
    /// Ends of attempts that workers told, by verdict.
    pub finishes: IntCounterVec,
    /// Executions ended, by status.
    pub ended: IntCounterVec,
    /// Workers' sessions that expired.
    pub leases_lost: IntCounter,
    /// Executions that wait for a worker, by pool (100,000 are counted at most), also those that a pause or a limit holds back. The
    /// dispatcher's replica alone says this and the next two, while it is that.
    pub waiting: GaugeVec,
    /// For how long the first of these could have begun, had there been a worker, no pause and no limit.
    pub queue_age: GaugeVec,
    /// How many offers may be out at once, by pool.
    pub window: GaugeVec,
    /// From the commit of an execution to its end.
    pub duration: Histogram,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`SchedulerError::Bug`] when a name is taken.
    pub fn new() -> Result<Self, SchedulerError> {
        let bug = |error: prometheus::Error| SchedulerError::Bug(error.to_string());
        let counter = |name: Name, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name.as_str(), help), &[label]).map_err(bug)
        };
        let gauge = |name: Name, help: &str| {
            GaugeVec::new(Opts::new(name.as_str(), help), &["pool"]).map_err(bug)
        };
        let metrics = Self {
            offers: counter(Name::Offers, "Offers made, by pool.", "pool")?,
            claims: counter(Name::Claims, "Claims, by result.", "result")?,
            finishes: counter(
                Name::Finishes,
                "Ends of attempts that workers told, by verdict.",
                "verdict",
            )?,
            ended: counter(Name::Ended, "Executions ended, by status.", "status")?,
            leases_lost: IntCounter::new(
                Name::LeasesLost.as_str(),
                "Sessions of workers that expired.",
            )
            .map_err(bug)?,
            waiting: gauge(Name::Waiting, "Executions that wait for a worker, by pool.")?,
            queue_age: gauge(
                Name::QueueAge,
                "Seconds since the first of them that is not paused could have begun; limited ones too.",
            )?,
            window: gauge(Name::Window, "How many offers may be out at once.")?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    Name::Duration.as_str(),
                    "Seconds from an execution's commit to its end.",
                )
                .buckets(vec![
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0,
                ]),
            )
            .map_err(bug)?,
            registry: Registry::new(),
        };
        let collectors: [Box<dyn Collector>; 9] = [
            Box::new(metrics.offers.clone()),
            Box::new(metrics.claims.clone()),
            Box::new(metrics.finishes.clone()),
            Box::new(metrics.ended.clone()),
            Box::new(metrics.leases_lost.clone()),
            Box::new(metrics.waiting.clone()),
            Box::new(metrics.queue_age.clone()),
            Box::new(metrics.window.clone()),
            Box::new(metrics.duration.clone()),
        ];
        for collector in collectors {
            metrics.registry.register(collector).map_err(bug)?;
        }
        Ok(metrics)
    }

    /// This replica is not the dispatcher of a pool any more: what only the dispatcher knows it says no longer, since its last word
    /// would stand beside what the new one says.
    pub fn resign(&self, pool: &str) {
        for gauge in [&self.waiting, &self.queue_age, &self.window] {
            // That nothing was said yet is no matter.
            drop(gauge.remove_label_values(&[pool]));
        }
    }

    /// Where they are registered.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }
}
