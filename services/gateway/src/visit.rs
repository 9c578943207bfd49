//! One request's stay in the gateway: what the outermost endpoint and the innermost extractor both need to know.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use poem::{Body, Request};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::Bodies;
use crate::browser::{Browsers, session::Cookies};
use crate::credentials::Granted;
use crate::error::Refused;
use crate::limits::bucket::Taken;
use crate::routes::Routes;

/// What all requests share.
#[derive(Clone, Debug)]
pub struct House {
    /// What the router knows.
    pub routes: Arc<Routes>,
    /// The rules for bodies.
    pub bodies: Arc<Bodies>,
    /// What browsers may do.
    pub browsers: Arc<Browsers>,
}

/// What the network says of a request.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The client's address.
    pub address: IpAddr,
    /// Whether that seems to be a proxy's of which nobody told us.
    pub unknown_proxy: bool,
    /// Whether the client speaks TLS, with us or with a proxy that is trusted.
    pub https: bool,
    /// How long its body is said to be.
    pub declared: Option<u64>,
    /// Whether the client waits for a word before it sends the body.
    pub expects: bool,
}

/// One request's stay.
#[derive(Debug)]
pub struct Visit {
    /// The client's address.
    pub address: IpAddr,
    /// Whether that seems to be a proxy's of which nobody told us.
    pub unknown_proxy: bool,
    /// Whether the client speaks TLS.
    pub https: bool,
    /// How long its body is said to be.
    pub declared: Option<u64>,
    /// Whether the client waits for a word before it sends the body.
    pub expects: bool,
    /// What the router knows.
    pub routes: Arc<Routes>,
    /// The rules for bodies.
    pub bodies: Arc<Bodies>,
    /// What browsers may do.
    pub browsers: Arc<Browsers>,
    /// Who it turned out to be.
    pub caller: OnceLock<Arc<Granted>>,
    /// What the answer puts into the browser's cookies.
    pub cookies: OnceLock<Cookies>,
    /// How the limit stands that holds back the most.
    rate: Mutex<Option<Taken>>,
    body: Mutex<Option<Body>>,
    room: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Visit {
    /// A stay that begins.
    #[must_use]
    pub fn new(arrival: Arrival, house: House, body: Option<Body>) -> Self {
        Self {
            address: arrival.address,
            unknown_proxy: arrival.unknown_proxy,
            https: arrival.https,
            declared: arrival.declared,
            expects: arrival.expects,
            routes: house.routes,
            bodies: house.bodies,
            browsers: house.browsers,
            caller: OnceLock::new(),
            cookies: OnceLock::new(),
            rate: Mutex::default(),
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

    /// Notes how a limit stands, for the answer.
    pub fn note_rate(&self, taken: Taken) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        *rate = Some(rate.map_or(taken, |noted| noted.tighter(taken)));
    }

    /// How the limit stands that holds back the most, if any was asked.
    pub fn rate(&self) -> Option<Taken> {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner)
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
