//! One request's stay in the gateway: what the outermost endpoint and the innermost extractor both need to know.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use poem::{Body, Request};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::Bodies;
use crate::credentials::Granted;
use crate::credentials::pace::Taken;
use crate::error::Refused;

/// One request's stay.
#[derive(Debug)]
pub struct Visit {
    /// The client's address.
    pub address: IpAddr,
    /// How long its body is said to be.
    pub declared: Option<u64>,
    /// Whether the client waits for a word before it sends the body.
    pub expects: bool,
    /// The rules for bodies.
    pub bodies: Arc<Bodies>,
    /// Who it turned out to be.
    pub caller: OnceLock<Arc<Granted>>,
    /// What is left of the caller's rate.
    pub rate: OnceLock<Taken>,
    body: Mutex<Option<Body>>,
    room: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Visit {
    /// A stay that begins.
    #[must_use]
    pub fn new(
        address: IpAddr,
        declared: Option<u64>,
        expects: bool,
        bodies: Arc<Bodies>,
        body: Option<Body>,
    ) -> Self {
        Self {
            address,
            declared,
            expects,
            bodies,
            caller: OnceLock::new(),
            rate: OnceLock::new(),
            body: Mutex::new(body),
            room: Mutex::new(None),
        }
    }

    /// The stay that this request is part of.
    ///
    /// # Errors
    /// Our fault: the request did not come through the outermost endpoint.
    pub fn of(request: &Request) -> Result<&Arc<Self>, Refused> {
        request.data::<Arc<Self>>().ok_or_else(Refused::internal)
    }

    /// The body, once; `None` when there is none or it was taken.
    pub fn take_body(&self) -> Option<Body> {
        self.body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Keeps the room that a large body takes until the stay ends.
    pub fn keep_room(&self, room: OwnedSemaphorePermit) {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
    }
}
