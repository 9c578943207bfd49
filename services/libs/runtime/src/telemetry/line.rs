//! A line of the log, with the trace that it belongs to: the `traceId` of a problem leads to every line that was
//! written on its behalf, in whatever service.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{
    FmtContext, FormatEvent, FormatFields, MakeWriter, format, layer as plain,
};
use tracing_subscriber::registry::LookupSpan;

/// Writes `trace_id` in front of what another format writes, when a span with a trace is entered.
struct Traced<F> {
    inner: F,
    json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // The layer of the traces makes a span's context the thread's own while the span is entered.
        let trace = Context::map_current(|current| {
            let span = current.span();
            let span = span.span_context();
            span.is_valid().then(|| span.trace_id())
        });
        let Some(trace) = trace else {
            return self.inner.format_event(context, writer, event);
        };
        if !self.json {
            write!(writer, "{trace} ")?;
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner
            .format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(rest) => write!(writer, "{{\"trace_id\":\"{trace}\",{rest}"),
            None => writer.write_str(&line),
        }
    }
}

/// The layer that writes lines: JSON objects, or text for people.
pub fn layer<S, W>(json: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    if json {
        let inner = format()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        let lines = plain().fmt_fields(JsonFields::new());
        let lines = lines.event_format(Traced { inner, json });
        return lines.with_writer(writer).boxed();
    }
    let inner = format().compact();
    let lines = plain().event_format(Traced { inner, json });
    lines.with_writer(writer).boxed()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one line outside any span and one inside, and the trace of the span.
    fn lines(json: bool) -> (Vec<String>, String) {
        let written = Written::default();
        let writer = written.clone();
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry()
            .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")))
            .with(layer(json, move || writer.clone()));
        let trace = tracing::subscriber::with_default(subscriber, || {
            tracing::info!("outside");
            let span = tracing::info_span!("answer");
            let _entered = span.enter();
            tracing::error!(error = "no \"such\" column", "a request failed");
            span.context().span().span_context().trace_id().to_string()
        });
        let bytes = written.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (text.lines().map(ToOwned::to_owned).collect(), trace)
    }

    #[test]
    fn a_line_inside_a_span_says_its_trace() {
        let (json, trace) = lines(true);
        assert!(!json[0].contains("trace_id"), "{json:?}");
        let start = format!("{{\"trace_id\":\"{trace}\",\"timestamp\":");
        assert!(json[1].starts_with(&start), "{json:?}");
        assert!(json[1].ends_with('}') && json.len() == 2, "{json:?}");
        let (text, trace) = lines(false);
        assert!(text[1].starts_with(&trace) && !text[0].contains(&trace));
    }
}
