//! Asking: a request with a timeout, and a clear word when nobody is there.

use std::marker::PhantomData;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, RequestError};
use bytes::Bytes;
use contract::call::{gateway_subject, service_subject};
use contract::envelope::{Answer, GRANT_HEADER};
use contract::{Call, Envelope, Problem, ProblemKind};
use domain::OrgId;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::connection::Bus;

/// A reply as its owner wrote it, for who passes it on and changes none of it: whole, valid JSON, of which nobody has looked
/// whether it says a `T`. (The owner's side is typed: it answers a call with nothing but that call's reply.)
#[derive(Debug)]
pub struct Unread<T> {
    json: Box<RawValue>,
    of: PhantomData<fn() -> T>,
}

impl<T> Unread<T> {
    /// The JSON.
    #[must_use]
    pub fn into_json(self) -> String {
        Box::<str>::from(self.json).into_string()
    }
}

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
        self.call::<C, _>(gateway_subject::<C>(), headers, request, grant, timeout)
            .await
    }

    /// As [`Bus::gateway_call`], for who passes the reply on as it is.
    ///
    /// # Errors
    /// As [`Bus::gateway_call`].
    pub async fn gateway_call_unread<C: Call>(
        &self,
        request: &C,
        grant: Option<&str>,
        timeout: Duration,
    ) -> Result<Unread<C::Reply>, Problem> {
        let mut headers = HeaderMap::new();
        crate::client::inject(&mut headers);
        let json = self
            .call::<C, _>(gateway_subject::<C>(), headers, request, grant, timeout)
            .await?;
        Ok(Unread {
            json,
            of: PhantomData,
        })
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
        self.call::<C, _>(subject, HeaderMap::new(), request, grant, timeout)
            .await
    }

    async fn call<C: Call, R: DeserializeOwned>(
        &self,
        subject: String,
        mut headers: HeaderMap,
        request: &C,
        grant: Option<&str>,
        timeout: Duration,
    ) -> Result<R, Problem> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_unread_is_whole_json_all_the_same() {
        let read = |payload: &str| serde_json::from_str::<Answer<Box<RawValue>>>(payload);
        let json = r#"{"items":[{"a": 1.0,"new":"é"}],"nextCursor":"x"}"#;
        match read(&format!(r#"{{"ok":{json}}}"#)) {
            Ok(Answer::Ok(raw)) => assert_eq!(raw.get(), json),
            other => panic!("{other:?}"),
        }
        let refused = Problem::not_found("machine");
        let payload = serde_json::to_string(&Answer::<()>::Error(refused.clone())).expect("JSON");
        match read(&payload) {
            Ok(Answer::Error(problem)) => assert_eq!(problem, refused),
            other => panic!("{other:?}"),
        }
        for broken in [
            r#"{"ok":{"items":[}}"#,
            r#"{"ok":{"items":[]}"#,
            r#"{"ok":{}}{}"#,
            r#"{"ok":{},"error":{}}"#,
            r#"{"ok":}"#,
            "{}",
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }
}
