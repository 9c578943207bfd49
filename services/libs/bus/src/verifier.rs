//! Verifying grants with identity's public keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::grant::{ISSUER, Jwks, LEEWAY_SECONDS};
use contract::identity::JwksGet;
use contract::{Grant, Problem, ProblemKind};
use domain::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sha2::{Digest, Sha256};

use crate::connection::Bus;

/// How often the keys are fetched anew.
const POLL: Duration = Duration::from_secs(60);
/// An unknown key id makes us look, but not more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How many verified grants are remembered, so that a busy credential costs one verification.
const REMEMBERED: usize = 8_192;
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Verifies grants for one audience. Clones share keys and memory.
#[derive(Clone)]
pub struct GrantVerifier {
    inner: Arc<Inner>,
}

struct Inner {
    audience: &'static str,
    source: Option<Bus>,
    keys: Mutex<Keys>,
    fetching: tokio::sync::Mutex<()>,
    verified: Mutex<HashMap<[u8; 32], Grant>>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, DecodingKey>,
    fetched: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while a lock is held; if something did, the data is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(detail: &str) -> Problem {
    Problem::new(ProblemKind::Unauthenticated, detail)
}

impl GrantVerifier {
    /// Verifies with the keys that identity gives over the bus.
    #[must_use]
    pub fn over(bus: &Bus, audience: &'static str) -> Self {
        Self::make(audience, Some(bus.clone()), Keys::default())
    }

    /// Verifies with these keys: identity's own way.
    #[must_use]
    pub fn fixed(jwks: &Jwks, audience: &'static str) -> Self {
        let keys = Keys {
            by_id: decoding_keys(jwks),
            fetched: None,
        };
        Self::make(audience, None, keys)
    }

    fn make(audience: &'static str, source: Option<Bus>, keys: Keys) -> Self {
        let inner = Inner {
            audience,
            source,
            keys: Mutex::new(keys),
            fetching: tokio::sync::Mutex::new(()),
            verified: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The grant that a token carries.
    ///
    /// # Errors
    /// UNAUTHENTICATED when the token is malformed, expired, for somebody else or not signed by identity;
    /// UNAVAILABLE when its key cannot be looked up now.
    pub async fn verify(&self, token: &str) -> Result<Grant, Problem> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = Timestamp::now().millis() / 1_000;
        if let Some(grant) = lock(&self.inner.verified).get(&hash)
            && grant.exp > now
        {
            return Ok(grant.clone());
        }
        let header =
            jsonwebtoken::decode_header(token).map_err(|_| refused("the grant is malformed"))?;
        let kid = header
            .kid
            .ok_or_else(|| refused("the grant names no key"))?;
        let key = self.key(&kid).await?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[self.inner.audience]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.leeway = LEEWAY_SECONDS;
        let grant = jsonwebtoken::decode::<Grant>(token, &key, &validation)
            .map_err(|error| refused(&format!("the grant is not accepted: {error}")))?
            .claims;
        let mut verified = lock(&self.inner.verified);
        if verified.len() >= REMEMBERED {
            verified.retain(|_, grant| grant.exp > now);
            if verified.len() >= REMEMBERED {
                verified.clear();
            }
        }
        verified.insert(hash, grant.clone());
        Ok(grant)
    }

    async fn key(&self, kid: &str) -> Result<DecodingKey, Problem> {
        let known = |fresh_within: Duration| {
            let keys = lock(&self.inner.keys);
            let fresh = self.inner.source.is_none()
                || keys.fetched.is_some_and(|at| at.elapsed() < fresh_within);
            (keys.by_id.get(kid).cloned(), fresh)
        };
        if let (Some(key), true) = known(POLL) {
            return Ok(key);
        }
        let _one_at_a_time = self.inner.fetching.lock().await;
        let (key, just_looked) = known(LOOK_AGAIN);
        if just_looked {
            return key.ok_or_else(|| refused("the grant is signed by an unknown key"));
        }
        let Some(bus) = &self.inner.source else {
            return Err(refused("the grant is signed by an unknown key"));
        };
        match bus.service_call(&JwksGet {}, None, CALL_TIMEOUT).await {
            Ok(jwks) => {
                let mut keys = lock(&self.inner.keys);
                *keys = Keys {
                    by_id: decoding_keys(&jwks),
                    fetched: Some(Instant::now()),
                };
                keys.by_id
                    .get(kid)
                    .cloned()
                    .ok_or_else(|| refused("the grant is signed by an unknown key"))
            }
            // Identity is away: a key that was good a minute ago still is.
            Err(problem) => key.ok_or(problem),
        }
    }
}

fn decoding_keys(jwks: &Jwks) -> HashMap<String, DecodingKey> {
    jwks.keys
        .iter()
        .filter(|key| key.kty == "OKP" && key.crv == "Ed25519")
        .filter_map(|key| {
            Some((
                key.kid.clone(),
                DecodingKey::from_ed_components(&key.x).ok()?,
            ))
        })
        .collect()
}
