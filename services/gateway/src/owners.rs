//! Asking the owners, each question with its time.

use std::time::Duration;

use bus::Bus;
use contract::{Call, Problem};

use crate::caller::Caller;
use crate::config::Patience;

/// The owners of everything, as the gateway reaches them. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Owners {
    bus: Bus,
    read: Duration,
    write: Duration,
}

impl Owners {
    /// The owners behind this bus.
    #[must_use]
    pub fn new(bus: &Bus, patience: &Patience) -> Self {
        Self {
            bus: bus.clone(),
            read: patience.read,
            write: patience.write,
        }
    }

    /// A question on the caller's behalf.
    ///
    /// # Errors
    /// The owner's refusal, or that it is away.
    pub async fn read<C: Call>(&self, caller: &Caller, question: &C) -> Result<C::Reply, Problem> {
        self.bus
            .gateway_call(question, Some(caller.grant()), self.read)
            .await
    }

    /// A change on the caller's behalf.
    ///
    /// # Errors
    /// The owner's refusal, that it is away, or that the outcome is unknown.
    pub async fn write<C: Call>(&self, caller: &Caller, change: &C) -> Result<C::Reply, Problem> {
        self.bus
            .gateway_call(change, Some(caller.grant()), self.write)
            .await
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

    /// Whether the bus itself is there.
    #[must_use]
    pub fn bus_is_connected(&self) -> bool {
        self.bus.is_connected()
    }
}
