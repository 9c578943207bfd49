//! The OpenAPI document: what the code says, in the form that is committed in `openapi/`.
//!
//! Below are the documented objects, by noun. Most are never made: the contract's messages travel instead, and each
//! names its object here ([`crate::json::Documented`]).

pub mod action;
pub mod audit;
pub mod auth;
pub mod enrollment;
pub mod execution;
pub mod job;
pub mod key;
pub mod machine;
pub mod member;
pub mod nullable;
pub mod organization;
pub mod presence;
pub mod problem;
pub mod sample;
pub mod session;
pub mod status;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService, ServerObject, Tags};

use crate::inbound::Api;

const TITLE: &str = "DashFleet";
const DESCRIPTION: &str = "\
One bus for a fleet and its automation.

**Authentication.** `Authorization: Bearer` takes an access token (`dfa_…`, from `auth/login`) or an API key (`dfk_…`).

**Browsers.** A login with `\"session\": \"COOKIE\"` is answered with 201: its tokens are in cookies that no script can read, \
and `csrfToken` is for the header `X-CSRF-Token`, which every request but GET and HEAD then needs. `Authorization` goes \
before a cookie. Other origins may use the API only where this installation names them.

**Bodies** are JSON in camelCase; times are RFC 3339 in UTC with milliseconds; durations are in milliseconds unless the \
name says otherwise; ids are UUIDs. An empty body is `{}`. A field or parameter that a \
request does not have, or has once and is given twice, is refused.

**Lists** take `limit` (1 to 200, 50 when absent) and `cursor`, and give `{items, nextCursor}`; the last page has no \
`nextCursor`.

**Errors** are `application/problem+json` (RFC 9457): `type` leads to an explanation on this server, `errors` names each \
wrong field by its path, `traceId` leads to the logs. 429 and 503 say in `Retry-After` when to try again.

**Repeating safely.** What creates something takes an `Idempotency-Key`: within 24 hours the same key and body give the \
same thing; another body is refused with 409.

**Rates.** `RateLimit-Limit` (a second's), `RateLimit-Remaining` and `RateLimit-Reset` (seconds) tell of the limit that has \
the least left: of the credential or the person behind it, for all requests, changes or heavy ones (exports, batches, \
selectors). A quarter of a second's may come at once.";

/// How operations are grouped.
#[derive(Tags)]
pub enum Tag {
    /// Logging in and out, sessions, passwords.
    Auth,
    /// Organisations.
    Organizations,
    /// The people of an organisation.
    Users,
    /// Keys of programs.
    ApiKeys,
    /// What machines join the fleet with.
    EnrollmentTokens,
    /// How a machine joins the fleet.
    Agents,
    /// The machines, how they are, and how they were.
    Machines,
    /// What machines are told to do.
    Actions,
    /// What is to be done, as often as it is asked for.
    Jobs,
    /// Jobs that are done, were done, and are to be done.
    Executions,
    /// Who did what.
    Audit,
    /// This installation.
    Service,
}

/// All documented objects, by their names.
#[must_use]
pub fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
        let mut registry = Registry::new();
        Api::register(&mut registry);
        registry
    });
    &REGISTRY
}

/// The document as it is served and committed: pretty, and the same each time.
#[must_use]
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = String::new();
        for line in service().spec().lines() {
            text.push_str(&whole(line));
            text.push('\n');
        }
        text
    });
    &TEXT
}

/// The framework writes the bounds of integers as `200.0`, which generators of typed clients refuse.
fn whole(line: &str) -> Cow<'_, str> {
    let bound = ["\"minimum\":", "\"maximum\":"]
        .iter()
        .any(|name| line.trim_start().starts_with(name));
    match line.strip_suffix(',').unwrap_or(line).strip_suffix(".0") {
        Some(number) if bound && line.ends_with(',') => format!("{number},").into(),
        Some(number) if bound => number.into(),
        _ => line.into(),
    }
}

/// The page that shows a document, as the framework makes it.
#[must_use]
pub(crate) fn swagger_page() -> String {
    OpenApiService::new((), TITLE, env!("CARGO_PKG_VERSION")).swagger_ui_html()
}

/// The API as words: what it says of itself without anybody to answer.
struct Words;

impl OpenApi for Words {
    fn meta() -> Vec<MetaApi> {
        Api::meta()
    }

    fn register(registry: &mut Registry) {
        Api::register(registry);
    }

    fn add_routes(self, _table: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}

fn service() -> OpenApiService<Words, ()> {
    OpenApiService::new(Words, TITLE, env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(
            LicenseObject::new("Apache-2.0").url("https://www.apache.org/licenses/LICENSE-2.0"),
        )
        .server(ServerObject::new("/"))
}
