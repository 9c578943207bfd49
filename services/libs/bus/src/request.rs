//! Asking: a request with a timeout, and a clear word when nobody is there.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, RequestError};
use bytes::Bytes;
use contract::call::{gateway_subject, service_subject};
use contract::envelope::{Answer, GRANT_HEADER};
use contract::{Call, Envelope, Problem, ProblemKind};
use domain::OrgId;
use serde::{Serialize, de::DeserializeOwned};

use crate::connection::Bus;

impl Bus {
    /// Asks on a user's behalf: `df.rpc.<service>.<noun>.<verb>` with the user's grant, and the client's address
    /// ([`crate::client`]).
    ///
    /// # Errors
    /// The owner's [`Problem`]; UNAVAILABLE when nobody answers; OUTCOME_UNKNOWN when a call that must not be
    /// repeated blindly got no answer in time.
    pub async fn gateway_call<C: Call>(
        &self,
        request: &C,
        grant: Option<&str>,
        timeout: Duration,
    ) -> Result<C::Reply, Problem> {
        let mut headers = HeaderMap::new();
        crate::client::inject(&mut headers);
        self.call::<C>(gateway_subject::<C>(), headers, request, grant, timeout)
            .await
    }

    /// Asks as a service: `df.svc.<caller>.<service>.<noun>.<verb>`, forwarding a user's grant if there is one.
    ///
    /// # Errors
    /// As [`Bus::gateway_call`].
    pub async fn service_call<C: Call>(
        &self,
        request: &C,
        grant: Option<&str>,
        timeout: Duration,
    ) -> Result<C::Reply, Problem> {
        let subject = service_subject::<C>(&self.service);
        self.call::<C>(subject, HeaderMap::new(), request, grant, timeout)
            .await
    }

    async fn call<C: Call>(
        &self,
        subject: String,
        mut headers: HeaderMap,
        request: &C,
        grant: Option<&str>,
        timeout: Duration,
    ) -> Result<C::Reply, Problem> {
        if let Some(grant) = grant {
            headers.insert(GRANT_HEADER, grant);
        }
        let what = format!("{}.{}", C::NOUN, C::VERB);
        let envelope = Envelope::new(C::VERSION, None, request);
        let asked = Asked {
            service: C::SERVICE,
            what: &what,
            idempotent: C::IDEMPOTENT,
            timeout,
        };
        self.ask(subject, headers, &envelope, asked).await
    }

    /// Asks as an agent, on a `df.up` subject; the owner answers after its commit.
    ///
    /// # Errors
    /// As [`Bus::gateway_call`]; what agents say can always be repeated.
    pub async fn agent_request<B: Serialize, R: DeserializeOwned>(
        &self,
        subject: String,
        org: OrgId,
        body: &B,
        timeout: Duration,
    ) -> Result<R, Problem> {
        let envelope = Envelope::new(contract::agent::VERSION, Some(org), body);
        let asked = Asked {
            service: "the server",
            what: "report",
            idempotent: true,
            timeout,
        };
        self.ask(subject, HeaderMap::new(), &envelope, asked).await
    }

    async fn ask<B: Serialize, R: DeserializeOwned>(
        &self,
        subject: String,
        mut headers: HeaderMap,
        body: &B,
        asked: Asked<'_>,
    ) -> Result<R, Problem> {
        crate::trace::inject(&mut headers);
        let payload =
            serde_json::to_vec(body).map_err(|error| internal(&asked, &error.to_string()))?;
        if !self.is_connected() {
            return Err(Problem::unavailable("the bus is away"));
        }
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(Bytes::from(payload))
            .timeout(Some(asked.timeout));
        let message = self
            .client
            .send_request(subject, request)
            .await
            .map_err(|error| asked.problem(&error))?;
        let answer: Answer<R> = serde_json::from_slice(&message.payload)
            .map_err(|error| internal(&asked, &error.to_string()))?;
        answer.into()
    }
}

struct Asked<'a> {
    service: &'a str,
    what: &'a str,
    idempotent: bool,
    timeout: Duration,
}

impl Asked<'_> {
    fn problem(&self, error: &RequestError) -> Problem {
        match error.kind() {
            RequestErrorKind::NoResponders => Problem::unavailable(format!(
                "{} is away: nobody answers `{}`",
                self.service, self.what
            )),
            RequestErrorKind::MaxPayloadExceeded => Problem::new(
                ProblemKind::TooLarge,
                "the message is larger than the bus takes",
            ),
            RequestErrorKind::TimedOut if !self.idempotent => Problem {
                retry_after_ms: Some(1_000),
                ..Problem::new(
                    ProblemKind::OutcomeUnknown,
                    format!(
                        "{} did not answer `{}` within {} ms: outcome unknown, repeat with the same key",
                        self.service,
                        self.what,
                        self.timeout.as_millis()
                    ),
                )
            },
            RequestErrorKind::TimedOut => Problem::unavailable(format!(
                "{} did not answer `{}` within {} ms",
                self.service,
                self.what,
                self.timeout.as_millis()
            )),
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                Problem::unavailable(format!("the bus is away: {error}"))
            }
        }
    }
}

fn internal(asked: &Asked<'_>, error: &str) -> Problem {
    tracing::error!(
        service = asked.service,
        what = asked.what,
        error,
        "a message could not be encoded or decoded"
    );
    Problem::new(
        ProblemKind::Internal,
        format!(
            "{} and this service do not understand each other",
            asked.service
        ),
    )
}
