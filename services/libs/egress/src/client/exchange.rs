//! A connection, one message on it, and its answer, as far as it is wanted.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::hop::Place;
use crate::error::EgressError;
use crate::request::{Response, Take, headers_of};

/// How long one address may take to accept a connection; then the next one is tried.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The longest head of an answer, in bytes.
const HEAD_MAX_BYTES: usize = 32 * 1024;
/// What is read ahead of who takes it, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// What HTTP is spoken over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

type Wired = Connection<TokioIo<Box<dyn Wire>>, Full<Bytes>>;

/// Connects to the first of these addresses that accepts, and encrypts in the place's name.
pub(super) async fn connect(
    place: &Place,
    addresses: &[SocketAddr],
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Box<dyn Wire>, EgressError> {
    let stream = tcp(place, addresses).await?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let failed = |reason: String| EgressError::Tls {
        host: place.host.clone(),
        reason,
    };
    let name = match place.host.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => {
            ServerName::try_from(place.host.clone()).map_err(|error| failed(error.to_string()))?
        }
    };
    let encrypted = TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(Box::new(encrypted))
}

async fn tcp(place: &Place, addresses: &[SocketAddr]) -> Result<TcpStream, EgressError> {
    let mut reason = "there is no address".to_owned();
    for address in addresses {
        match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "small packets may wait");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => reason = error.kind().to_string(),
            Err(_) => reason = "nobody answers".into(),
        }
    }
    Err(EgressError::Unreachable {
        host: place.host.clone(),
        port: place.port,
        reason,
    })
}

/// An answer whose head has come.
pub(super) struct Exchange {
    wire: Open,
    host: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    /// Kept: without it the connection would be about to end.
    _sender: SendRequest<Full<Bytes>>,
}

/// A connection that is moved on while somebody waits for what comes over it, and at no other time.
struct Open(Option<Pin<Box<Wired>>>);

impl Open {
    async fn during<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            let ended = match self.0.as_mut() {
                Some(wire) => wire.as_mut().poll(context).is_ready(),
                None => false,
            };
            // Whoever waits on it learns of its end by its being gone.
            if ended {
                self.0 = None;
            }
            work.as_mut().poll(context)
        })
        .await
    }
}

impl Exchange {
    /// Sends the message and waits for the head of the answer.
    pub async fn begin(
        io: Box<dyn Wire>,
        host: &str,
        message: hyper::Request<Full<Bytes>>,
    ) -> Result<Self, EgressError> {
        let failed = |error: hyper::Error| protocol(host, &error);
        let (mut sender, wire) = Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .max_header_size(HEAD_MAX_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(failed)?;
        let mut wire = Open(Some(Box::pin(wire)));
        let answer = sender.send_request(message);
        let answer = wire.during(answer).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        Ok(Self {
            wire,
            host: host.to_owned(),
            status: head.status,
            headers: head.headers,
            body,
            _sender: sender,
        })
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The answer, with as much of its body as is wanted.
    pub async fn take(mut self, take: Take, url: String) -> Result<Response, EgressError> {
        let (body, truncated) = match take {
            Take::Head => (Bytes::new(), !self.body.is_end_stream()),
            Take::First(most) => self.read(most).await?,
            Take::All(most) => {
                // What says that it is too long is not read at all.
                let said = self.body.size_hint().lower();
                if said > u64::try_from(most).unwrap_or(u64::MAX) {
                    return Err(EgressError::TooLarge(most));
                }
                match self.read(most).await? {
                    (_, true) => return Err(EgressError::TooLarge(most)),
                    whole => whole,
                }
            }
        };
        Ok(Response {
            status: self.status.as_u16(),
            headers: headers_of(&self.headers),
            body,
            truncated,
            url,
        })
    }

    /// At most so many bytes, and whether there were more.
    async fn read(&mut self, most: usize) -> Result<(Bytes, bool), EgressError> {
        let mut taken = BytesMut::new();
        loop {
            let Some(frame) = self.wire.during(self.body.frame()).await else {
                return Ok((taken.freeze(), false));
            };
            let frame = frame.map_err(|error| protocol(&self.host, &error))?;
            // Trailers say nothing that anybody asks for.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let room = most.saturating_sub(taken.len());
            taken.extend_from_slice(data.get(..room).unwrap_or(&data));
            if data.len() > room {
                return Ok((taken.freeze(), true));
            }
        }
    }
}

fn protocol(host: &str, error: &hyper::Error) -> EgressError {
    EgressError::Protocol {
        host: host.to_owned(),
        reason: error.to_string(),
    }
}
