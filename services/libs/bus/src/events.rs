//! Events: published into the stream `EVENTS`, consumed by durable consumers that the bootstrap job made.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use contract::Envelope;
use contract::event::{Event, VERSION};
use contract::streams::ConsumerSpec;
use futures::StreamExt;

use crate::connection::Bus;
use crate::error::BusError;
use crate::subscription::Message;

/// How many events are asked for at once.
const BATCH: usize = 64;
/// How long the server holds a question for events.
const EXPIRES: Duration = Duration::from_secs(20);
/// How long to wait before asking again when the server did not answer.
const PAUSE: Duration = Duration::from_secs(1);

impl Bus {
    /// Publishes an event and waits until the stream has it. The same event again is dropped by the stream
    /// (`Nats-Msg-Id`), within its window; consumers drop the rest by `version`.
    ///
    /// # Errors
    /// [`BusError::JetStream`] when the stream did not take it: keep it and try again.
    pub async fn publish_event(&self, event: &Event) -> Result<(), BusError> {
        let subject = contract::subject::event(event.org, &event.noun, &event.verb);
        let envelope = Envelope::new(VERSION, Some(event.org), event);
        let payload = serde_json::to_vec(&envelope)
            .map_err(|error| BusError::Malformed(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", event.id.to_string().as_str());
        crate::trace::inject(&mut headers);
        let ack = self
            .jetstream
            .publish_with_headers(subject, headers, Bytes::from(payload))
            .await
            .map_err(|error| BusError::JetStream(error.to_string()))?;
        ack.await
            .map_err(|error| BusError::JetStream(error.to_string()))?;
        Ok(())
    }

    /// Consumes a durable consumer. It asks with `MSG.NEXT` alone: a service may not look at or change streams.
    #[must_use]
    pub fn consume(&self, spec: &ConsumerSpec) -> Consumer {
        Consumer {
            bus: self.clone(),
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", spec.stream, spec.name),
            filters: spec.filters,
            batch: None,
        }
    }
}

/// A durable consumer's side of one replica.
pub struct Consumer {
    bus: Bus,
    subject: String,
    filters: &'static [&'static str],
    batch: Option<Batch>,
}

/// What one question brings.
struct Batch {
    messages: async_nats::Subscriber,
    /// How many events of it have not come. When all have, the server says nothing more.
    left: usize,
}

/// An event, to be acknowledged when its effect is committed.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    ack: Option<String>,
    bus: Bus,
}

impl Delivery {
    /// Says that the event need not come again. A lost acknowledgement only repeats it.
    pub async fn ack(self) {
        if let Some(ack) = self.ack
            && let Err(error) = self
                .bus
                .client
                .publish(ack, Bytes::from_static(b"+ACK"))
                .await
        {
            tracing::debug!(%error, "an acknowledgement was not sent; the event comes again");
        }
    }
}

impl Consumer {
    /// The next event. It waits for ever; what cannot be read is acknowledged and logged.
    pub async fn next(&mut self) -> Delivery {
        loop {
            let Some(batch) = &mut self.batch else {
                match self.ask().await {
                    Ok(batch) => self.batch = Some(batch),
                    Err(error) => {
                        tracing::debug!(%error, "no events for now");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                continue;
            };
            // The server answers within EXPIRES; silence means that it or the question was lost.
            match tokio::time::timeout(EXPIRES + PAUSE, batch.messages.next()).await {
                Ok(Some(message)) if message.status.is_none() => {
                    batch.left = batch.left.saturating_sub(1);
                    if batch.left == 0 {
                        self.batch = None;
                    }
                    if let Some(delivery) = self.delivery(&message).await {
                        return delivery;
                    }
                }
                Ok(Some(message)) => {
                    // 404 and 408 end a batch; 409 and 503 mean that the consumer is not there now.
                    if !matches!(
                        message.status.map(|status| status.as_u16()),
                        Some(404 | 408)
                    ) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    self.batch = None;
                }
                Ok(None) | Err(_) => self.batch = None,
            }
        }
    }

    async fn ask(&self) -> Result<Batch, BusError> {
        if !self.bus.is_connected() {
            return Err(BusError::Unavailable("not connected".into()));
        }
        let unavailable = |error: String| BusError::Unavailable(error);
        let inbox = self.bus.client.new_inbox();
        let messages = self
            .bus
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let question =
            serde_json::json!({ "batch": BATCH, "expires": EXPIRES.as_nanos() as u64 }).to_string();
        self.bus
            .client
            .publish_with_reply(self.subject.clone(), inbox, Bytes::from(question))
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(Batch {
            messages,
            left: BATCH,
        })
    }

    async fn delivery(&self, message: &async_nats::Message) -> Option<Delivery> {
        let message = Message::from_nats(message);
        let expected = self
            .filters
            .iter()
            .any(|filter| contract::subject::matches(filter, &message.subject));
        let bus = self.bus.clone();
        match serde_json::from_slice::<Envelope<Event>>(&message.payload) {
            Ok(envelope) if expected => Some(Delivery {
                event: envelope.body,
                ack: message.reply,
                bus,
            }),
            _ => {
                tracing::warn!(
                    subject = message.subject,
                    "an event that cannot be read is skipped"
                );
                let skipped = Delivery {
                    event: unreadable(),
                    ack: message.reply,
                    bus,
                };
                skipped.ack().await;
                None
            }
        }
    }
}

fn unreadable() -> Event {
    Event {
        id: uuid::Uuid::nil(),
        org: uuid::Uuid::nil().into(),
        noun: String::new(),
        verb: String::new(),
        subject_id: uuid::Uuid::nil(),
        version: 0,
        at: domain::Timestamp::now(),
        data: serde_json::Value::Null,
    }
}
