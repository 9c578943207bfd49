//! A client of a few lines that says to the server exactly what a test wants.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use testkit::Nats;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub struct RawAgent {
    stream: BufReader<TcpStream>,
}

impl RawAgent {
    /// Connects honestly.
    pub async fn connect(nats: &Nats, key: &KeyPair) -> Result<Self, String> {
        Self::connect_with(
            nats,
            |nonce| json!({ "nkey": key.public_key(), "sig": sign(key, nonce.as_bytes()) }),
        )
        .await
    }

    /// Connects with what `options` makes of the server's nonce.
    pub async fn connect_with(
        nats: &Nats,
        options: impl FnOnce(&str) -> Value,
    ) -> Result<Self, String> {
        let address = nats.url().replace("nats://", "");
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let info: Value = serde_json::from_str(line.trim_start_matches("INFO ")).unwrap();
        let mut options = options(info["nonce"].as_str().unwrap());
        for (name, value) in [("verbose", false), ("pedantic", false), ("headers", true)] {
            options[name] = value.into();
        }
        options["protocol"] = 1.into();
        let hello = format!("CONNECT {options}\r\nPING\r\n");
        stream.write_all(hello.as_bytes()).await.unwrap();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(25), stream.read_line(&mut line));
            match read.await.expect("the server answers") {
                Ok(0) | Err(_) => return Err("closed".into()),
                Ok(_) if line.starts_with("-ERR") => return Err(line.trim().to_owned()),
                Ok(_) if line.starts_with("PONG") => return Ok(Self { stream }),
                Ok(_) => {}
            }
        }
    }

    /// Waits until the server closes the connection.
    pub async fn closed(mut self) {
        let mut buffer = [0; 4_096];
        while matches!(self.stream.read(&mut buffer).await, Ok(read) if read > 0) {}
    }
}

pub fn sign(key: &KeyPair, message: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(key.sign(message).unwrap())
}
