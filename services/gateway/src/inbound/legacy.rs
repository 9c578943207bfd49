//! The routes of Dash-Fleet, which have no version: its agents and its operators' scripts go on as they are. They are no
//! part of the document, whose rules are others: snake_case, `{"error": …}`, 403 for a key that is missing or not accepted,
//! limits for each minute in `X-RateLimit-*`.

mod action;
mod fleet;
mod given;

use std::sync::{Arc, Once};

use poem::endpoint::{BoxEndpoint, make};
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use poem::{EndpointExt, Request, Response};
use serde_json::Value;

use self::given::Given;
use crate::caller::Caller;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::limits::Limits;
use crate::limits::bucket::Taken;
use crate::limits::class::Class;
use crate::owners::Owners;
use crate::routes::Unversioned;
use crate::visit::Visit;
use crate::{address, body, json};

/// What answers the routes.
struct Legacy {
    owners: Owners,
    limits: Arc<Limits>,
    /// Whether the log says already that a proxy is unknown.
    warned: Once,
}

/// What machines are told whose address nobody knows.
const UNKNOWN_PROXY: &str = "this came through a proxy that the gateway does not know, so nobody knows from where: \
    DASHFLEET_TRUSTED_PROXIES has to name the proxy's network";

/// The same, where a proxy that the gateway knows says nothing that can be read.
const UNKNOWN_ADDRESS: &str = "the proxy's `X-Forwarded-For` names no address that can be read, so nobody knows from where \
    this came";

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Report,
    Fleet,
    Queue,
    Pending,
    Result,
}

impl Call {
    const ALL: [Self; 5] = [
        Self::Report,
        Self::Fleet,
        Self::Queue,
        Self::Pending,
        Self::Result,
    ];

    fn route(self) -> (Method, &'static str) {
        match self {
            Self::Report => (Method::POST, "/api/fleet/report"),
            Self::Fleet => (Method::GET, "/api/fleet"),
            Self::Queue => (Method::POST, "/api/actions/queue"),
            Self::Pending => (Method::GET, "/api/actions/pending"),
            Self::Result => (Method::POST, "/api/actions/report"),
        }
    }

    /// How often in a minute it may be used ([`crate::limits::Amounts`]).
    fn class(self) -> Class {
        match self {
            Self::Report => Class::LegacyReport,
            Self::Fleet => Class::LegacyFleet,
            Self::Queue => Class::LegacyQueue,
            Self::Pending => Class::LegacyPending,
            Self::Result => Class::LegacyResult,
        }
    }

    /// The field whose value counts for itself: the name of a machine that speaks, or the action of which it does, since
    /// it says no name then. Whoever queues for many machines is one.
    fn counted_by(self) -> Option<&'static str> {
        match self {
            Self::Report | Self::Pending => Some("machine_id"),
            Self::Result => Some("action_id"),
            Self::Fleet | Self::Queue => None,
        }
    }

    /// Whether a machine is known by where it comes from.
    fn is_by_address(self) -> bool {
        matches!(self, Self::Report | Self::Pending | Self::Result)
    }

    /// What all values of that field together are counted as besides: so nobody invents actions without end.
    fn class_of_all(self) -> Option<Class> {
        (self == Self::Result).then_some(Class::LegacyResults)
    }
}

/// Whether a path is one of these routes.
#[must_use]
pub fn owns(path: &str) -> bool {
    Call::ALL.into_iter().any(|call| call.route().1 == path)
}

/// All routes.
#[must_use]
pub fn all(owners: &Owners, limits: &Arc<Limits>) -> Vec<Unversioned> {
    let legacy = Arc::new(Legacy {
        owners: owners.clone(),
        limits: limits.clone(),
        warned: Once::new(),
    });
    let route = |call: Call| {
        let (method, path) = call.route();
        (method, path, endpoint(&legacy, call))
    };
    Call::ALL.into_iter().map(route).collect()
}

fn endpoint(legacy: &Arc<Legacy>, call: Call) -> BoxEndpoint<'static> {
    let legacy = legacy.clone();
    make(move |request: Request| {
        let legacy = legacy.clone();
        async move { legacy.answer(call, &request).await }
    })
    .boxed()
}

impl Legacy {
    async fn answer(&self, call: Call, request: &Request) -> Response {
        let mut taken = None;
        let answered = self.try_answer(call, request, &mut taken).await;
        let mut response = answered.unwrap_or_else(|refused| refused.legacy_response());
        if let Some(taken) = taken {
            limits(response.headers_mut(), taken);
        }
        response
    }

    async fn try_answer(
        &self,
        call: Call,
        request: &Request,
        taken: &mut Option<Taken>,
    ) -> Result<Response, Refused> {
        let caller = Caller::legacy(request).await?;
        let visit = Visit::of(request)?;
        if call.is_by_address() && visit.unknown_proxy {
            // Else every machine is bound to the proxy, and quarantined once it moves or is told of.
            self.warned.call_once(|| {
                tracing::warn!(proxy = %visit.address, "{UNKNOWN_PROXY}");
            });
            return Err(Refused::new(Kind::Unavailable, UNKNOWN_PROXY));
        }
        if call.is_by_address() && address::known(visit.address).is_none() {
            return Err(Refused::new(Kind::Forbidden, UNKNOWN_ADDRESS));
        }
        let read = match call.route().0 {
            Method::POST => body::read_legacy(visit)
                .await
                .and_then(|bytes| Given::body(&bytes)),
            _ => Given::query(request),
        };
        // What cannot be read counts too, for nobody.
        let part = match (&read, call.counted_by()) {
            (Ok(given), Some(field)) => given.shown(field),
            _ => "",
        };
        let mut take = |class: Class, part: &str| {
            let (credential, address) = (caller.credential(), visit.address);
            let left = self.limits.take_of_legacy(class, credential, address, part);
            *taken = Some(left);
            left.admit()
        };
        if let Some(class) = call.class_of_all() {
            take(class, "")?;
        }
        take(call.class(), part)?;
        let given = read?;
        match call {
            Call::Report => self.report(&caller, &given, visit.address).await,
            Call::Fleet => self.fleet(&caller, &given).await,
            Call::Queue => self.queue(&caller, &given).await,
            Call::Pending => self.pending(&caller, &given, visit.address).await,
            Call::Result => self.result(&caller, &given, visit.address).await,
        }
    }
}

/// What Flask's limiter says, which Dash-Fleet used: `Reset` is a time, in seconds since the epoch.
fn limits(headers: &mut HeaderMap, taken: Taken) {
    let now = domain::Timestamp::now().millis() / 1_000;
    for (name, value) in [
        ("x-ratelimit-limit", i64::from(taken.limit)),
        ("x-ratelimit-remaining", i64::from(taken.remaining)),
        ("x-ratelimit-reset", now + i64::from(taken.reset_seconds)),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
}

fn shown(status: StatusCode, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .content_type(json::JSON)
        .body(body.to_string())
}
