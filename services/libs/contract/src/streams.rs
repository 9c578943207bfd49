//! What JetStream keeps. Streams and durable consumers are created by the bootstrap job only, from this table and the list of
//! pools.

use std::time::Duration;

/// How a stream keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// On disk, until it is old; for everybody who asks.
    Everything,
    /// Until one has taken it: doorbells, whose loss costs time alone (law L1). Not in memory, since a server that is alone
    /// and starts again would have forgotten that there is such a stream.
    UntilTaken,
}

/// A stream, kept for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// What it captures. Never a subject that an agent may publish (law L5; a test checks it).
    pub subjects: &'static [&'static str],
    /// How.
    pub keeps: Keeps,
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
    keeps: Keeps::Everything,
    max_age: Duration::from_secs(7 * 24 * 3600),
    max_bytes: 1024 * 1024 * 1024,
    duplicate_window: Duration::from_secs(120),
};

/// Offers to workers. What nobody takes is offered again, so it keeps them for seconds.
pub const WORK: StreamSpec = StreamSpec {
    name: "WORK",
    subjects: &["df.work.*"],
    keeps: Keeps::UntilTaken,
    max_age: Duration::from_secs(10),
    max_bytes: 64 * 1024 * 1024,
    duplicate_window: Duration::from_secs(1),
};

/// All streams.
pub const STREAMS: &[StreamSpec] = &[EVENTS, WORK];

/// How long a worker has to acknowledge offers before they come again. The workers of a pool have a durable consumer of
/// [`WORK`], which is named as the pool and brings [`crate::work::subject`] of it.
pub const WORK_ACK_WAIT: Duration = Duration::from_secs(5);

/// The durable consumers of services.
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
