//! The far half of a tunnel: a connection to nats-server's WebSocket port, and the handshake on it.

use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use poem::http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::stream::Stream;

/// The longest head of the server's answer; it has five lines.
const HEAD_MAX: usize = 4 * 1024;
/// The longest value of a client's header that goes on.
const VALUE_MAX: usize = 256;
/// How long the server may take nothing of what a client says. It cuts off its own clients sooner.
const STALLED_WRITE: Duration = Duration::from_secs(30);

/// A connection to a server.
pub type Connection = Stream<TcpStream>;

/// A nats-server's port for WebSocket: `ws://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Host and port.
    authority: String,
    path: String,
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` {why}, and should be like ws://nats:4280");
        let rest = text
            .strip_prefix("ws://")
            .ok_or_else(|| wrong("does not begin with ws://"))?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-:[]/~%".contains(c);
        if !rest.chars().all(plain) {
            return Err(wrong("has a character that no such address has"));
        }
        let after_host = authority.rsplit(']').next().unwrap_or_default();
        let authority = match after_host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => {
                authority.to_owned()
            }
            Some(_) => return Err(wrong("has no usable port")),
            None => format!("{authority}:80"),
        };
        if authority.starts_with(':') {
            return Err(wrong("names no host"));
        }
        Ok(Self {
            authority,
            path: path.to_owned(),
        })
    }
}

/// What a client asks for, as far as it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    key: HeaderValue,
    extensions: Option<HeaderValue>,
}

impl Handshake {
    /// The handshake of a request (RFC 6455, section 4.2.1).
    ///
    /// # Errors
    /// The header that is not as it must be, and how it must be.
    pub fn of(headers: &HeaderMap) -> Result<Self, (HeaderName, &'static str)> {
        if !has_token(headers, &header::UPGRADE, "websocket") {
            let must = "must be `websocket`: this path takes WebSocket connections of agents only";
            return Err((header::UPGRADE, must));
        }
        if !has_token(headers, &header::CONNECTION, "upgrade") {
            let must =
                "must name `Upgrade`; a proxy that is not told to pass upgrades on leaves it out";
            return Err((header::CONNECTION, must));
        }
        let version = headers.get(header::SEC_WEBSOCKET_VERSION);
        if version.is_none_or(|version| version != "13") {
            return Err((header::SEC_WEBSOCKET_VERSION, "must be 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.filter(|key| key.len() == 24 && key.as_bytes().is_ascii());
        let key = key.ok_or((header::SEC_WEBSOCKET_KEY, "must be 16 bytes in Base64"))?;
        let extensions = headers.get(header::SEC_WEBSOCKET_EXTENSIONS);
        Ok(Self {
            key: key.clone(),
            extensions: extensions
                .filter(|value| value.len() <= VALUE_MAX && value.to_str().is_ok())
                .cloned(),
        })
    }

    /// The request to the server. Nothing of the client's goes on but this: no path, no cookie, no credential.
    fn request(&self, upstream: &Upstream, address: IpAddr) -> String {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
            upstream.path, upstream.authority
        );
        // For the server's log. What it decides by, and tells others, is the address that it sees: the gateway's.
        let _ = write!(head, "X-Forwarded-For: {address}\r\n");
        let given = [
            ("Sec-WebSocket-Key", Some(&self.key)),
            ("Sec-WebSocket-Extensions", self.extensions.as_ref()),
        ];
        for (name, value) in given {
            if let Some(value) = value.and_then(|value| value.to_str().ok()) {
                let _ = write!(head, "{name}: {value}\r\n");
            }
        }
        head.push_str("\r\n");
        head
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// What a server answered that takes the connection.
#[derive(Debug)]
pub struct Answer {
    /// The headers for the client.
    pub headers: HeaderMap,
    /// What it has said already.
    pub early: Vec<u8>,
}

/// Connects to a server, a random one first so that they share the agents, and does the handshake.
///
/// # Errors
/// Why none takes the connection, in the last one's words.
pub async fn dial(
    upstreams: &[Upstream],
    handshake: &Handshake,
    address: IpAddr,
) -> Result<(Connection, Answer), String> {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    let first = usize::try_from(bits >> 33).unwrap_or(0) % upstreams.len().max(1);
    let (before, after) = upstreams.split_at(first);
    let mut reason = "there is no server".to_owned();
    for upstream in after.iter().chain(before) {
        match shake(upstream, handshake, address).await {
            Ok(shaken) => return Ok(shaken),
            Err(error) => reason = format!("{}: {error}", upstream.authority),
        }
    }
    Err(reason)
}

async fn shake(
    upstream: &Upstream,
    handshake: &Handshake,
    address: IpAddr,
) -> Result<(Connection, Answer), String> {
    let words = |error: std::io::Error| error.to_string();
    let socket = TcpStream::connect(&upstream.authority)
        .await
        .map_err(words)?;
    socket.set_nodelay(true).map_err(words)?;
    let mut stream = Stream::new(socket, STALLED_WRITE);
    let request = handshake.request(upstream, address);
    stream.write_all(request.as_bytes()).await.map_err(words)?;
    let mut said = Vec::with_capacity(1024);
    loop {
        if let Some(answer) = Answer::read(&said)? {
            return Ok((stream, answer));
        }
        if said.len() >= HEAD_MAX {
            return Err("its answer is too long for a handshake".to_owned());
        }
        if stream.read_buf(&mut said).await.map_err(words)? == 0 {
            return Err("it closed the connection".to_owned());
        }
    }
}

impl Answer {
    /// The answer, when its head is there whole.
    fn read(said: &[u8]) -> Result<Option<Self>, String> {
        let end = b"\r\n\r\n";
        let Some(at) = said.windows(end.len()).position(|part| part == end) else {
            return Ok(None);
        };
        let (head, rest) = said.split_at(at);
        let head = std::str::from_utf8(head).map_err(|error| error.to_string())?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            return Err(format!("it answers `{status}`"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let name: HeaderName = name.trim().parse().map_err(|_| "its head is malformed")?;
            let goes_on = [
                header::SEC_WEBSOCKET_ACCEPT,
                header::SEC_WEBSOCKET_EXTENSIONS,
            ];
            if goes_on.contains(&name) {
                let value = value.trim().parse().map_err(|_| "its head is malformed")?;
                headers.insert(name, value);
            }
        }
        Ok(Some(Self {
            headers,
            early: rest.get(end.len()..).unwrap_or_default().to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers_are_ws_with_a_port_or_eighty() {
        for (text, authority, path) in [
            ("ws://nats:4280", "nats:4280", "/"),
            ("ws://nats", "nats:80", "/"),
            ("ws://[::1]:4280/bus", "[::1]:4280", "/bus"),
            ("ws://[::1]", "[::1]:80", "/"),
        ] {
            let upstream: Upstream = text.parse().expect(text);
            assert_eq!(
                (upstream.authority.as_str(), upstream.path.as_str()),
                (authority, path)
            );
        }
        for text in [
            "wss://nats:4280",
            "nats:4280",
            "ws://",
            "ws://:4280",
            "ws://nats:x",
            "ws://nats:0",
            "ws://user@nats:4280",
            "ws://nats:4280/\r\nX: y",
        ] {
            let error = text.parse::<Upstream>().expect_err(text);
            assert!(error.contains("ws://nats:4280"), "{error}");
        }
    }

    #[test]
    fn an_answer_is_read_with_what_came_behind_it() {
        let text = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: abc=\r\nX-Other: 1\r\n\r\n\x82\x01x";
        for end in 0..text.len() - 3 {
            assert!(Answer::read(&text[..end]).expect("no error").is_none());
        }
        let answer = Answer::read(text).expect("no error").expect("an answer");
        assert_eq!(answer.early, b"\x82\x01x");
        assert_eq!(answer.headers.len(), 3, "nothing but the handshake");
        assert_eq!(answer.headers["sec-websocket-accept"], "abc=");
        let refused = Answer::read(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect_err("refused");
        assert!(refused.contains("400"), "{refused}");
    }
}
