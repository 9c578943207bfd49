//! A client that obeys nothing but the protocol's framing: what somebody with a stolen key would write. It is not our
//! bus library, and no client library either, which would refuse half of this on its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(25);

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    pub subject: String,
    pub payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Heard>,
    errors: Vec<String>,
    pongs: usize,
    closed: bool,
}

/// A connection.
pub struct Hostile {
    writer: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
    pings: usize,
    subscriptions: usize,
}

/// The signature of a server's nonce, as `CONNECT` carries it.
pub fn signature(key: &KeyPair, nonce: &str) -> String {
    URL_SAFE_NO_PAD.encode(key.sign(nonce.as_bytes()).unwrap())
}

impl Hostile {
    /// Connects with the key of a seed.
    pub async fn with_seed(url: &str, seed: &str) -> Result<Self, String> {
        let key = KeyPair::from_seed(seed).unwrap();
        Self::claiming(
            url,
            |nonce| json!({ "nkey": key.public_key(), "sig": signature(&key, nonce) }),
        )
        .await
    }

    /// Connects with whatever is claimed in the face of the server's nonce; the server's refusal is the error.
    pub async fn claiming(url: &str, claim: impl FnOnce(&str) -> Value) -> Result<Self, String> {
        let stream = TcpStream::connect(url.trim_start_matches("nats://"))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        let info: Value = serde_json::from_str(line.trim_start_matches("INFO ")).unwrap();
        let mut connect = json!({ "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1, "lang": "hostile", "version": "0" });
        let claimed = claim(info["nonce"].as_str().unwrap_or_default());
        connect
            .as_object_mut()
            .unwrap()
            .extend(claimed.as_object().unwrap().clone());
        let (state, news) = (Arc::<Mutex<State>>::default(), Arc::<Notify>::default());
        tokio::spawn(listen(reader, state.clone(), news.clone()));
        let mut client = Self {
            writer,
            state,
            news,
            pings: 0,
            subscriptions: 0,
        };
        client
            .send(format!("CONNECT {connect}\r\n").as_bytes())
            .await;
        client.sync().await;
        let refusal = client.take_errors().into_iter().next();
        match (client.is_closed(), refusal) {
            (false, None) => Ok(client),
            (_, refusal) => Err(refusal.unwrap_or_else(|| "closed without a word".into())),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        // A server that has closed says why in what it sent before.
        drop(self.writer.write_all(bytes).await);
    }

    pub async fn publish(&mut self, subject: &str, reply: Option<&str>, payload: &[u8]) {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let head = format!("PUB {subject} {reply}{}\r\n", payload.len());
        self.send(&[head.as_bytes(), payload, b"\r\n"].concat())
            .await;
    }

    /// Asks with a header, and waits for the answer at this reply subject, which must be subscribed.
    pub async fn request_with_header(
        &mut self,
        subject: &str,
        reply: &str,
        header: (&str, &str),
        payload: &[u8],
    ) -> Value {
        let headers = format!("NATS/1.0\r\n{}: {}\r\n\r\n", header.0, header.1);
        let head = format!(
            "HPUB {subject} {reply} {} {}\r\n{headers}",
            headers.len(),
            headers.len() + payload.len()
        );
        self.send(&[head.as_bytes(), payload, b"\r\n"].concat())
            .await;
        self.answer(reply).await
    }

    pub async fn publish_with_header(
        &mut self,
        subject: &str,
        header: (&str, &str),
        payload: &[u8],
    ) {
        let headers = format!("NATS/1.0\r\n{}: {}\r\n\r\n", header.0, header.1);
        let head = format!(
            "HPUB {subject} {} {}\r\n{headers}",
            headers.len(),
            headers.len() + payload.len()
        );
        self.send(&[head.as_bytes(), payload, b"\r\n"].concat())
            .await;
    }

    pub async fn subscribe(&mut self, pattern: &str, group: Option<&str>) {
        self.subscriptions += 1;
        let group = group.map(|group| format!("{group} ")).unwrap_or_default();
        self.send(format!("SUB {pattern} {group}{}\r\n", self.subscriptions).as_bytes())
            .await;
    }

    /// Waits until the server has answered everything that was sent, or has closed the connection.
    pub async fn sync(&mut self) {
        self.pings += 1;
        let pings = self.pings;
        self.send(b"PING\r\n").await;
        self.until(|state| (state.pongs >= pings || state.closed).then_some(()))
            .await;
    }

    async fn until<T>(&self, mut question: impl FnMut(&mut State) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let news = self.news.notified();
                if let Some(answer) = question(&mut self.state.lock().unwrap()) {
                    return answer;
                }
                news.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("the server is silent")
    }

    /// Asks, and waits for the answer at this reply subject, which must be subscribed.
    pub async fn request(&mut self, subject: &str, reply: &str, payload: &[u8]) -> Value {
        self.publish(subject, Some(reply), payload).await;
        self.answer(reply).await
    }

    async fn answer(&mut self, reply: &str) -> Value {
        let answer = self
            .until(|state| {
                let at = state
                    .messages
                    .iter()
                    .position(|message| message.subject == reply)?;
                state.messages.remove(at)
            })
            .await;
        serde_json::from_slice(&answer.payload).unwrap_or_default()
    }

    /// What the server refused since the last look, in its words.
    pub fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().errors)
    }

    /// What came since the last look.
    pub fn take_messages(&self) -> Vec<Heard> {
        self.state.lock().unwrap().messages.drain(..).collect()
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().unwrap().closed
    }

    /// Waits until the server has closed the connection.
    pub async fn closed(&self) {
        self.until(|state| state.closed.then_some(())).await;
    }
}

async fn listen(mut reader: BufReader<OwnedReadHalf>, state: Arc<Mutex<State>>, news: Arc<Notify>) {
    loop {
        let heard = hear(&mut reader, &state).await;
        if heard.is_none() {
            state.lock().unwrap().closed = true;
        }
        news.notify_waiters();
        if heard.is_none() {
            return;
        }
    }
}

/// One word of the server; `None` when there is none any more.
async fn hear(reader: &mut BufReader<OwnedReadHalf>, state: &Mutex<State>) -> Option<()> {
    let mut line = String::new();
    if reader.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.first().copied()? {
        "PONG" => state.lock().unwrap().pongs += 1,
        "-ERR" => state.lock().unwrap().errors.push(
            line.trim_start_matches("-ERR ")
                .trim()
                .trim_matches('\'')
                .to_owned(),
        ),
        verb @ ("MSG" | "HMSG") => {
            let total: usize = words.last()?.parse().ok()?;
            let headers: usize = if verb == "HMSG" {
                words.get(words.len() - 2)?.parse().ok()?
            } else {
                0
            };
            let mut bytes = vec![0; total + 2];
            reader.read_exact(&mut bytes).await.ok()?;
            let payload = bytes.get(headers..total)?.to_vec();
            state.lock().unwrap().messages.push_back(Heard {
                subject: (*words.get(1)?).to_owned(),
                payload,
            });
        }
        // A ping of the server's needs no answer for as long as a test lasts: two may be missed.
        _ => {}
    }
    Some(())
}

/// The server's words for a subject that may not be published.
pub fn no_publish(subject: &str) -> String {
    format!("Permissions Violation for Publish to \"{subject}\"")
}

/// The server's words for a pattern that may not be subscribed.
pub fn no_subscribe(pattern: &str, group: Option<&str>) -> String {
    let group = group
        .map(|group| format!(" using queue \"{group}\""))
        .unwrap_or_default();
    format!("Permissions Violation for Subscription to \"{pattern}\"{group}")
}
