//! Whether each server of the bus can be reached, and greets as one. What is asked is what the agent would do: no proxy,
//! the enrolment's authority where it gave one.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::{Certificate, StatusCode, Url};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

use crate::care::diagnose::Finding;
use crate::enroll::{said, words};
use crate::state::enrolment::Enrolment;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What to do about a server that is not reached.
const ADVICE: &str = "Look at the name, the network and the firewall: the agent needs one outgoing connection to one of \
                      the bus' servers, and uses no proxy for it.";
/// The longest first line of a server; it has some hundred bytes.
const INFO_MAX: u64 = 64 * 1024;
/// The longest head of a WebSocket frame from a server (RFC 6455, section 5.2).
const FRAME_HEAD_MAX: usize = 10;

/// A finding for each server of an enrolment, in their order; which one is used, where an agent says so.
pub async fn findings(enrolment: &Enrolment, used: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for url in &enrolment.enrolled.nats_urls {
        let mark = if used == Some(url.as_str()) {
            " The agent uses it."
        } else {
            ""
        };
        let reached = async {
            bus::check_agent_url(url).map_err(|error| error.to_string())?;
            let ca = enrolment.enrolled.nats_ca.as_deref();
            tokio::time::timeout(PATIENCE, greeting(url, ca))
                .await
                .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
        };
        findings.push(match reached.await {
            Ok(()) => Finding::well(format!("The bus {url} answers.{mark}")),
            Err(reason) => {
                let what = format!("The bus {url} cannot be reached: {reason}.");
                Finding::bad(what, ADVICE)
            }
        });
    }
    findings
}

/// Whether a server of the bus greets.
async fn greeting(url: &str, ca: Option<&str>) -> Result<(), String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    if matches!(parsed.scheme(), "ws" | "wss") {
        let url = url.replacen("ws", "http", 1);
        return greeting_by_websocket(&url, ca).await;
    }
    let host = parsed.host_str().ok_or("the address has no host")?;
    let address = format!("{host}:{}", parsed.port().unwrap_or(4222));
    let stream = TcpStream::connect(&address)
        .await
        .map_err(|error| error.to_string())?;
    let info = info(stream).await?;
    let speaks_tls = ["tls_required", "tls_available"]
        .iter()
        .any(|name| info.get(*name) == Some(&serde_json::Value::Bool(true)));
    if parsed.scheme() == "tls" && !speaks_tls {
        return Err("it does not speak TLS, which this address asks for".to_owned());
    }
    Ok(())
}

/// What a server says of itself in its first line.
async fn info(stream: impl AsyncRead + Unpin) -> Result<serde_json::Value, String> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(INFO_MAX));
    let read = reader.read_until(b'\n', &mut line);
    read.await.map_err(|error| error.to_string())?;
    line.strip_prefix(b"INFO ")
        .and_then(|info| serde_json::from_slice(info).ok())
        .ok_or_else(|| "what answers there is no NATS server".to_owned())
}

async fn greeting_by_websocket(url: &str, ca: Option<&str>) -> Result<(), String> {
    // A second call in one process changes nothing, and that is what it says.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none());
    if let Some(ca) = ca {
        let authorities = Certificate::from_pem_bundle(ca.as_bytes());
        builder = builder.tls_certs_only(authorities.map_err(|error| words(&error))?);
    } else if url.starts_with("http:") {
        builder = builder.tls_certs_only([]);
    }
    let client = builder.build().map_err(|error| words(&error))?;
    let asked = client
        .get(url)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", STANDARD.encode(uuid::Uuid::new_v4()));
    let answer = asked.send().await.map_err(|error| words(&error))?;
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let text = answer.text().await.unwrap_or_default();
        return Err(format!(
            "it takes no WebSocket connection: {}",
            said(status, &text)
        ));
    }
    let stream = answer.upgrade().await.map_err(|error| words(&error))?;
    heard(stream, FRAME_HEAD_MAX).await
}

/// Reads a server's first word; by WebSocket it stands behind the head of a frame.
async fn heard(mut stream: impl AsyncRead + Unpin, skip_max: usize) -> Result<(), String> {
    const WORD: &[u8] = b"INFO ";
    let mut said = Vec::new();
    while said.len() < skip_max + WORD.len() {
        let taken = stream.read_buf(&mut said).await;
        if said
            .windows(WORD.len())
            .take(skip_max + 1)
            .any(|part| part == WORD)
        {
            return Ok(());
        }
        if taken.map_err(|error| error.to_string())? == 0 {
            break;
        }
    }
    Err("what answers there is no NATS server".to_owned())
}
