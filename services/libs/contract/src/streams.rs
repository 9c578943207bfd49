//! What JetStream keeps. Streams and durable consumers are created by the bootstrap job only, from this table.

use std::time::Duration;

/// A stream of events, kept for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// What it captures. Never a subject that an agent may publish (law L5; a test checks it).
    pub subjects: &'static [&'static str],
    /// How long it keeps a message.
    pub max_age: Duration,
    /// How many bytes it keeps; the oldest go first.
    pub max_bytes: i64,
    /// How long it remembers a `Nats-Msg-Id`.
    pub duplicate_window: Duration,
}

/// A durable pull consumer of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// The stream.
    pub stream: &'static str,
    /// Its name: the service that owns it.
    pub name: &'static str,
    /// What of the stream it brings.
    pub filters: &'static [&'static str],
    /// How long the service has to acknowledge before a message comes again.
    pub ack_wait: Duration,
}

/// Events, for services, subscriptions and pages.
pub const EVENTS: StreamSpec = StreamSpec {
    name: "EVENTS",
    subjects: &["df.evt.>"],
    max_age: Duration::from_secs(7 * 24 * 3600),
    max_bytes: 1024 * 1024 * 1024,
    duplicate_window: Duration::from_secs(120),
};

/// All streams.
pub const STREAMS: &[StreamSpec] = &[EVENTS];

/// All durable consumers.
pub const CONSUMERS: &[ConsumerSpec] = &[
    ConsumerSpec {
        stream: "EVENTS",
        name: "action",
        filters: &["df.evt.*.machine.*"],
        ack_wait: Duration::from_secs(30),
    },
    ConsumerSpec {
        stream: "EVENTS",
        name: "metrics",
        filters: &["df.evt.*.machine.*"],
        ack_wait: Duration::from_secs(30),
    },
];
