//! What is counted of the service itself, for Prometheus. Names are enums: a name is written once.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// What only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// Samples written.
    SamplesWritten,
    /// Samples that had been written before.
    SamplesRepeated,
    /// Samples refused for good.
    SamplesRefused,
    /// Machines that came online.
    MachinesCame,
    /// Machines that went offline.
    MachinesWent,
    /// Sessions that advisories had missed and a server's list told.
    SessionsRepaired,
    /// Servers that fell silent or went down.
    ServersLost,
    /// Changes of machines taken over from identity.
    MirrorChanges,
    /// Partitions dropped.
    PartitionsDropped,
}

impl Count {
    const ALL: [Self; 9] = [
        Self::SamplesWritten,
        Self::SamplesRepeated,
        Self::SamplesRefused,
        Self::MachinesCame,
        Self::MachinesWent,
        Self::SessionsRepaired,
        Self::ServersLost,
        Self::MirrorChanges,
        Self::PartitionsDropped,
    ];

    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::SamplesWritten => (
                "dashfleet_metrics_samples_written_total",
                "Samples written.",
            ),
            Self::SamplesRepeated => (
                "dashfleet_metrics_samples_repeated_total",
                "Samples that had been written before.",
            ),
            Self::SamplesRefused => (
                "dashfleet_metrics_samples_refused_total",
                "Samples refused for good.",
            ),
            Self::MachinesCame => (
                "dashfleet_metrics_machines_came_total",
                "Machines that came online.",
            ),
            Self::MachinesWent => (
                "dashfleet_metrics_machines_went_total",
                "Machines that went offline.",
            ),
            Self::SessionsRepaired => (
                "dashfleet_metrics_sessions_repaired_total",
                "Sessions that advisories had missed.",
            ),
            Self::ServersLost => (
                "dashfleet_metrics_servers_lost_total",
                "Bus servers that fell silent or went down.",
            ),
            Self::MirrorChanges => (
                "dashfleet_metrics_mirror_changes_total",
                "Changes of machines taken over from identity.",
            ),
            Self::PartitionsDropped => (
                "dashfleet_metrics_partitions_dropped_total",
                "Partitions of samples dropped.",
            ),
        }
    }
}

/// What goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Machines online.
    MachinesOnline,
    /// Identity's last change number that is mirrored.
    MirrorChange,
}

impl Level {
    const ALL: [Self; 2] = [Self::MachinesOnline, Self::MirrorChange];

    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::MachinesOnline => ("dashfleet_metrics_machines_online", "Machines online."),
            Self::MirrorChange => (
                "dashfleet_metrics_mirror_change",
                "Identity's last change number that is mirrored.",
            ),
        }
    }
}

/// What is measured again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Messages in one commit of samples.
    SampleBatchSize,
    /// Seconds of one commit of samples.
    SampleCommitSeconds,
    /// Messages in one commit of sessions.
    SessionBatchSize,
    /// Seconds of one round of reconciliation.
    ReconciliationSeconds,
}

impl Measure {
    const ALL: [Self; 4] = [
        Self::SampleBatchSize,
        Self::SampleCommitSeconds,
        Self::SessionBatchSize,
        Self::ReconciliationSeconds,
    ];

    fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::SampleBatchSize => (
                "dashfleet_metrics_sample_batch_size",
                "Messages in one commit of samples.",
            ),
            Self::SampleCommitSeconds => (
                "dashfleet_metrics_sample_commit_seconds",
                "Seconds of one commit of samples.",
            ),
            Self::SessionBatchSize => (
                "dashfleet_metrics_session_batch_size",
                "Messages in one commit of sessions.",
            ),
            Self::ReconciliationSeconds => (
                "dashfleet_metrics_reconciliation_seconds",
                "Seconds of one comparison with the servers' lists.",
            ),
        }
    }

    fn buckets(self) -> Vec<f64> {
        match self {
            Self::SampleBatchSize | Self::SessionBatchSize => vec![
                1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0,
            ],
            Self::SampleCommitSeconds | Self::ReconciliationSeconds => vec![
                0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
            ],
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    counts: HashMap<Count, IntCounter>,
    levels: HashMap<Level, IntGauge>,
    measures: HashMap<Measure, Histogram>,
}

impl Metrics {
    /// Makes them, all zero.
    ///
    /// # Errors
    /// When two have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let mut made = Self {
            registry: registry.clone(),
            counts: HashMap::new(),
            levels: HashMap::new(),
            measures: HashMap::new(),
        };
        for count in Count::ALL {
            let (name, help) = count.text();
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            made.counts.insert(count, counter);
        }
        for level in Level::ALL {
            let (name, help) = level.text();
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            made.levels.insert(level, gauge);
        }
        for measure in Measure::ALL {
            let (name, help) = measure.text();
            let histogram =
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(measure.buckets()))?;
            registry.register(Box::new(histogram.clone()))?;
            made.measures.insert(measure, histogram);
        }
        Ok(made)
    }

    /// What the admin endpoint shows.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds to a count.
    pub fn add(&self, count: Count, more: u64) {
        if let Some(counter) = self.counts.get(&count) {
            counter.inc_by(more);
        }
    }

    /// Sets a level.
    pub fn set(&self, level: Level, value: i64) {
        if let Some(gauge) = self.levels.get(&level) {
            gauge.set(value);
        }
    }

    /// Notes a measurement.
    pub fn observe(&self, measure: Measure, value: f64) {
        if let Some(histogram) = self.measures.get(&measure) {
            histogram.observe(value);
        }
    }

    /// Notes how long something took.
    pub fn observe_time(&self, measure: Measure, time: Duration) {
        self.observe(measure, time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_shown_under_its_own_name() -> Result<(), prometheus::Error> {
        let metrics = Metrics::new()?;
        metrics.add(Count::SamplesWritten, 3);
        let shown = metrics.registry().gather();
        assert_eq!(
            shown.len(),
            Count::ALL.len() + Level::ALL.len() + Measure::ALL.len()
        );
        Ok(())
    }
}
