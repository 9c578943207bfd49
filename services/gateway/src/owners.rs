//! Asking the owners, each question with its time.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Subscription, Unread};
use contract::{Call, Problem, ProblemKind};
use domain::OrgId;
use tokio::sync::broadcast;

use crate::caller::{Caller, Presented};
use crate::config::Patience;
use crate::credentials::{Credentials, Doubt};

/// The owners of everything, as the gateway reaches them. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Owners {
    bus: Bus,
    credentials: Arc<Credentials>,
    read: Duration,
    write: Duration,
    write_many: Duration,
}

impl Owners {
    /// The owners behind this bus.
    #[must_use]
    pub fn new(bus: &Bus, credentials: &Arc<Credentials>, patience: &Patience) -> Self {
        Self {
            bus: bus.clone(),
            credentials: credentials.clone(),
            read: patience.read,
            write: patience.write,
            write_many: patience.write_many,
        }
    }

    /// A question on the caller's behalf.
    ///
    /// # Errors
    /// The owner's refusal, or that it is away.
    pub async fn read<C: Call>(&self, caller: &Caller, question: &C) -> Result<C::Reply, Problem> {
        self.ask(caller, question, self.read).await
    }

    /// A question on the caller's behalf whose answer goes to the client as the owner wrote it.
    ///
    /// # Errors
    /// As [`Owners::read`].
    pub async fn pass<C: Call>(
        &self,
        caller: &Caller,
        question: &C,
    ) -> Result<Unread<C::Reply>, Problem> {
        let answer = self
            .bus
            .gateway_call_unread(question, Some(caller.grant()), self.read)
            .await;
        self.heed(caller, answer)
    }

    /// A question on the caller's behalf that takes its owner a while.
    ///
    /// # Errors
    /// As [`Owners::read`].
    pub async fn read_long<C: Call>(
        &self,
        caller: &Caller,
        question: &C,
    ) -> Result<C::Reply, Problem> {
        self.ask(caller, question, self.write_many).await
    }

    /// A change on the caller's behalf.
    ///
    /// # Errors
    /// The owner's refusal, that it is away, or that the outcome is unknown.
    pub async fn write<C: Call>(&self, caller: &Caller, change: &C) -> Result<C::Reply, Problem> {
        self.ask(caller, change, self.write).await
    }

    /// A change of very many things at once on the caller's behalf.
    ///
    /// # Errors
    /// As [`Owners::write`].
    pub async fn write_many<C: Call>(
        &self,
        caller: &Caller,
        change: &C,
    ) -> Result<C::Reply, Problem> {
        self.ask(caller, change, self.write_many).await
    }

    async fn ask<C: Call>(
        &self,
        caller: &Caller,
        call: &C,
        timeout: Duration,
    ) -> Result<C::Reply, Problem> {
        let answer = self
            .bus
            .gateway_call(call, Some(caller.grant()), timeout)
            .await;
        self.heed(caller, answer)
    }

    fn heed<R>(&self, caller: &Caller, answer: Result<R, Problem>) -> Result<R, Problem> {
        if let Err(problem) = &answer
            && problem.kind == ProblemKind::Unauthenticated
        {
            // The owner does not take a grant that we remember: its session ended, or its key is no longer used.
            self.credentials
                .doubt(Doubt::Credential(caller.credential()));
        }
        answer
    }

    /// A change on behalf of nobody known: what is asked carries its own proof.
    ///
    /// # Errors
    /// As [`Owners::write`].
    pub async fn write_open<C: Call>(&self, change: &C) -> Result<C::Reply, Problem> {
        self.bus.gateway_call(change, None, self.write).await
    }

    /// A question on behalf of nobody, with a time of its own.
    ///
    /// # Errors
    /// As [`Owners::read`].
    pub async fn read_open<C: Call>(
        &self,
        question: &C,
        timeout: Duration,
    ) -> Result<C::Reply, Problem> {
        self.bus.gateway_call(question, None, timeout).await
    }

    /// What owners tell of one thing to those who look on, from now on: on one connection, whatever is asked after this is answered
    /// after the server began to pass it on.
    ///
    /// # Errors
    /// UNAVAILABLE when the bus is closed.
    pub async fn live(&self, org: OrgId, noun: &str, id: &str) -> Result<Subscription, Problem> {
        let subject = contract::subject::live(org, noun, id);
        Ok(self.bus.subscribe(&subject).await?)
    }

    /// Whose rights may have changed, from now on.
    #[must_use]
    pub fn doubts(&self) -> broadcast::Receiver<Doubt> {
        self.credentials.doubts()
    }

    /// Gives a caller the rights of this moment.
    ///
    /// # Errors
    /// As [`Caller::renew`].
    pub async fn renew(&self, caller: &mut Caller, presented: &Presented) -> Result<bool, Problem> {
        caller.renew(&self.credentials, presented).await
    }

    /// Whether the bus itself is there.
    #[must_use]
    pub fn bus_is_connected(&self) -> bool {
        self.bus.is_connected()
    }
}
