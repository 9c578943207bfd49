//! A collector of traces: takes what an OTLP exporter sends (`http/protobuf`) and remembers the spans.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/>.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message;

/// The largest export that is read, in bytes.
const EXPORT_MAX_BYTES: usize = 16 << 20;

/// A span as a collector sees it. Ids are in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of the program that sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its trace, 32 digits.
    pub trace: String,
    /// Its own id, 16 digits.
    pub id: String,
    /// The id of the span that it is in; empty for none.
    pub parent: String,
    /// When it began, in nanoseconds of the Unix epoch.
    pub start: u64,
    /// When it ended, likewise.
    pub end: u64,
}

/// A running collector. It ends with the process.
#[derive(Clone, Debug)]
pub struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let spans = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&spans);
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                // Each exporter waits for the answer to its one export: they take turns.
                if let Some(sent) = export(stream) {
                    let mut spans = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    spans.extend(sent.resource_spans.iter().flat_map(of_resource));
                }
            }
        });
        Self { url, spans }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` must say.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The spans of a trace that have arrived.
    #[must_use]
    pub fn spans_of(&self, trace: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans
            .iter()
            .filter(|span| span.trace == trace)
            .cloned()
            .collect()
    }
}

/// Reads one request and answers it; `None` when it is none.
fn export(stream: TcpStream) -> Option<ExportTraceServiceRequest> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; Some(length).filter(|length| *length <= EXPORT_MAX_BYTES)?];
    stream.read_exact(&mut body).ok()?;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.get_mut().write_all(answer).ok()?;
    ExportTraceServiceRequest::decode(body.as_slice()).ok()
}

fn of_resource(sent: &ResourceSpans) -> Vec<Span> {
    let attributes = sent
        .resource
        .iter()
        .flat_map(|resource| &resource.attributes);
    let service = attributes
        .filter(|attribute| attribute.key == "service.name")
        .filter_map(|attribute| attribute.value.as_ref()?.value.as_ref())
        .find_map(|value| match value {
            Value::StringValue(name) => Some(name.clone()),
            _ => None,
        })
        .unwrap_or_default();
    let spans = sent.scope_spans.iter().flat_map(|scope| &scope.spans);
    spans
        .map(|span| Span {
            service: service.clone(),
            name: span.name.clone(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
