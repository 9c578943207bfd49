//! Trace context in headers (W3C `traceparent`), so that one action is one tree from HTTP to the agent and back, and one execution
//! from HTTP to its handler and back.

use std::sync::OnceLock;
use std::time::SystemTime;

use async_nats::HeaderMap;
use contract::envelope::TRACE_HEADER;
use opentelemetry::Context;
pub use opentelemetry::KeyValue;
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use tokio::time::Instant;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The current span as a `traceparent`; `None` outside any trace.
#[must_use]
pub fn current() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    })
}

/// The id of the current trace; `None` outside any trace.
#[must_use]
pub fn current_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// Makes `span` a child of a `traceparent`; a malformed one is ignored.
pub fn set_parent(span: &Span, traceparent: Option<&str>) {
    if let Some(parent) = traceparent.and_then(parse)
        && let Err(error) = span.set_parent(Context::new().with_remote_span_context(parent))
    {
        tracing::debug!(?error, "the span takes no parent");
    }
}

/// Gives `span` a name that was not known when it began. (Recording `otel.name` does nothing once it has begun.)
pub fn rename(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// Records what turned out to be part of a trace only when it was over: a span from `began` until now, as a child of `traceparent`.
/// Where that one is malformed or not sampled, or spans are sent nowhere, nobody asks for `attributes`, and it costs next to nothing.
#[allow(clippy::disallowed_methods)] // a span is told in nanoseconds, which a `Timestamp` has not
pub fn record(
    traceparent: &str,
    name: &'static str,
    began: Instant,
    attributes: impl FnOnce() -> Vec<KeyValue>,
) {
    // Asked for once: telemetry begins before there is anything to record.
    static TRACER: OnceLock<BoxedTracer> = OnceLock::new();
    let Some(parent) = parse(traceparent).filter(SpanContext::is_sampled) else {
        return;
    };
    let (took, end) = (began.elapsed(), SystemTime::now());
    let mut span = SpanBuilder::from_name(name)
        .with_start_time(end.checked_sub(took).unwrap_or(end))
        .start_with_context(
            TRACER.get_or_init(|| global::tracer("dashfleet")),
            &Context::new().with_remote_span_context(parent),
        );
    if span.is_recording() {
        span.set_attributes(attributes());
        span.end_with_timestamp(end);
    }
}

fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || trace.len() != 32 || span.len() != 16 {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

pub(crate) fn inject(headers: &mut HeaderMap) {
    if let Some(traceparent) = current() {
        headers.insert(TRACE_HEADER, traceparent.as_str());
    }
}

pub(crate) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers
        .and_then(|headers| headers.get(name))
        .map(async_nats::HeaderValue::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_parents_are_ignored() {
        for text in [
            "",
            "00",
            "00-zz-yy-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
        assert!(parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").is_some());
    }

    #[test]
    fn what_nobody_samples_or_sends_is_not_described() {
        // Nothing in these tests sends spans.
        for flags in ["00", "01"] {
            let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
            record(&parent, "what is over", Instant::now(), || {
                panic!("{flags}")
            });
        }
    }
}
