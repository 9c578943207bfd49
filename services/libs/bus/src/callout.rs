//! The auth callout: the server asks, for every connection that its own configuration does not know, whether
//! it may be, and as whom. Requests and answers are NATS JWTs, sealed with x25519 keys (NATS ADR-26).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use domain::{MachineId, OrgId, Timestamp};
use futures::StreamExt;
use nkeys::{KeyPair, XKey};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::connection::Bus;
use crate::error::BusError;

/// The server's public x25519 key travels in this header.
const SERVER_XKEY: &str = "Nats-Server-Xkey";
/// How many callouts are decided at once.
const CONCURRENCY: usize = 256;
/// The server waits this long for an answer (`authorization.timeout`); older questions are not worth one.
pub const SERVER_PATIENCE: Duration = Duration::from_secs(20);

/// Somebody wants to connect.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The public key that it shows. The signature over the server's nonce has been verified.
    pub public_key: String,
    /// The network address it comes from, as the server sees it.
    pub host: String,
    /// The server.
    pub server: String,
    /// The connection's number on the server.
    pub cid: u64,
}

/// The agent that it turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its organisation.
    pub org: OrgId,
    /// Itself.
    pub machine: MachineId,
    /// How long until the server closes the connection and it must come again.
    pub lifetime: Duration,
}

/// The keys of the callout.
pub struct CalloutKeys {
    /// The account key that signs answers; its public half is in the server's configuration.
    pub issuer: KeyPair,
    /// The x25519 key that opens requests; its public half likewise.
    pub xkey: XKey,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: i64,
    nats: Request,
}

#[derive(Deserialize)]
struct Request {
    server_id: ServerId,
    user_nkey: String,
    client_info: ClientInfo,
    connect_opts: ConnectOpts,
}

#[derive(Deserialize)]
struct ServerId {
    id: String,
}

#[derive(Deserialize)]
struct ClientInfo {
    #[serde(default)]
    host: String,
    id: u64,
    #[serde(default)]
    nonce: String,
}

#[derive(Deserialize)]
struct ConnectOpts {
    #[serde(default)]
    nkey: String,
    #[serde(default)]
    sig: String,
}

/// Answers callouts until the bus closes: `decide` sees an attempt whose proof of possession has been verified,
/// and says as whom it may connect or why not.
///
/// # Errors
/// [`BusError::Unavailable`] when the client is closed.
pub async fn serve<D, F>(bus: &Bus, keys: CalloutKeys, decide: D) -> Result<(), BusError>
where
    D: Fn(Attempt) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Admitted, String>> + Send + 'static,
{
    let mut questions = bus
        .client
        .queue_subscribe("$SYS.REQ.USER.AUTH", "identity".into())
        .await
        .map_err(|error| BusError::Unavailable(error.to_string()))?;
    let keys = Arc::new(keys);
    let slots = Arc::new(Semaphore::new(CONCURRENCY));
    while let Some(message) = questions.next().await {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        let (bus, keys, decide) = (bus.clone(), keys.clone(), decide.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(&bus, &keys, &message, decide).await {
                tracing::warn!(%error, "a callout was not answered");
            }
            drop(slot);
        });
    }
    Ok(())
}

async fn answer<D, F>(
    bus: &Bus,
    keys: &CalloutKeys,
    message: &async_nats::Message,
    decide: D,
) -> Result<(), BusError>
where
    D: Fn(Attempt) -> F,
    F: Future<Output = Result<Admitted, String>>,
{
    let malformed = |what: &str| BusError::Malformed(what.to_owned());
    let reply = message
        .reply
        .clone()
        .ok_or_else(|| malformed("the server wants no answer"))?;
    let server_xkey = crate::trace::header(message.headers.as_ref(), SERVER_XKEY)
        .ok_or_else(|| malformed("the request is not sealed"))?;
    let server_xkey = XKey::from_public_key(server_xkey)
        .map_err(|_| malformed("the server's key is malformed"))?;
    let token = keys
        .xkey
        .open(&message.payload, &server_xkey)
        .map_err(|_| malformed("the request cannot be opened"))?;
    let claims =
        verify_jwt(&token).ok_or_else(|| malformed("the request is not signed by the server"))?;
    let age = Timestamp::now().millis() / 1_000 - claims.iat;
    if age > SERVER_PATIENCE.as_secs() as i64 {
        return Err(malformed("too old: the server no longer waits"));
    }
    let request = claims.nats;
    let decision = match prove(&request) {
        Ok(attempt) => decide(attempt).await,
        Err(refusal) => Err(refusal),
    };
    let mut nats = json!({ "type": "authorization_response", "version": 2 });
    match &decision {
        Ok(admitted) => insert(
            &mut nats,
            "jwt",
            user_jwt(keys, &request.user_nkey, admitted)?.into(),
        ),
        Err(refusal) => insert(&mut nats, "error", refusal.as_str().into()),
    }
    let response = json!({ "sub": request.user_nkey, "aud": request.server_id.id, "nats": nats });
    let sealed = keys
        .xkey
        .seal(sign_jwt(&keys.issuer, response)?.as_bytes(), &server_xkey)
        .map_err(|error| BusError::Malformed(error.to_string()))?;
    bus.client
        .publish(reply, Bytes::from(sealed))
        .await
        .map_err(|error| BusError::Unavailable(error.to_string()))
}

/// The server only passes on what the client said: whether it holds the key is for us to verify.
fn prove(request: &Request) -> Result<Attempt, String> {
    let opts = &request.connect_opts;
    if opts.nkey.is_empty() || opts.sig.is_empty() || request.client_info.nonce.is_empty() {
        return Err("an nkey and its signature are required".into());
    }
    let key =
        KeyPair::from_public_key(&opts.nkey).map_err(|_| "the nkey is malformed".to_owned())?;
    let signature = URL_SAFE_NO_PAD
        .decode(opts.sig.trim_end_matches('='))
        .map_err(|_| "the signature is malformed".to_owned())?;
    key.verify(request.client_info.nonce.as_bytes(), &signature)
        .map_err(|_| "the signature does not fit".to_owned())?;
    Ok(Attempt {
        public_key: opts.nkey.clone(),
        host: request.client_info.host.clone(),
        server: request.server_id.id.clone(),
        cid: request.client_info.id,
    })
}

fn user_jwt(keys: &CalloutKeys, user_nkey: &str, admitted: &Admitted) -> Result<String, BusError> {
    let expires = Timestamp::now().millis() / 1_000 + admitted.lifetime.as_secs() as i64;
    sign_jwt(
        &keys.issuer,
        json!({
            "sub": user_nkey,
            "aud": "APP",
            "name": contract::subject::agent_user(admitted.org, admitted.machine),
            "exp": expires,
            "nats": contract::permissions::agent_permissions(admitted.org, admitted.machine),
        }),
    )
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

fn sign_jwt(key: &KeyPair, mut claims: Value) -> Result<String, BusError> {
    insert(&mut claims, "iss", key.public_key().into());
    insert(
        &mut claims,
        "iat",
        (Timestamp::now().millis() / 1_000).into(),
    );
    insert(
        &mut claims,
        "jti",
        uuid::Uuid::new_v4().simple().to_string().into(),
    );
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key
        .sign(signed.as_bytes())
        .map_err(|error| BusError::Config(error.to_string()))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn verify_jwt(token: &[u8]) -> Option<Claims> {
    let token = std::str::from_utf8(token).ok()?;
    let (signed, signature) = token.rsplit_once('.')?;
    let claims: Claims =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()?;
    let issuer = KeyPair::from_public_key(&claims.iss).ok()?;
    issuer
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?)
        .ok()?;
    // A server's id is its public key: nobody speaks for another server.
    (claims.iss == claims.nats.server_id.id).then_some(claims)
}
