//! Logs as JSON lines, each with the trace that it belongs to; traces to OTLP when an endpoint is configured.

pub mod line;

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use tracing_subscriber::EnvFilter;
pub use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ConfigError, TelemetryConfig};

/// How long the last spans may take: a collector that does not answer must not keep a process that ends.
const LAST_SPANS_MAX: Duration = Duration::from_secs(2);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Begins to log and to trace. A second call in one process changes nothing: several services share a process in tests.
///
/// # Errors
/// [`ConfigError`] naming the variable: a filter or an endpoint that cannot be used.
pub fn begin(service: &'static str, config: &TelemetryConfig) -> Result<(), ConfigError> {
    begin_with(service, config, std::io::stderr)
}

/// The same, with lines that go elsewhere than to standard error.
///
/// # Errors
/// As [`begin`].
pub fn begin_with<W>(
    service: &'static str,
    config: &TelemetryConfig,
    writer: W,
) -> Result<(), ConfigError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let wrong = |variable: &str, reason: String| ConfigError {
        variable: variable.into(),
        reason,
    };
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| wrong("DASHFLEET_LOG", error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(format!("dashfleet-{service}"))
        .build();
    // Spans always have ids, also without an exporter: they are the `traceId` of problems and logs.
    let mut provider = SdkTracerProvider::builder().with_resource(resource);
    if let Some(endpoint) = &config.otlp_endpoint {
        // The exporter's HTTP client panics without one, also for an endpoint without TLS.
        if rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
        {
            tracing::trace!("the TLS provider was there already");
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|error| wrong("OTEL_EXPORTER_OTLP_ENDPOINT", error.to_string()))?;
        provider =
            provider.with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build());
    }
    let provider = PROVIDER.get_or_init(|| provider.build());
    if config.otlp_endpoint.is_some() {
        // The layer below knows a span from its beginning. What is recorded only when it is over goes this way, or nowhere.
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("dashfleet"));
    let lines = line::layer(config.json, writer);
    if tracing_subscriber::registry()
        .with(filter)
        .with(spans)
        .with(lines)
        .try_init()
        .is_err()
    {
        tracing::debug!(service, "telemetry had begun before");
    }
    Ok(())
}

/// Sends what traces are still held.
pub async fn end() {
    // The exporter works on the asynchronous runtime: waiting for it must not hold a worker thread.
    let flushed =
        tokio::task::spawn_blocking(|| PROVIDER.get().map(SdkTracerProvider::force_flush));
    match tokio::time::timeout(LAST_SPANS_MAX, flushed).await {
        Ok(Ok(Some(Err(error)))) => tracing::debug!(%error, "the last traces were not sent"),
        Ok(_) => {}
        Err(_) => tracing::debug!("the last traces were not sent in time"),
    }
}
