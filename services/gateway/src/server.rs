//! Accepting connections. poem's own server has no limit on how long a client may take for the head of a request, so
//! this one drives hyper itself: slow clients are cut off, what is under way at the end is finished, for so long.

pub mod stream;

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use poem::http::header::{CONNECTION, HeaderValue};
use poem::http::uri::Scheme;
use poem::http::{StatusCode, Version};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};
use prometheus::IntGauge;
use runtime::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::stream::Stream;
use crate::config::Patience;

/// How many connections are served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16_384;
/// How many requests one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 250;
/// How many headers a request may have, and how many bytes its head.
const HEADERS_MAX: usize = 100;
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// How often a silent HTTP/2 connection is asked whether it lives, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// After an accept fails (no file descriptors, most likely) trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
struct Shared<E> {
    app: E,
    builder: Builder<TokioExecutor>,
    patience: Patience,
    open: IntGauge,
    local: SocketAddr,
    /// No new requests.
    stop: CancellationToken,
    /// No more patience with those under way.
    abort: CancellationToken,
}

/// The requests of one connection, counted. HTTP/1 has a limit on how long it may be idle; HTTP/2 has none of its own, and
/// a connection that answers pings could stay for ever.
#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Requests {
    /// Returns when nothing was asked for so long, at most twice that.
    async fn idle(&self, patience: Duration) {
        let mut seen = 0;
        loop {
            tokio::time::sleep(patience).await;
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == seen && begun == self.ended.load(Ordering::Relaxed) {
                return;
            }
            seen = begun;
        }
    }
}

/// A request until it is answered, or dropped.
struct UnderWay(Arc<Requests>);

impl UnderWay {
    fn begin(requests: &Arc<Requests>) -> Self {
        requests.begun.fetch_add(1, Ordering::Relaxed);
        Self(requests.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves until the shutdown begins, then finishes what is under way, for at most `limit`.
pub async fn serve<E>(
    listener: TcpListener,
    app: E,
    patience: Patience,
    open: IntGauge,
    shutdown: Shutdown,
    limit: Duration,
) where
    E: Endpoint<Output = Response> + 'static,
{
    let local = listener
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let shared = Arc::new(Shared {
        app,
        builder: builder(&patience),
        patience,
        open,
        local,
        stop: CancellationToken::new(),
        abort: CancellationToken::new(),
    });
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let linger = async {
        shutdown.begun().await;
        tokio::time::sleep(patience.linger).await;
    };
    tokio::pin!(linger);
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = &mut linger => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    connection(&shared, socket, peer).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    shared.stop.cancel();
    connections.close();
    if tokio::time::timeout(limit, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            open = connections.len(),
            "connections are cut off: their requests did not end in time"
        );
        shared.abort.cancel();
        connections.wait().await;
    }
}

fn builder(patience: &Patience) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.next_request)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_MAX_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn connection<E>(shared: &Arc<Shared<E>>, socket: TcpStream, peer: SocketAddr)
where
    E: Endpoint<Output = Response> + 'static,
{
    // Answers are small and wanted at once: Nagle's algorithm would hold them back for an acknowledgement.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    shared.open.inc();
    let requests = Arc::new(Requests::default());
    let service = service_fn({
        let (shared, requests) = (shared.clone(), requests.clone());
        move |request: hyper::Request<Incoming>| {
            let under_way = UnderWay::begin(&requests);
            let shared = shared.clone();
            async move {
                let _under_way = under_way;
                let (local, remote) = (LocalAddr(shared.local.into()), RemoteAddr(peer.into()));
                let version = request.version();
                let request = (request, local, remote, Scheme::HTTP).into();
                let mut response = shared.app.get_response(request).await;
                if shared.stop.is_cancelled()
                    && version < Version::HTTP_2
                    && response.status() != StatusCode::SWITCHING_PROTOCOLS
                {
                    response
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<hyper::Response<_>, Infallible>(response.into())
            }
        }
    });
    let io = TokioIo::new(Stream::new(socket, shared.patience.stalled_write));
    let served = shared.builder.serve_connection_with_upgrades(io, service);
    tokio::pin!(served);
    let silent = async {
        tokio::time::sleep(shared.patience.first_request).await;
        if requests.begun.load(Ordering::Relaxed) > 0 {
            pending::<()>().await;
        }
    };
    let asked_to_end = async {
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = requests.idle(shared.patience.next_request) => {}
        }
    };
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = silent => Ok(()),
        () = asked_to_end => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served.as_mut() => ended,
                () = shared.abort.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
    shared.open.dec();
}
