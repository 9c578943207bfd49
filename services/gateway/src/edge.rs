//! The outermost endpoint: what every request meets, whatever it asks. A span, a line in the log, counts; refusals as
//! problem documents, also for a panic; and what is left of a body read away.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use poem::{Addr, Endpoint, PathPattern, Request, Response};
use poem_openapi::__private::UrlQuery;
use prometheus::IntGauge;
use tracing::{Instrument, Span, field};

use crate::address::{self, Network};
use crate::body;
use crate::browser::headers::complete;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::inbound::legacy;
use crate::limits::Limits;
use crate::limits::class::Class;
use crate::metrics::Metrics;
use crate::routes::{Known, UNMATCHED};
use crate::visit::{Arrival, House, Visit};

/// The longest text of the client in a span or a line of the log.
const SHOWN_MAX_CHARS: usize = 200;
/// About how many headers are put into an answer here: room for all of them at once.
const HEADERS_USUAL: usize = 14;

/// The outermost endpoint.
pub struct Edge<E> {
    inner: E,
    house: House,
    trusted: Vec<Network>,
    limits: Arc<Limits>,
    metrics: Metrics,
}

/// What is said about a request once it is answered.
struct Facts {
    method: Method,
    path: String,
    address: IpAddr,
    /// The page that asks, as its browser says.
    origin: Option<HeaderValue>,
    began: Instant,
}

impl Facts {
    fn shown_path(&self) -> &str {
        let end = self
            .path
            .char_indices()
            .nth(SHOWN_MAX_CHARS)
            .map_or(self.path.len(), |(end, _)| end);
        self.path.get(..end).unwrap_or_default()
    }
}

/// Counts a request as under way until it is answered, or until its client goes away and it is dropped.
struct UnderWay(IntGauge);

impl UnderWay {
    fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<E> Edge<E> {
    /// The edge around `inner`.
    pub fn new(
        inner: E,
        house: House,
        trusted: Vec<Network>,
        limits: Arc<Limits>,
        metrics: Metrics,
    ) -> Self {
        Self {
            inner,
            house,
            trusted,
            limits,
            metrics,
        }
    }

    fn admit(&self, visit: &Visit) -> Result<(), Refused> {
        let taken = self.limits.take_of_address(Class::Address, visit.address);
        if taken.refused.is_some() {
            visit.note_rate(taken);
        }
        taken.admit()
    }

    fn known<'a>(&'a self, pattern: Option<&PathPattern>) -> Option<&'a Known> {
        self.house.routes.get(&pattern?.0)
    }

    fn finish(
        &self,
        facts: &Facts,
        visit: &Visit,
        known: Option<&Known>,
        mut response: Response,
    ) -> Response {
        let status = response.status();
        let took = facts.began.elapsed();
        let route = known.map_or(UNMATCHED, |known| &*known.template);
        self.metrics.request(route, &facts.method, status, took);
        describe(&Span::current(), facts, known, status);
        let org = visit
            .caller
            .get()
            .map(|granted| field::display(granted.org));
        tracing::info!(
            target: "dashfleet_gateway::access",
            method = %facts.method,
            path = facts.shown_path(),
            route,
            status = status.as_u16(),
            duration_ms = took.as_secs_f64() * 1_000.0,
            client = %facts.address,
            org,
            "request"
        );
        let headers = response.headers_mut();
        decorate(headers, visit);
        visit
            .browsers
            .share(&facts.path, facts.origin.as_ref(), headers);
        response
    }
}

impl<E: Endpoint<Output = Response>> Edge<E> {
    /// What comes before anybody looks at what is asked, or presented; then what is asked.
    async fn answer(&self, request: Request, visit: &Visit) -> poem::Result<Response> {
        self.admit(visit)?;
        check_host(&request)?;
        if let Some(answer) = visit.browsers.preflight(&request) {
            return Ok(answer);
        }
        self.inner.call(request).await
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Edge<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let peer = match &request.remote_addr().0 {
            Addr::SocketAddr(address) => address.ip(),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let facts = Facts {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            address: address::client(peer, request.headers(), &self.trusted),
            origin: request.headers().get(header::ORIGIN).cloned(),
            began: Instant::now(),
        };
        let unknown_proxy = address::is_unknown_proxy(peer, request.headers(), &self.trusted);
        let forwarded = address::forwarded_https(peer, request.headers(), &self.trusted);
        let span = span(&request, &facts);
        bus::trace::set_parent(
            &span,
            text(request.headers(), contract::envelope::TRACE_HEADER),
        );
        async move {
            let _under_way = UnderWay::begin(&self.metrics.in_flight);
            let body = request.take_body();
            let arrival = Arrival {
                address: facts.address,
                unknown_proxy,
                https: self.house.browsers.https(forwarded),
                declared: text(request.headers(), header::CONTENT_LENGTH.as_str())
                    .and_then(|length| length.parse().ok()),
                expects: request.headers().contains_key(header::EXPECT),
            };
            let body = (!body.is_empty()).then_some(body);
            let visit = Arc::new(Visit::new(arrival, self.house.clone(), body));
            request.set_data(visit.clone());
            // What the framework's own service puts here before its operations; ours are routed by `routes`.
            let query: Vec<(String, String)> = request.params().unwrap_or_default();
            request.set_data(UrlQuery(query));
            let trace_id = bus::trace::current_id()
                .unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
            let from = address::known(facts.address);
            let answer = bus::client::on_behalf_of(from, self.answer(request, &visit));
            let result = AssertUnwindSafe(answer).catch_unwind().await;
            let (known, response) = match result {
                Ok(Ok(response)) => (self.known(response.data::<PathPattern>()), response),
                Ok(Err(error)) => {
                    let known = self.known(error.data::<PathPattern>());
                    let mut refused = Refused::from_poem(&error);
                    if refused.kind == Kind::MethodNotAllowed {
                        refused.allow = known.and_then(|known| known.allow.clone());
                    }
                    (known, refusal(&refused, &facts.path, &trace_id))
                }
                Err(panic) => {
                    tracing::error!(panic = said(&*panic), "a handler panicked");
                    (None, refusal(&Refused::internal(), &facts.path, &trace_id))
                }
            };
            body::discard(&visit).await;
            Ok(self.finish(&facts, &visit, known, response))
        }
        .instrument(span)
        .await
    }
}

/// Refuses a request that names no host, or two (RFC 9112, 3.2): whoever stands in front may have looked at the other. HTTP/2
/// says it by `:authority`, HTTP/1.0 need not.
fn check_host(request: &Request) -> Result<(), Refused> {
    let named = request.headers().get_all(header::HOST).iter().count();
    let needed = request.version() == Version::HTTP_11;
    match named {
        1 => Ok(()),
        0 if !needed => Ok(()),
        0 => Err(Refused::new(Kind::Invalid, "`Host` is required")),
        _ => Err(Refused::new(
            Kind::Invalid,
            "there is more than one `Host` header",
        )),
    }
}

/// A server span by OpenTelemetry's conventions for HTTP. Queries stay out: they may say what is nobody's business.
fn span(request: &Request, facts: &Facts) -> Span {
    let agent = text(request.headers(), header::USER_AGENT.as_str()).unwrap_or_default();
    let agent: String = agent.chars().take(SHOWN_MAX_CHARS).collect();
    let version = match request.version() {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    tracing::info_span!(
        "request",
        otel.name = %facts.method,
        otel.kind = "server",
        http.request.method = %facts.method,
        url.path = facts.shown_path(),
        url.scheme = "http",
        network.protocol.version = version,
        client.address = %facts.address,
        user_agent.original = agent,
        http.route = field::Empty,
        http.response.status_code = field::Empty,
        "error.type" = field::Empty,
        otel.status_code = field::Empty,
    )
}

fn describe(span: &Span, facts: &Facts, known: Option<&Known>, status: StatusCode) {
    if let Some(known) = known {
        bus::trace::rename(span, format!("{} {}", facts.method, known.template));
        span.record("http.route", &*known.template);
    }
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        span.record("otel.status_code", "ERROR");
    }
}

fn decorate(headers: &mut HeaderMap, visit: &Visit) {
    const RATE: [HeaderName; 3] = [
        HeaderName::from_static("ratelimit-limit"),
        HeaderName::from_static("ratelimit-remaining"),
        HeaderName::from_static("ratelimit-reset"),
    ];
    headers.reserve(HEADERS_USUAL);
    if let Some(rate) = visit.rate() {
        for (name, value) in RATE
            .into_iter()
            .zip([rate.limit, rate.remaining, rate.reset_seconds])
        {
            headers.insert(name, HeaderValue::from(value));
        }
    }
    if let Some(cookies) = visit.cookies.get() {
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
    }
    complete(headers, visit.https);
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A refusal in the form that whoever asks this path reads.
fn refusal(refused: &Refused, path: &str, trace_id: &str) -> Response {
    if legacy::owns(path) {
        refused.legacy_response()
    } else {
        refused.response(path, trace_id)
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "(no words)",
    }
}
