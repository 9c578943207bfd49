//! What the gateway counts about itself, for Prometheus.

use std::time::Duration;

use poem::http::{Method, StatusCode};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::limits::class::Class;

/// The names. Nothing is counted under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests, by route template, method and status.
    HttpRequests,
    /// How long they took.
    HttpRequestSeconds,
    /// Requests under way.
    HttpRequestsInFlight,
    /// Connections that are open.
    HttpConnections,
    /// Credentials turned into grants, by how.
    Grants,
    /// Authentications that failed.
    FailedAuthentications,
    /// Tunnels to the bus that are open.
    Tunnels,
    /// Tunnels asked for, by what became of them.
    TunnelsAsked,
    /// Requests refused for their rate, by the limit.
    RateLimited,
    /// What replicas tell each other of rates, by what became of it.
    RateMessages,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::HttpRequests,
        Self::HttpRequestSeconds,
        Self::HttpRequestsInFlight,
        Self::HttpConnections,
        Self::Grants,
        Self::FailedAuthentications,
        Self::Tunnels,
        Self::TunnelsAsked,
        Self::RateLimited,
        Self::RateMessages,
    ];

    /// The name that Prometheus knows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpRequests => "dashfleet_gateway_http_requests_total",
            Self::HttpRequestSeconds => "dashfleet_gateway_http_request_duration_seconds",
            Self::HttpRequestsInFlight => "dashfleet_gateway_http_requests_in_flight",
            Self::HttpConnections => "dashfleet_gateway_http_connections",
            Self::Grants => "dashfleet_gateway_grants_total",
            Self::FailedAuthentications => "dashfleet_gateway_failed_authentications_total",
            Self::Tunnels => "dashfleet_gateway_nats_tunnels",
            Self::TunnelsAsked => "dashfleet_gateway_nats_tunnels_total",
            Self::RateLimited => "dashfleet_gateway_rate_limited_total",
            Self::RateMessages => "dashfleet_gateway_rate_messages_total",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::HttpRequests => "Requests answered, by route template, method and status.",
            Self::HttpRequestSeconds => {
                "Seconds from a request's head to its response, by route template and method."
            }
            Self::HttpRequestsInFlight => "Requests under way.",
            Self::HttpConnections => "Open connections.",
            Self::Grants => {
                "Credentials turned into grants: cached, exchanged, kept (identity away), refused, unavailable."
            }
            Self::FailedAuthentications => "Requests with a credential that is not accepted.",
            Self::Tunnels => "Open tunnels of agents to the bus.",
            Self::TunnelsAsked => {
                "Tunnels asked for: opened, full (or the gateway was ending), limited, unavailable."
            }
            Self::RateLimited => "Requests refused for their rate, by the limit.",
            Self::RateMessages => {
                "Messages between replicas about rates: told, heard, ignored (they made no sense)."
            }
        }
    }

    fn opts(self) -> Opts {
        Opts::new(self.name(), self.help())
    }
}

/// How a credential became a grant, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantOutcome {
    /// Identity's word was fresh.
    Cached,
    /// Identity was asked.
    Exchanged,
    /// Identity is away, and its last word still holds.
    Kept,
    /// The credential is not accepted.
    Refused,
    /// Identity is away, and nothing is known.
    Unavailable,
}

impl GrantOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Exchanged => "exchanged",
            Self::Kept => "kept",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What became of a tunnel that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelOutcome {
    /// It was opened.
    Opened,
    /// There was no room.
    Full,
    /// The address opens too many at once.
    Limited,
    /// No server took it.
    Unavailable,
}

impl TunnelOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Full => "full",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What became of a message about rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateOutcome {
    /// The others were told.
    Told,
    /// Another one said it.
    Heard,
    /// It made no sense.
    Ignored,
}

impl RateOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Heard => "heard",
            Self::Ignored => "ignored",
        }
    }
}

/// The collectors.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What the admin endpoint shows.
    pub registry: Registry,
    /// Requests under way.
    pub in_flight: IntGauge,
    /// Open connections.
    pub connections: IntGauge,
    /// Authentications that failed.
    pub failed_authentications: IntCounter,
    /// Open tunnels.
    pub tunnels: IntGauge,
    tunnels_asked: IntCounterVec,
    requests: IntCounterVec,
    seconds: HistogramVec,
    grants: IntCounterVec,
    rate_limited: IntCounterVec,
    rate_messages: IntCounterVec,
}

impl Metrics {
    /// The collectors in a registry of their own.
    ///
    /// # Errors
    /// When a name is not one that Prometheus takes.
    pub fn new() -> Result<Self, prometheus::Error> {
        // From a quarter of a millisecond (the bus and back) to the longest wait for an owner.
        let buckets = vec![
            0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        ];
        let seconds = HistogramOpts {
            common_opts: Metric::HttpRequestSeconds.opts(),
            buckets,
        };
        let metrics = Self {
            registry: Registry::new(),
            in_flight: IntGauge::with_opts(Metric::HttpRequestsInFlight.opts())?,
            connections: IntGauge::with_opts(Metric::HttpConnections.opts())?,
            failed_authentications: IntCounter::with_opts(Metric::FailedAuthentications.opts())?,
            tunnels: IntGauge::with_opts(Metric::Tunnels.opts())?,
            tunnels_asked: IntCounterVec::new(Metric::TunnelsAsked.opts(), &["outcome"])?,
            requests: IntCounterVec::new(
                Metric::HttpRequests.opts(),
                &["route", "method", "status"],
            )?,
            seconds: HistogramVec::new(seconds, &["route", "method"])?,
            grants: IntCounterVec::new(Metric::Grants.opts(), &["outcome"])?,
            rate_limited: IntCounterVec::new(Metric::RateLimited.opts(), &["limit"])?,
            rate_messages: IntCounterVec::new(Metric::RateMessages.opts(), &["outcome"])?,
        };
        metrics
            .registry
            .register(Box::new(metrics.in_flight.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.connections.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.failed_authentications.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.tunnels.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.tunnels_asked.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.requests.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.seconds.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.grants.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.rate_limited.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.rate_messages.clone()))?;
        Ok(metrics)
    }

    /// Counts an answered request. `route` is a template, never a path as it came: paths are without number.
    pub fn request(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = method_label(method);
        self.requests
            .with_label_values(&[route, method, status.as_str()])
            .inc();
        self.seconds
            .with_label_values(&[route, method])
            .observe(took.as_secs_f64());
    }

    /// Counts a tunnel that was asked for.
    pub fn tunnel(&self, outcome: TunnelOutcome) {
        self.tunnels_asked
            .with_label_values(&[outcome.label()])
            .inc();
    }

    /// Counts a request that was one too many.
    pub fn rate_limited(&self, class: Class) {
        self.rate_limited.with_label_values(&[class.name()]).inc();
    }

    /// Counts a message about rates.
    pub fn rate_message(&self, outcome: RateOutcome) {
        self.rate_messages
            .with_label_values(&[outcome.label()])
            .inc();
    }

    /// Counts a credential.
    pub fn grant(&self, outcome: GrantOutcome) {
        self.grants.with_label_values(&[outcome.label()]).inc();
    }
}

/// Clients may invent methods; labels may not grow with them.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_shown_once_counted() {
        let metrics = Metrics::new().expect("names that Prometheus takes");
        metrics.request("/x", &Method::GET, StatusCode::OK, Duration::from_millis(1));
        metrics.request(
            "/x",
            &Method::from_bytes(b"BREW").expect("a method"),
            StatusCode::OK,
            Duration::ZERO,
        );
        metrics.grant(GrantOutcome::Cached);
        metrics.tunnel(TunnelOutcome::Opened);
        metrics.rate_limited(Class::Address);
        metrics.rate_message(RateOutcome::Told);
        let shown: Vec<_> = metrics
            .registry
            .gather()
            .iter()
            .map(|family| family.name().to_owned())
            .collect();
        for metric in Metric::ALL {
            assert!(shown.iter().any(|name| name == metric.name()), "{metric:?}");
        }
    }
}
