//! Bytes from one side to the other, for as long as they move.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use crate::config::Patience;

/// How much is on its way in each direction: orders and samples are small, and there are many tunnels.
const BUFFER_BYTES: usize = 4 * 1024;
/// How long a side that is told of the end may take to hear it.
const CLOSING: Duration = Duration::from_secs(1);

/// Why a tunnel ended.
#[derive(Debug)]
pub enum Ended {
    /// The client closed.
    Client,
    /// The server closed.
    Server,
    /// A side broke, or took nothing any more.
    Broken,
    /// Nothing moved.
    Idle,
    /// The gateway ends.
    Shutdown,
}

/// Carries bytes both ways until `end`. `early` is what the server has said already.
pub async fn carry<C, S>(
    client: C,
    server: S,
    early: Vec<u8>,
    patience: Patience,
    end: impl Future<Output = ()>,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Send,
    S: AsyncRead + AsyncWrite + Send,
{
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(server);
    let moved = AtomicU64::new(0);
    let down = async {
        to_client.write_all(&early).await?;
        pump(&mut from_server, &mut to_client, &moved).await
    };
    let ended = tokio::select! {
        up = pump(&mut from_client, &mut to_server, &moved) => match up {
            Ok(()) => Ended::Client,
            Err(error) => broken(&error),
        },
        down = down => match down {
            Ok(()) => Ended::Server,
            Err(error) => broken(&error),
        },
        () = still(&moved, patience.tunnel_idle) => Ended::Idle,
        () = end => Ended::Shutdown,
    };
    // Neither side speaks on when the other is gone: both are closed. What cannot be closed is dropped.
    let closed = async {
        let closed = tokio::join!(to_client.shutdown(), to_server.shutdown());
        drop(closed);
    };
    drop(tokio::time::timeout(CLOSING, closed).await);
    ended
}

fn broken(error: &io::Error) -> Ended {
    tracing::debug!(%error, "a side of a tunnel broke");
    Ended::Broken
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let taken = from.read(&mut buffer).await?;
        if taken == 0 {
            return Ok(());
        }
        moved.fetch_add(1, Ordering::Relaxed);
        to.write_all(buffer.get(..taken).unwrap_or_default())
            .await?;
        to.flush().await?;
    }
}

/// Returns once nothing has moved for so long, at most twice that.
async fn still(moved: &AtomicU64, patience: Duration) {
    let mut seen = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(patience).await;
        let now = moved.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}
