//! Hearing: a subscription that drops what its pattern does not cover (law L5).

use std::pin::Pin;
use std::task::{Context, Poll};

use contract::subject::matches;
use futures::{Stream, StreamExt};

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its subject, which the sender's permissions fix.
    pub subject: String,
    /// Where an answer is wanted.
    pub reply: Option<String>,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Its trace context.
    pub traceparent: Option<String>,
    /// The server's status, such as 404 "no messages"; absent on real messages.
    pub status: Option<u16>,
}

impl Message {
    pub(crate) fn from_nats(message: &async_nats::Message) -> Self {
        Self {
            subject: message.subject.to_string(),
            reply: message.reply.as_ref().map(ToString::to_string),
            payload: message.payload.to_vec(),
            traceparent: crate::trace::header(
                message.headers.as_ref(),
                contract::envelope::TRACE_HEADER,
            )
            .map(ToOwned::to_owned),
            status: message.status.map(|status| status.as_u16()),
        }
    }
}

/// Messages of one pattern.
#[derive(Debug)]
pub struct Subscription {
    pattern: String,
    inner: async_nats::Subscriber,
}

impl Subscription {
    pub(crate) fn new(pattern: &str, inner: async_nats::Subscriber) -> Self {
        Self {
            pattern: pattern.to_owned(),
            inner,
        }
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            match self.inner.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) if matches(&self.pattern, &message.subject) => {
                    return Poll::Ready(Some(Message::from_nats(&message)));
                }
                // A consumer aimed at our inbox by somebody else would come under its own subject.
                Poll::Ready(Some(message)) => {
                    tracing::warn!(pattern = self.pattern, subject = %message.subject, "dropped: not what was subscribed");
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
