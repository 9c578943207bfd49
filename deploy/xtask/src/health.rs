//! Asking a process whether it is ready, in its own protocol.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::http;

/// How long one question may take.
const LIMIT: Duration = Duration::from_millis(1500);

/// How to ask one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "port")]
pub enum Probe {
    /// It cannot be asked: living is enough.
    Alive,
    /// nats-server on this port greets with its INFO line.
    Nats(u16),
    /// PostgreSQL on this port asks for a password.
    Postgres(u16),
    /// The admin port answers `/readyz` with 200.
    Ready(u16),
}

impl Probe {
    /// Asks: `Ok` when it is ready, else why not.
    pub fn ask(self) -> Result<(), String> {
        match self {
            Self::Alive => Ok(()),
            Self::Nats(port) => nats(port),
            Self::Postgres(port) => postgres(port),
            Self::Ready(port) => ready(port),
        }
    }
}

fn connect(port: u16) -> Result<TcpStream, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let open = || {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(stream)
    };
    open().map_err(|_: std::io::Error| format!("not listening on {port}"))
}

fn nats(port: u16) -> Result<(), String> {
    let mut greeting = [0_u8; 5];
    match connect(port)?.read_exact(&mut greeting) {
        Ok(()) if &greeting == b"INFO " => Ok(()),
        _ => Err("no greeting".to_owned()),
    }
}

/// Begins a session and reads the first byte of the answer: `R` asks for credentials, so the server takes sessions.
/// While it recovers or stops it answers `E` with SQLSTATE 57P03.
fn postgres(port: u16) -> Result<(), String> {
    const VERSION_3: u32 = 196_608;
    let names = b"user\0postgres\0database\0postgres\0\0";
    let mut hello = Vec::new();
    let length = u32::try_from(names.len() + 8).unwrap_or_default();
    hello.extend_from_slice(&length.to_be_bytes());
    hello.extend_from_slice(&VERSION_3.to_be_bytes());
    hello.extend_from_slice(names);
    let mut stream = connect(port)?;
    let mut answer = [0_u8; 1];
    match stream
        .write_all(&hello)
        .and_then(|()| stream.read_exact(&mut answer))
    {
        Ok(()) if &answer == b"R" => Ok(()),
        Ok(()) if &answer == b"E" => Err("starting up".to_owned()),
        _ => Err("no answer".to_owned()),
    }
}

fn ready(port: u16) -> Result<(), String> {
    let response = http::get(&format!("http://127.0.0.1:{port}/readyz"), None, LIMIT)
        .map_err(|_| format!("not answering on {port}"))?;
    match response.status {
        200 => Ok(()),
        _ => {
            // The body says what is missing; its first line is enough for a table.
            let reason = response.body.lines().next().unwrap_or_default().trim();
            let reason: String = reason
                .chars()
                .filter(|letter| !letter.is_control())
                .take(60)
                .collect();
            Err(if reason.is_empty() {
                format!("status {}", response.status)
            } else {
                reason
            })
        }
    }
}
