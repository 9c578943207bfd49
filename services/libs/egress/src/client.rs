//! Doing it: resolve once, look at every address, connect to one of those, and the same again for each redirect.
//!
//! Nothing is spawned: the connection lives in the future of its request, and ends with it. So whoever drops the future,
//! because a lease is over or somebody cancelled, sends nothing any more.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;

use crate::decision::{Target, admit, decide};
use crate::error::EgressError;
use crate::pace::Pace;
use crate::request::{BODY_MAX_BYTES, REDIRECTS_MAX, Request, Response, TIME_MAX};
use crate::resolve::{Resolve, System};
use crate::rules::Rules;

mod exchange;
mod hop;

use exchange::Exchange;
use hop::{Hop, Place};

/// How many requests are under way at once in a process; more wait, within their time limit.
const AT_ONCE: usize = 512;

/// The way out. Clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    rules: Rules,
    resolver: Box<dyn Resolve>,
    tls: Arc<ClientConfig>,
    slots: Semaphore,
    pace: Pace,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("rules", &self.inner.rules)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these rules. It trusts the system's authorities, and those in `ca` (PEM) besides.
    ///
    /// # Errors
    /// [`EgressError::Setup`] when `ca` has no certificate, or TLS cannot be set up.
    pub fn new(rules: Rules, ca: Option<&[u8]>) -> Result<Self, EgressError> {
        Self::with_resolver(rules, ca, System)
    }

    /// The same, with another resolver.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_resolver(
        rules: Rules,
        ca: Option<&[u8]>,
        resolver: impl Resolve + 'static,
    ) -> Result<Self, EgressError> {
        Ok(Self {
            inner: Arc::new(Inner {
                rules,
                resolver: Box::new(resolver),
                tls: Arc::new(tls(ca)?),
                slots: Semaphore::new(AT_ONCE),
                pace: Pace::default(),
            }),
        })
    }

    /// Makes a request and follows where it leads. Everything that belongs to it ends with the future.
    ///
    /// # Errors
    /// [`EgressError`]
    pub async fn fetch(&self, request: Request) -> Result<Response, EgressError> {
        let limit = request.limit.min(TIME_MAX);
        // In a box: what is in it is large, and callers hold it in futures of theirs.
        let work = Box::pin(self.in_turn(&request, limit));
        match tokio::time::timeout(limit, work).await {
            Ok(ended) => ended,
            Err(_) => Err(EgressError::Timeout(limit.as_millis())),
        }
    }

    async fn in_turn(&self, request: &Request, limit: Duration) -> Result<Response, EgressError> {
        let mut hop = Hop::first(request)?;
        if request.body.len() > BODY_MAX_BYTES {
            let bytes = request.body.len();
            return Err(EgressError::invalid(
                "body",
                format!("{bytes} bytes; at most {BODY_MAX_BYTES}"),
            ));
        }
        let pause = self.inner.pace.take(request.tenant, Instant::now());
        if pause >= limit {
            return Err(EgressError::Pace);
        }
        tokio::time::sleep(pause).await;
        // The semaphore is never closed.
        let _slot = self
            .inner
            .slots
            .acquire()
            .await
            .map_err(|_| EgressError::Pace)?;
        let most = request.redirects.min(REDIRECTS_MAX);
        for followed in 0..=most {
            let exchange = self.exchange(&hop, request).await?;
            let next = if most == 0 {
                None
            } else {
                hop.follow(exchange.status(), exchange.headers())?
            };
            match next {
                None => return exchange.take(request.take, hop.url()).await,
                Some(next) if followed < most => hop = next,
                Some(_) => {}
            }
        }
        Err(EgressError::Redirects(most))
    }

    /// One request and its answer's head.
    async fn exchange(&self, hop: &Hop, request: &Request) -> Result<Exchange, EgressError> {
        let place = hop.place()?;
        let target = Target {
            scheme: hop.scheme(),
            host: &place.host,
            port: place.port,
        };
        // Before anybody is asked: a name that may not be reached is not resolved either.
        admit(&target, &request.policy, &self.inner.rules)?;
        let addresses = self.addresses(&place).await?;
        let allowed = decide(&target, &addresses, &request.policy, &self.inner.rules).inspect_err(
            |refusal| {
                tracing::debug!(
                    host = place.host,
                    ?refusal,
                    ?addresses,
                    "a request is refused"
                );
            },
        )?;
        let io = exchange::connect(
            &place,
            &allowed,
            hop.is_encrypted().then_some(&self.inner.tls),
        )
        .await?;
        Exchange::begin(io, &place.host, hop.message()?).await
    }

    async fn addresses(&self, place: &Place) -> Result<Vec<IpAddr>, EgressError> {
        if let Some(address) = place.address {
            return Ok(vec![address]);
        }
        self.inner
            .resolver
            .resolve(&place.host)
            .await
            .map_err(|error| {
                tracing::debug!(host = place.host, %error, "a name is not resolved");
                EgressError::Unresolved(place.host.clone())
            })
    }
}

/// TLS on ring, whatever else the process has installed.
fn tls(ca: Option<&[u8]>) -> Result<ClientConfig, EgressError> {
    let setup = |reason: String| EgressError::Setup(reason);
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "some of the system's authorities cannot be read");
    }
    let (known, _) = roots.add_parsable_certificates(system.certs);
    if known == 0 {
        tracing::warn!("the system has no authorities: https reaches nobody");
    }
    if let Some(pem) = ca {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| setup(format!("the certificates of authorities: {error}")))?;
        if certificates.is_empty() {
            return Err(setup("the file of authorities has no certificate".into()));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| setup(format!("the certificate of an authority: {error}")))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
