//! `/nats`: the way to the bus for agents whose network lets out nothing but HTTPS. It is no part of the document: what
//! follows the handshake is no HTTP.

use poem::endpoint::make;
use poem::http::{Method, StatusCode};
use poem::{EndpointExt, Request, Response};

use contract::FieldError;

use crate::error::Refused;
use crate::routes::Unversioned;
use crate::tunnel::{Handshake, Tunnels};
use crate::visit::Visit;

/// The path that agents' URLs end in: `wss://fleet.example.org/nats`.
pub const PATH: &str = "/nats";

/// The route.
#[must_use]
pub fn all(tunnels: &Tunnels) -> Vec<Unversioned> {
    let tunnels = tunnels.clone();
    let endpoint = make(move |request: Request| {
        let tunnels = tunnels.clone();
        async move {
            let answered = connect(&tunnels, &request).await;
            answered.map_err(poem::Error::from)
        }
    });
    vec![(Method::GET, PATH, endpoint.map_to_response().boxed())]
}

async fn connect(tunnels: &Tunnels, request: &Request) -> Result<Response, Refused> {
    tunnels.offered()?;
    let wrong = |path: &str, message: &str| {
        Refused::invalid(vec![FieldError {
            path: path.to_owned(),
            message: message.to_owned(),
        }])
    };
    let handshake = Handshake::of(request.headers())
        .map_err(|(header, must)| wrong(&title(header.as_str()), must))?;
    let client = request
        .take_upgrade()
        .ok()
        .filter(|_| request.method() == Method::GET)
        .ok_or_else(|| wrong("Upgrade", "needs a GET request of HTTP/1.1"))?;
    let address = Visit::of(request)?.address;
    let mut opened = tunnels.open(&handshake, address).await?;
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .finish();
    *response.headers_mut() = std::mem::take(&mut opened.answer.headers);
    tunnels.carry(opened, client);
    Ok(response)
}

/// A header's name as people write it: `sec-websocket-key` is `Sec-Websocket-Key`.
fn title(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}
