//! Bodies of requests: how large, how slow, how many at once; and what is done with one that nobody wants.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::visit::Visit;

/// The longest body that is taken.
pub const BODY_MAX_BYTES: u64 = 1024 * 1024;
/// The longest one where no credential is asked for: enrolment's is the longest of these, and far below.
pub const OPEN_MAX_BYTES: u64 = 64 * 1024;
/// The longest one of Dash-Fleet's agents and scripts, whose reports have a dozen figures.
pub const LEGACY_MAX_BYTES: u64 = 64 * 1024;
/// A longer one is read and thrown away up to here, so that the client hears the refusal instead of a reset.
pub const DRAIN_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// A body up to here costs no room of its own.
const SMALL_BYTES: u64 = 16 * 1024;
/// All larger bodies together take at most this many KiB.
const ROOM_KIB: usize = 64 * 1024;
/// Those of strangers have a room of their own, so that they cannot fill the others'.
const OPEN_ROOM_KIB: usize = 16 * 1024;

/// The rules for bodies, shared by all requests.
#[derive(Debug)]
pub struct Bodies {
    room: Arc<Semaphore>,
    open_room: Arc<Semaphore>,
    patience: Duration,
}

impl Bodies {
    /// Rules with this much patience for one body.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            open_room: Arc::new(Semaphore::new(OPEN_ROOM_KIB)),
            patience,
        }
    }
}

fn too_large(max: u64) -> Refused {
    Refused::new(
        Kind::TooLarge,
        format!("the body is larger than {max} bytes"),
    )
}

/// The whole body; empty when there is none.
///
/// # Errors
/// [`Kind::TooLarge`] above [`BODY_MAX_BYTES`], or [`OPEN_MAX_BYTES`] when no caller is known; [`Kind::Timeout`] when it
/// comes too slowly; [`Kind::Unavailable`] when too many large ones are held already.
pub async fn read(visit: &Visit) -> Result<Bytes, Refused> {
    let (max, room) = match visit.caller.get() {
        Some(_) => (BODY_MAX_BYTES, &visit.bodies.room),
        None => (OPEN_MAX_BYTES, &visit.bodies.open_room),
    };
    read_within(visit, max, room).await
}

/// The whole body of a caller with a legacy key.
///
/// # Errors
/// As [`read`], above [`LEGACY_MAX_BYTES`].
pub async fn read_legacy(visit: &Visit) -> Result<Bytes, Refused> {
    read_within(visit, LEGACY_MAX_BYTES, &visit.bodies.room).await
}

async fn read_within(visit: &Visit, max: u64, room: &Arc<Semaphore>) -> Result<Bytes, Refused> {
    let Some(body) = visit.take_body() else {
        return Ok(Bytes::new());
    };
    let mut chunks = Box::pin(body.into_bytes_stream());
    let bodies = &visit.bodies;
    let deadline = Instant::now() + bodies.patience;
    let declared = visit.declared;
    if declared.is_some_and(|length| length > max) {
        if !visit.expects {
            throw_away(&mut chunks, 0, deadline).await;
        }
        return Err(too_large(max));
    }
    if declared.is_none_or(|length| length > SMALL_BYTES) {
        let kib = u32::try_from(declared.unwrap_or(max).div_ceil(1024)).unwrap_or(u32::MAX);
        let room = room.clone().acquire_many_owned(kib);
        match timeout_at(deadline, room).await {
            Ok(Ok(room)) => visit.keep_room(room),
            _ => {
                return Err(Refused::new(
                    Kind::Unavailable,
                    "too many large bodies are being read at once",
                ));
            }
        }
    }
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut length = 0;
    loop {
        let chunk = match timeout_at(deadline, chunks.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => {
                return Err(Refused::new(
                    Kind::Invalid,
                    format!("the body ended too early: {error}"),
                ));
            }
            Ok(None) => break,
            Err(_) => {
                return Err(Refused::new(
                    Kind::Timeout,
                    "the body did not arrive in time",
                ));
            }
        };
        length += chunk.len() as u64;
        if length > max {
            throw_away(&mut chunks, length, deadline).await;
            return Err(too_large(max));
        }
        // Nearly every body is one chunk, and then it is not copied.
        match first.take() {
            None if rest.is_empty() => first = Some(chunk),
            None => rest.extend_from_slice(&chunk),
            Some(earlier) => {
                rest.extend_from_slice(&earlier);
                rest.extend_from_slice(&chunk);
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

/// Reads and forgets what is left of a body that nobody took, so that the client hears the answer and can go on
/// using the connection. Not when the client still waits for leave to send it.
pub async fn discard(visit: &Visit) {
    if let Some(body) = visit.take_body()
        && !visit.expects
        && visit
            .declared
            .is_none_or(|length| length <= DRAIN_MAX_BYTES)
    {
        let mut chunks = Box::pin(body.into_bytes_stream());
        throw_away(&mut chunks, 0, Instant::now() + visit.bodies.patience).await;
    }
}

async fn throw_away<S, E>(chunks: &mut S, mut length: u64, deadline: Instant)
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    while let Ok(Some(Ok(chunk))) = timeout_at(deadline, chunks.next()).await {
        length += chunk.len() as u64;
        if length > DRAIN_MAX_BYTES {
            return;
        }
    }
}
