//! Offers of work: pulled from the stream `WORK`, by the durable consumer of a pool that the bootstrap job made.
//!
//! They are doorbells: each is acknowledged as soon as it is here, since the scheduler offers again what nobody claims. What is
//! pulled and not wanted any more is given back, so that another worker has it at once.

use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use contract::run::{Offer, Offers};
use contract::streams::WORK;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::connection::{Bus, BusState};
use crate::error::BusError;
use crate::subscription::Message;

/// How long the server holds a question for offers.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often it says, while it has none, that it still holds it: a server that lost its memory says nothing.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// After so long without a word the question is asked again.
const SILENCE: Duration = Duration::from_secs(8);
/// How long to wait before asking again when the server refused.
const PAUSE: Duration = Duration::from_millis(250);
/// The most messages of one question.
const MESSAGES_MAX: usize = 64;
/// The most messages that are taken together.
const TOGETHER_MAX: usize = 256;

impl Bus {
    /// The offers to a pool's workers, as one of them hears them. It asks with `MSG.NEXT` alone: a worker may not look
    /// at or change streams.
    #[must_use]
    pub fn offers(&self, pool: &str) -> OfferFeed {
        OfferFeed {
            bus: self.clone(),
            question: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{pool}", WORK.name),
            subject: contract::work::subject(pool),
            line: None,
            pull: None,
            taken: Vec::new(),
            acks: Vec::new(),
            each: 1,
            not_before: Instant::now(),
        }
    }
}

/// The offers to a pool, pulled by one worker.
pub struct OfferFeed {
    bus: Bus,
    /// Where offers are asked for.
    question: String,
    /// What offers come under.
    subject: String,
    line: Option<Line>,
    pull: Option<Pull>,
    /// Here and not given out yet: whoever stops waiting loses none.
    taken: Vec<Offer>,
    /// Where to say that they are here.
    acks: Vec<String>,
    /// How many offers the last message had: as many of them as are wanted are asked for.
    each: usize,
    not_before: Instant,
}

/// Where answers come.
struct Line {
    inbox: String,
    /// The number of the next question.
    next: u64,
    messages: Subscriber,
}

/// A question that the server holds.
struct Pull {
    /// Where the server speaks of it.
    reply: String,
    /// How many messages of it have not come.
    left: usize,
    /// The connection on which it was asked: a new one knows nothing of it.
    connection: BusState,
    heard: Instant,
}

/// What is being waited for has happened.
enum Word {
    Message(Option<async_nats::Message>),
    Silence,
    Reconnected,
}

impl OfferFeed {
    /// The next offers, as soon as there are any: about `want` of them, and not fewer than came in one message. It waits for
    /// ever, through every loss of the connection; whoever drops the future loses nothing.
    pub async fn next(&mut self, want: usize) -> Vec<Offer> {
        loop {
            self.acknowledge().await;
            if !self.taken.is_empty() {
                return std::mem::take(&mut self.taken);
            }
            if self.not_before > Instant::now() {
                tokio::time::sleep_until(self.not_before).await;
            }
            if self.pull.is_none()
                && let Err(error) = self.ask(want).await
            {
                tracing::debug!(%error, "no offers for now");
                self.not_before = Instant::now() + PAUSE;
                self.line = None;
                continue;
            }
            match self.word().await {
                Word::Message(Some(message)) => self.hear(&message, want),
                Word::Message(None) => {
                    self.line = None;
                    self.pull = None;
                }
                Word::Silence | Word::Reconnected => self.pull = None,
            }
        }
    }

    /// Takes the question back, and gives back what came meanwhile: there is no room for it. The next question begins anew.
    pub async fn pause(&mut self) {
        self.acknowledge().await;
        self.pull = None;
        let Some(mut line) = self.line.take() else {
            return;
        };
        for _ in 0..TOGETHER_MAX {
            let Some(Some(message)) = line.messages.next().now_or_never() else {
                break;
            };
            if let (None, Some(reply)) = (message.status, message.reply) {
                self.say(reply.to_string(), b"-NAK").await;
            }
        }
    }

    /// Whether a question is out.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.pull.is_some()
    }

    async fn ask(&mut self, want: usize) -> Result<(), BusError> {
        let connection = self.bus.state().borrow().clone();
        if !matches!(connection, BusState::Connected(_)) {
            let mut state = self.bus.state();
            until(&mut state, |state| matches!(state, BusState::Connected(_))).await;
            return Ok(());
        }
        let unavailable = |error: String| BusError::Unavailable(error);
        if self.line.is_none() {
            let inbox = self.bus.client.new_inbox();
            let messages = self
                .bus
                .client
                .subscribe(format!("{inbox}.*"))
                .await
                .map_err(|error| unavailable(error.to_string()))?;
            self.line = Some(Line {
                inbox,
                next: 0,
                messages,
            });
        }
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        let batch = (want / self.each.max(1)).clamp(1, MESSAGES_MAX);
        let question = serde_json::json!({
            "batch": batch,
            "expires": EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        line.next += 1;
        let reply = format!("{}.{}", line.inbox, line.next);
        self.bus
            .client
            .publish_with_reply(
                self.question.clone(),
                reply.clone(),
                Bytes::from(question.to_string()),
            )
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        self.pull = Some(Pull {
            reply,
            left: batch,
            connection,
            heard: Instant::now(),
        });
        Ok(())
    }

    /// Waits for the next word about the question that is out; returns at once when none is.
    async fn word(&mut self) -> Word {
        let (Some(line), Some(pull)) = (&mut self.line, &self.pull) else {
            return Word::Reconnected;
        };
        let mut state = self.bus.state();
        tokio::select! {
            // What is here counts also when the connection it came by is gone.
            biased;
            message = line.messages.next() => Word::Message(message),
            () = until(&mut state, |state| *state != pull.connection) => Word::Reconnected,
            () = tokio::time::sleep_until(pull.heard + SILENCE) => Word::Silence,
        }
    }

    /// Takes a message, and what else is here, as far as it is wanted.
    fn hear(&mut self, message: &async_nats::Message, want: usize) {
        self.take(message);
        for _ in 0..TOGETHER_MAX {
            if self.taken.len() >= want {
                return;
            }
            let Some(line) = &mut self.line else { return };
            let Some(Some(message)) = line.messages.next().now_or_never() else {
                return;
            };
            self.take(&message);
        }
    }

    fn take(&mut self, message: &async_nats::Message) {
        if let Some(status) = message.status {
            self.status(message, status.as_u16());
            return;
        }
        if let Some(pull) = &mut self.pull {
            pull.heard = Instant::now();
            pull.left = pull.left.saturating_sub(1);
            // When all have come the server says nothing more.
            if pull.left == 0 {
                self.pull = None;
            }
        }
        let message = Message::from_nats(message);
        self.acks.extend(message.reply);
        match serde_json::from_slice::<Offers>(&message.payload) {
            Ok(offers) if message.subject == self.subject => {
                self.each = offers.items.len().max(1);
                self.taken.extend(offers.items);
            }
            _ => tracing::warn!(
                subject = message.subject,
                "an offer that cannot be read is skipped"
            ),
        }
    }

    /// 100 is a sign of life; 404 and 408 end a question; 409 and 503 mean that the consumer is not there now.
    fn status(&mut self, message: &async_nats::Message, status: u16) {
        let Some(pull) = self
            .pull
            .as_mut()
            .filter(|pull| message.subject.as_str() == pull.reply)
        else {
            return;
        };
        pull.heard = Instant::now();
        match status {
            100 => {}
            404 | 408 => self.pull = None,
            other => {
                tracing::debug!(status = other, "no offers for now");
                self.not_before = Instant::now() + PAUSE;
                self.pull = None;
            }
        }
    }

    /// A lost acknowledgement repeats the offers, and a claim of what began already is refused.
    async fn acknowledge(&mut self) {
        while let Some(ack) = self.acks.pop() {
            self.say(ack, b"+ACK").await;
        }
    }

    async fn say(&self, reply: String, word: &'static [u8]) {
        if let Err(error) = self
            .bus
            .client
            .publish(reply, Bytes::from_static(word))
            .await
        {
            tracing::debug!(%error, "an acknowledgement was not sent; the offers come again");
        }
    }
}

/// Waits until the connection stands so; for ever once it is closed for good.
async fn until(
    state: &mut tokio::sync::watch::Receiver<BusState>,
    stands: impl Fn(&BusState) -> bool,
) {
    if state.wait_for(|state| stands(state)).await.is_err() {
        std::future::pending::<()>().await;
    }
}
