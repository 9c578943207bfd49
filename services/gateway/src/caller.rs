//! Who calls. Declared first among an operation's arguments, so that nobody's body is read before it is known whose.

use std::sync::Arc;

use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::credentials::{Credentials, Granted};
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::visit::Visit;

const SCHEME: &str = "bearer";

/// The caller, with the grant that goes to the owners.
#[derive(Debug)]
pub struct Caller(Arc<Granted>);

impl Caller {
    /// The grant's token, for the bus.
    #[must_use]
    pub fn grant(&self) -> &str {
        &self.0.token
    }

    /// What the grant was exchanged for.
    #[must_use]
    pub fn credential(&self) -> domain::CredentialId {
        self.0.credential
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
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let granted = granted(request).await?;
        if granted.legacy {
            let detail = "a legacy key is for the routes of Dash-Fleet alone";
            return Err(Refused::new(Kind::Forbidden, detail).into());
        }
        Ok(Self(granted))
    }
}

impl Caller {
    /// The caller of a route of Dash-Fleet: a legacy key, from where it is taken.
    ///
    /// # Errors
    /// As for every operation; 403 for another credential, or from elsewhere.
    pub async fn legacy(request: &Request) -> Result<Self, Refused> {
        let granted = granted(request).await?;
        if !granted.legacy {
            return Err(Refused::new(Kind::Forbidden, "this needs a legacy key"));
        }
        Ok(Self(granted))
    }
}

/// The grant of the credential that a request presents, from where it is taken, and one request of its rate.
async fn granted(request: &Request) -> Result<Arc<Granted>, Refused> {
    let visit = Visit::of(request)?;
    let credentials = request
        .data::<Arc<Credentials>>()
        .ok_or_else(Refused::internal)?;
    let granted = credentials
        .grant(presented(request)?, visit.address)
        .await?;
    let taken = granted.pace.take();
    // An operation has one caller, so each is set once.
    visit.rate.get_or_init(|| taken);
    visit.caller.get_or_init(|| granted.clone());
    if taken.exceeded {
        let wait = std::time::Duration::from_secs(u64::from(taken.reset_seconds));
        let detail = format!(
            "more than {} requests in this second with this credential",
            taken.limit
        );
        return Err(Refused::rate_limited(detail, wait));
    }
    if !granted.admits(visit.address) {
        let detail = "this key is not taken from this address";
        return Err(Refused::new(Kind::Forbidden, detail));
    }
    Ok(granted)
}

/// The credential of the `Authorization` header.
fn presented(request: &Request) -> Result<&str, Refused> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        return Err(Refused::no_credential());
    };
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
