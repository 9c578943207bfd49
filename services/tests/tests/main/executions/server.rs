//! A server that handlers ask: each of its answers is the test's, when the test says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// More requests than any test here waits for at once.
const WAITING_MAX: usize = 16;

/// The server, for as long as the test's runtime lives.
pub struct Server {
    address: String,
    paths: Arc<Mutex<Vec<String>>>,
    requests: mpsc::Receiver<Asked>,
}

/// A request that waits for its answer.
pub struct Asked {
    path: String,
    answer: oneshot::Sender<String>,
}

impl Asked {
    /// Answers with this status, such as `200 OK`, further lines of the head, and this body.
    pub fn answer(self, status: &str, head: &str, body: &str) {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        self.answer.send(text).expect("a connection");
    }
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        let paths = Arc::<Mutex<Vec<String>>>::default();
        let noted = paths.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, noted.clone(), sender.clone()));
            }
        });
        Self {
            address,
            paths,
            requests,
        }
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next request, which must be for this path.
    pub async fn asked(&mut self, path: &str, limit: Duration) -> Asked {
        let next = tokio::time::timeout(limit, self.requests.recv()).await;
        let next = next.unwrap_or_else(|_| panic!("waited {limit:?} for a request of {path}"));
        let asked = next.expect("the server");
        assert_eq!(asked.path, path);
        asked
    }

    /// The paths of all requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    paths: Arc<Mutex<Vec<String>>>,
    requests: mpsc::Sender<Asked>,
) {
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(length) if length > 0 && head.len() < HEAD_MAX => {
                head.extend_from_slice(&part[..length]);
            }
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    paths.lock().unwrap().push(path.clone());
    let (answer, answered) = oneshot::channel();
    if requests.send(Asked { path, answer }).await.is_err() {
        return;
    }
    if let Ok(text) = answered.await {
        // Whoever asked may be gone.
        drop(stream.write_all(text.as_bytes()).await);
        drop(stream.shutdown().await);
    }
}
