//! Who calls. Declared first among an operation's arguments, so that nobody's body is read before it is known whose.

use std::sync::Arc;

use contract::audit::TurnedAway;
use contract::{Problem, ProblemKind};
use poem::http::header;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use uuid::Uuid;

use crate::browser::session::{self, InCookie};
use crate::credentials::{Credentials, Doubt, Granted};
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::limits::class::Weight;
use crate::visit::Visit;

const SCHEME: &str = "bearer";
const COOKIE_SCHEME: &str = "session";

/// The caller, with the grant that goes to the owners.
#[derive(Debug)]
pub struct Caller(Arc<Granted>, Arc<Visit>);

impl Caller {
    /// The grant's token, for the bus.
    #[must_use]
    pub fn grant(&self) -> &str {
        &self.0.token
    }

    /// Takes a heavy request that only its body shows to be one.
    ///
    /// # Errors
    /// 429 when there were too many of them.
    pub fn heavy(&self) -> Result<(), Refused> {
        let Some(taken) = self.0.paces.take_heavy() else {
            return Ok(());
        };
        self.1.note_rate(taken);
        taken.admit()
    }

    /// The organisation of the grant.
    #[must_use]
    pub fn org(&self) -> domain::OrgId {
        self.0.org
    }

    /// What the grant was exchanged for.
    #[must_use]
    pub fn credential(&self) -> domain::CredentialId {
        self.0.credential
    }

    /// The person who asks, or the key.
    #[must_use]
    pub fn one(&self) -> Uuid {
        self.0.person.unwrap_or(self.0.credential.0)
    }

    /// Whether a doubt is about this one.
    #[must_use]
    pub fn is_doubted(&self, doubt: Doubt) -> bool {
        doubt.is_about(&self.0)
    }

    /// Has the rights of this moment from now on, in what goes on after the request. Whether they are new: `false` when identity did not
    /// say anything since.
    ///
    /// # Errors
    /// Identity's refusal, or that it is away; FORBIDDEN where the key is not taken any more.
    pub async fn renew(
        &mut self,
        credentials: &Arc<Credentials>,
        presented: &Presented,
    ) -> Result<bool, Problem> {
        let granted = credentials.again(self.credential(), &presented.0).await?;
        if !granted.admits(self.1.address) {
            let words = TurnedAway::Network.words();
            return Err(Problem::new(ProblemKind::Forbidden, words));
        }
        let is_new = !Arc::ptr_eq(&self.0, &granted);
        self.0 = granted;
        Ok(is_new)
    }
}

/// The credential as the request presents it, for what goes on after it. It is never logged.
pub struct Presented(String);

impl<'a> FromRequest<'a> for Presented {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(text(request).await?.to_owned()))
    }
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some("An access token (`dfa_…`) or an API key (`dfk_…`)."),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
        registry.create_security_scheme(
            COOKIE_SCHEME,
            MetaSecurityScheme {
                ty: "apiKey",
                description: Some(
                    "A browser's session, from a login with `\"session\": \"COOKIE\"`. What changes something also needs \
                     the header `X-CSRF-Token`. Where there is no TLS the cookie is `dashfleet-session`.",
                ),
                name: Some("__Host-dashfleet-session"),
                key_in: Some("cookie"),
                scheme: None,
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME, COOKIE_SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let granted = granted(request, text(request).await?).await?;
        if granted.legacy {
            return Err(turned_away(request, &granted, TurnedAway::LegacyKey).into());
        }
        if let Some(operation) = Visit::of(request)?.routes.operation(request) {
            operation.check(request)?;
        }
        Ok(Self(granted, Visit::of(request)?.clone()))
    }
}

impl Caller {
    /// The caller of a route of Dash-Fleet: a legacy key, from where it is taken.
    ///
    /// # Errors
    /// As for every operation; 403 for another credential, or from elsewhere.
    pub async fn legacy(request: &Request) -> Result<Self, Refused> {
        // A cookie never opens these: no browser is meant to use them.
        let granted = granted(request, presented(request)?).await?;
        if !granted.legacy {
            return Err(turned_away(request, &granted, TurnedAway::NotLegacyKey));
        }
        Ok(Self(granted, Visit::of(request)?.clone()))
    }
}

/// The grant of the credential that a request presents, from where it is taken, and one request of its rate.
async fn granted(request: &Request, presented: &str) -> Result<Arc<Granted>, Refused> {
    let visit = Visit::of(request)?;
    let granted = credentials(request)?
        .grant(presented, visit.address)
        .await?;
    let operation = visit.routes.operation(request);
    let weight = operation.map_or_else(
        || Weight::of(request.method(), request.uri().path()),
        |operation| operation.weight,
    );
    let taken = granted.paces.take(weight);
    visit.note_rate(taken);
    // An operation has one caller, so it is set once.
    visit.caller.get_or_init(|| granted.clone());
    taken.admit()?;
    if !granted.admits(visit.address) {
        return Err(turned_away(request, &granted, TurnedAway::Network));
    }
    Ok(granted)
}

fn credentials(request: &Request) -> Result<&Arc<Credentials>, Refused> {
    request
        .data::<Arc<Credentials>>()
        .ok_or_else(Refused::internal)
}

/// The refusal of somebody who is known, in the words of the audit, which is told of it.
fn turned_away(request: &Request, granted: &Arc<Granted>, reason: TurnedAway) -> Refused {
    match note(request, granted, reason) {
        Ok(()) => Refused::new(Kind::Forbidden, reason.words()),
        Err(ours) => ours,
    }
}

/// Has the audit told that a caller was refused.
///
/// # Errors
/// Our fault, as in [`Visit::of`].
fn note(request: &Request, granted: &Arc<Granted>, reason: TurnedAway) -> Result<(), Refused> {
    let visit = Visit::of(request)?;
    let operation = visit.routes.name(request);
    let attempts = credentials(request)?.attempts();
    attempts.note(granted, visit.address, operation, reason);
    Ok(())
}

/// The credential that a request presents: in a header, or else in a cookie.
async fn text(request: &Request) -> Result<&str, Refused> {
    match request.headers().contains_key(header::AUTHORIZATION) {
        true => presented(request),
        false => in_cookie(request).await,
    }
}

/// The access token in a cookie, with which a page of ours asks.
///
/// # Errors
/// 401 without one; 403 when it would change something and no page of ours asks.
async fn in_cookie(request: &Request) -> Result<&str, Refused> {
    let InCookie { token, meant } =
        session::access_token(request)?.ok_or_else(Refused::no_credential)?;
    let Err(refused) = meant else {
        return Ok(token);
    };
    // Whose session it is, and so whose audit it belongs to, only its grant says. Without one nobody is known.
    let address = Visit::of(request)?.address;
    if let Ok(granted) = credentials(request)?.grant(token, address).await {
        note(request, &granted, TurnedAway::ForeignPage)?;
    }
    Err(refused)
}

/// The credential of the `Authorization` header.
fn presented(request: &Request) -> Result<&str, Refused> {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Refused::no_credential());
    };
    // Whoever stands in front may have looked at the other one.
    if values.next().is_some() {
        let text = "there is more than one `Authorization` header";
        return Err(Refused::new(Kind::Unauthenticated, text));
    }
    let (scheme, credential) = value
        .to_str()
        .ok()
        .and_then(|value| value.trim().split_once(' '))
        .ok_or_else(|| {
            Refused::new(
                Kind::Unauthenticated,
                "`Authorization` is to be `Bearer` and a credential",
            )
        })?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refused::no_credential());
    }
    Ok(credential.trim())
}
