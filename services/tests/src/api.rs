//! The HTTP API as an integrator uses it.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// A client with a key.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    /// Where the gateway is.
    pub url: String,
    /// The key.
    pub key: String,
}

/// Statuses that end an action.
pub const ENDED: [&str; 6] = [
    "SUCCEEDED",
    "FAILED",
    "EXPIRED",
    "CANCELLED",
    "INTERRUPTED",
    "UNKNOWN",
];

impl Api {
    /// A client of the gateway at `url`.
    ///
    /// # Panics
    /// When no client can be made.
    #[must_use]
    pub fn new(url: &str, key: &str) -> Self {
        // Another test of this process may have chosen the provider already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .timeout(Duration::from_secs(15))
            .tcp_nodelay(true)
            .build()
            .expect("an HTTP client");
        Self {
            client,
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    /// One request; status and body (null when it is not JSON).
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        Ok((
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        ))
    }

    /// A GET that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self
            .send(Method::GET, path, &[], None)
            .await
            .expect("an answer");
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    /// A POST; status and body.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, &[], Some(body))
            .await
            .expect("an answer")
    }

    /// Creates an action that must be taken; its id.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn action(&self, machine: &str, kind: &str, payload: Value) -> String {
        let (status, body) = self
            .post(
                "/api/v1/actions",
                json!({ "machineId": machine, "kind": kind, "payload": payload }),
            )
            .await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until an action has ended.
    ///
    /// # Panics
    /// When it has not within `limit`.
    pub async fn ended(&self, action: &str, limit: Duration) -> Value {
        testkit::eventually(&format!("action {action} ends"), limit, || async {
            let (_, body) = self
                .send(Method::GET, &format!("/api/v1/actions/{action}"), &[], None)
                .await
                .ok()?;
            ENDED.contains(&body["status"].as_str()?).then_some(body)
        })
        .await
    }

    /// Waits until a machine has this status.
    ///
    /// # Panics
    /// When it has not within `limit`.
    pub async fn machine_is(&self, machine: &str, wanted: &str, limit: Duration) -> Value {
        testkit::eventually(&format!("machine {machine} is {wanted}"), limit, || async {
            let (_, body) = self
                .send(
                    Method::GET,
                    &format!("/api/v1/machines/{machine}"),
                    &[],
                    None,
                )
                .await
                .ok()?;
            (body["status"].as_str()? == wanted).then_some(body)
        })
        .await
    }

    /// How a machine came and went, the first change first, such as `online: connected`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn presence(&self, machine: &str) -> Vec<String> {
        let page = self
            .get(&format!("/api/v1/machines/{machine}/presence?limit=200"))
            .await;
        let changes = page["items"].as_array().expect("changes").iter().rev();
        changes
            .map(|change| {
                let came = change["online"].as_bool().expect("a flag");
                let reason = change["reason"].as_str().expect("a reason");
                format!("{}: {reason}", if came { "online" } else { "offline" })
            })
            .collect()
    }

    /// A machine's samples from a time on, the oldest first; at most `limit`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn samples(&self, machine: &str, from: &str, limit: usize) -> Vec<Value> {
        let mut samples = Vec::new();
        let mut cursor = String::new();
        loop {
            let wanted = (limit - samples.len()).min(200);
            let path =
                format!("/api/v1/machines/{machine}/samples?from={from}&limit={wanted}{cursor}");
            let page = self.get(&path).await;
            samples.extend(page["items"].as_array().expect("samples").iter().cloned());
            match page["nextCursor"].as_str() {
                Some(next) if samples.len() < limit => cursor = format!("&cursor={next}"),
                _ => return samples,
            }
        }
    }
}
