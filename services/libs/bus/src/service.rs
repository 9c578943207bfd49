//! Answering: endpoints of the NATS services API, one queue group per service, bounded concurrency.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::service::ServiceExt;
use async_nats::service::endpoint::Endpoint;
use bytes::Bytes;
use contract::agent::MESSAGE_MAX_BYTES;
use contract::call::endpoint_patterns;
use contract::envelope::{Answer, GRANT_HEADER, TRACE_HEADER, version_accepted};
use contract::subject::{Up, agent_inbox, matches, up_sender};
use contract::{Author, Call, Envelope, Origin, Problem, ProblemKind};
use domain::{MachineId, OrgId};
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::client;
use crate::connection::Bus;
use crate::denied::Denials;
use crate::error::BusError;
use crate::trace;
use crate::turns::Turns;
use crate::verifier::GrantVerifier;

/// How many requests of users and services a service works on at once; more wait in the subscription.
const CONCURRENCY: usize = 1_024;
/// How long one request may be worked on. Whoever asked has stopped waiting long before; a database whose host is gone
/// without a word must not hold slots and connections for as long as TCP would.
const WORK_MAX: Duration = Duration::from_secs(30);
/// How many of agents: apart, so that a fleet that returns keeps no user waiting.
const AGENT_CONCURRENCY: usize = 1_024;

/// Who made a call, as the subject says; permissions fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The gateway, for a user.
    Gateway,
    /// This service, for itself.
    Service(String),
}

/// Who makes a request and with which right.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who made the call.
    pub caller: Caller,
    origin: Origin,
    author: Option<(String, Arc<Author>)>,
}

impl Context {
    /// The verified grant, and where the request comes from.
    ///
    /// # Errors
    /// UNAUTHENTICATED when the request carries none.
    pub fn grant(&self) -> Result<&Author, Problem> {
        self.author
            .as_ref()
            .map(|(_, author)| author.as_ref())
            .ok_or_else(|| Problem::new(ProblemKind::Unauthenticated, "this needs a credential"))
    }

    /// The grant as it travelled, to forward it.
    #[must_use]
    pub fn grant_token(&self) -> Option<&str> {
        self.author.as_ref().map(|(token, _)| token.as_str())
    }

    pub(crate) fn author(&self) -> Option<&Arc<Author>> {
        self.author.as_ref().map(|(_, author)| author)
    }

    /// Where the request comes from, also when it carries no grant.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// The machine that speaks, as the subject says; the server's permissions fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentSender {
    /// Its organisation.
    pub org: OrgId,
    /// Itself.
    pub machine: MachineId,
}

/// A service on the bus: its endpoints and what they are working on.
pub struct Service {
    bus: Bus,
    name: &'static str,
    inner: async_nats::service::Service,
    verifier: Option<GrantVerifier>,
    denials: Option<Denials>,
    slots: Arc<Semaphore>,
    agent_slots: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Service {
    /// Starts a service without endpoints. It answers `$SRV` at once.
    ///
    /// # Errors
    /// [`BusError`] when the client is closed or the name is refused.
    pub async fn start(
        bus: &Bus,
        name: &'static str,
        verifier: Option<GrantVerifier>,
    ) -> Result<Self, BusError> {
        let inner = bus
            .client
            .service_builder()
            .queue_group(name)
            .start(name, env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))?;
        Ok(Self {
            bus: bus.clone(),
            name,
            inner,
            verifier,
            denials: None,
            slots: Arc::new(Semaphore::new(CONCURRENCY)),
            agent_slots: Arc::new(Semaphore::new(AGENT_CONCURRENCY)),
            tasks: TaskTracker::new(),
        })
    }

    /// From now on notes there what users are refused for want of a right; for the calls that are answered from now on.
    #[must_use]
    pub fn noting(mut self, denials: &Denials) -> Self {
        self.denials = Some(denials.clone());
        self
    }

    async fn endpoint(&self, name: &str, pattern: &str) -> Result<Endpoint, BusError> {
        self.inner
            .endpoint_builder()
            .name(name)
            .queue_group(self.name)
            .add(pattern)
            .await
            .map_err(|error| BusError::Unavailable(error.to_string()))
    }

    /// Answers one call.
    ///
    /// # Errors
    /// [`BusError`] when the client is closed.
    pub async fn answer<C, H, F>(&self, handler: H) -> Result<(), BusError>
    where
        C: Call,
        H: Fn(Context, C) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<C::Reply, Problem>> + Send + 'static,
    {
        for (index, pattern) in endpoint_patterns::<C>().into_iter().enumerate() {
            let name = format!("{}-{}-{index}", C::NOUN, C::VERB);
            let endpoint = self.endpoint(&name, &pattern).await?;
            let (verifier, handler) = (self.verifier.clone(), handler.clone());
            let denials = self.denials.clone();
            let span_name = format!("{}.{}.{}", C::SERVICE, C::NOUN, C::VERB);
            self.serve(
                endpoint,
                pattern,
                &self.slots,
                |_| Some(()),
                move |message| {
                    let (verifier, handler) = (verifier.clone(), handler.clone());
                    let denials = denials.clone();
                    let span =
                        tracing::info_span!("answer", otel.name = %span_name, otel.kind = "server");
                    async move {
                        let context = context(verifier.as_ref(), &message).await?;
                        let watched = denials.and_then(|denials| denials.watch::<C>(&context));
                        let answer = handler(context, decode(&message.payload, C::VERSION)?).await;
                        if let (Some(watched), Err(problem)) = (watched, &answer) {
                            watched.refused(problem);
                        }
                        answer
                    }
                    .instrument(span)
                },
            );
        }
        Ok(())
    }

    /// Answers what agents say. The reply goes nowhere but into that agent's own inbox.
    ///
    /// # Errors
    /// [`BusError`] when the client is closed.
    pub async fn answer_agent<B, R, H, F>(&self, word: Up, handler: H) -> Result<(), BusError>
    where
        B: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        H: Fn(AgentSender, B) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<R, Problem>> + Send + 'static,
    {
        let pattern = word.pattern();
        let endpoint = self
            .endpoint(&format!("agent-{}", word.as_str()), &pattern)
            .await?;
        let turns = Turns::of(word);
        let admit = move |message: &async_nats::Message| {
            let (_, machine) = up_sender(&message.subject)?;
            turns.take(machine)
        };
        self.serve(endpoint, pattern, &self.agent_slots, admit, move |message| {
            let handler = handler.clone();
            let span = tracing::info_span!("answer", otel.name = %format!("agent.{}", word.as_str()), otel.kind = "server");
            async move {
                let (org, machine) = up_sender(&message.subject)
                    .ok_or_else(|| Problem::new(ProblemKind::Invalid, "the subject names no machine"))?;
                // The server takes permissions from a callout's JWT, and no limits.
                if message.payload.len() > MESSAGE_MAX_BYTES {
                    return Err(Problem::new(ProblemKind::TooLarge, format!("a message has at most {MESSAGE_MAX_BYTES} bytes")));
                }
                handler(AgentSender { org, machine }, decode(&message.payload, contract::agent::VERSION)?).await
            }
            .instrument(span)
        });
        Ok(())
    }

    /// Works on what `admit` lets in, each in a slot.
    fn serve<R, A, T, H, F>(
        &self,
        mut endpoint: Endpoint,
        pattern: String,
        slots: &Arc<Semaphore>,
        admit: A,
        handler: H,
    ) where
        R: Serialize + Send + 'static,
        A: Fn(&async_nats::Message) -> Option<T> + Send + Sync + 'static,
        T: Send + 'static,
        H: Fn(async_nats::Message) -> tracing::instrument::Instrumented<F> + Send + Sync + 'static,
        F: Future<Output = Result<R, Problem>> + Send + 'static,
    {
        let (slots, tasks) = (slots.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            while let Some(request) = endpoint.next().await {
                let message = request.message.clone();
                if !matches(&pattern, &message.subject) || !reply_is_safe(&message) {
                    tracing::warn!(subject = %message.subject, reply = ?message.reply, "dropped: the reply would go astray");
                    continue;
                }
                let Some(turn) = admit(&message) else {
                    tracing::debug!(subject = %message.subject, "not heard: this sender has enough in work");
                    continue;
                };
                // The semaphore is never closed.
                let Ok(slot) = slots.clone().acquire_owned().await else { break };
                let work = handler(message.clone());
                trace::set_parent(work.span(), trace::header(message.headers.as_ref(), TRACE_HEADER));
                tasks.spawn(async move {
                    let answer: Answer<R> = match tokio::time::timeout(WORK_MAX, work).await {
                        Ok(ended) => ended.into(),
                        Err(_) => {
                            tracing::warn!(subject = %message.subject, "given up: the work took too long");
                            Err(Problem::unavailable("this took too long; ask again later")).into()
                        }
                    };
                    // Before the answer goes out: whoever has it may ask the next thing at once.
                    drop(turn);
                    let bytes = match serde_json::to_vec(&answer) {
                        Ok(bytes) => Bytes::from(bytes),
                        Err(error) => {
                            tracing::error!(%error, subject = %message.subject, "an answer could not be encoded");
                            return;
                        }
                    };
                    if let Err(error) = request.respond(Ok(bytes)).await {
                        tracing::debug!(%error, "an answer could not be sent; the asker will ask again");
                    }
                    drop(slot);
                });
            }
        });
    }

    /// Stops hearing, and waits until what runs has answered.
    pub async fn stop(self) {
        if let Err(error) = self.inner.stop().await {
            tracing::debug!(%error, "stopping the service");
        }
        self.tasks.close();
        self.tasks.wait().await;
        if let Err(error) = self.bus.flush().await {
            tracing::debug!(%error, "flushing the last answers");
        }
    }
}

/// An answer to an agent goes into its own inbox, to a service into a service's: a reply subject is chosen by
/// the asker, and we may say more than the asker (law L5).
fn reply_is_safe(message: &async_nats::Message) -> bool {
    let Some(reply) = message.reply.as_deref() else {
        return true;
    };
    if reply.contains(['*', '>', ' ']) {
        return false;
    }
    match up_sender(&message.subject) {
        Some((org, machine)) => reply.starts_with(&format!("{}.", agent_inbox(org, machine))),
        None => {
            !message.subject.starts_with("df.up.")
                && (reply.starts_with("_INBOX.s.") || reply.starts_with("_INBOX.w."))
        }
    }
}

fn decode<B: DeserializeOwned>(payload: &[u8], version: u32) -> Result<B, Problem> {
    let malformed = |error: serde_json::Error| {
        Problem::new(ProblemKind::Invalid, format!("malformed message: {error}"))
    };
    let head: Envelope<serde::de::IgnoredAny> =
        serde_json::from_slice(payload).map_err(malformed)?;
    if !version_accepted(version, head.v) {
        return Err(Problem::new(
            ProblemKind::Invalid,
            format!("version {} is spoken here, {} came", version, head.v),
        ));
    }
    Ok(serde_json::from_slice::<Envelope<B>>(payload)
        .map_err(malformed)?
        .body)
}

async fn context(
    verifier: Option<&GrantVerifier>,
    message: &async_nats::Message,
) -> Result<Context, Problem> {
    let caller = match message
        .subject
        .strip_prefix("df.svc.")
        .and_then(|rest| rest.split('.').next())
    {
        Some(service) => Caller::Service(service.to_owned()),
        None => Caller::Gateway,
    };
    // Whoever is not the gateway sees no client: what it says of one is not believed.
    let address = match caller {
        Caller::Gateway => client::of(message),
        Caller::Service(_) => None,
    };
    let origin = Origin {
        address,
        trace_id: trace::current_id(),
    };
    let author = match (
        verifier,
        trace::header(message.headers.as_ref(), GRANT_HEADER),
    ) {
        (Some(verifier), Some(token)) => {
            let author = Author {
                grant: verifier.verify(token).await?,
                address,
                trace_id: origin.trace_id.clone(),
            };
            Some((token.to_owned(), Arc::new(author)))
        }
        _ => None,
    };
    Ok(Context {
        caller,
        origin,
        author,
    })
}
