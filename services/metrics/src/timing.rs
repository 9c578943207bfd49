//! How long the service waits for what. A type, so that tests can hold time shorter.

use std::time::Duration;

/// [`Timing::http_ttl`] outside of tests.
pub const HTTP_TTL: Duration = Duration::from_secs(600);

/// How long a machine without a connection counts as online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graces {
    /// After the client closed its connection, or was silent: it is gone, or back at once.
    pub client: Duration,
    /// After the server closed it (shutdown, lame duck, expiry, lost): a whole fleet comes back, with jitter.
    pub server: Duration,
    /// After the client went and had come and gone too often of late: flaps are damped. Only what is shown and told comes
    /// later by this; that a machine was gone counts from when it went. Short, because whoever looks at a machine that was
    /// restarted by hand a few times wants to see it go; long enough for an unsteady line to be one incident.
    pub unstable: Duration,
    /// What is too often.
    pub damping: Damping,
}

/// So many changes of presence within so long are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damping {
    /// Changes: coming is one, going is one.
    pub changes: i64,
    /// Within this time.
    pub within: Duration,
}

/// How long the service waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a machine without a connection counts as online.
    pub graces: Graces,
    /// How long a machine over HTTP counts as online after a report. It holds no connection whose end could be heard, so
    /// time alone decides. Dash-Fleet's agents report every 15 to 30 s, its slowest settings every few minutes: after
    /// ten minutes two reports of the slowest, or twenty of the usual, are missing, which no restart of theirs or ours
    /// explains. (Dash-Fleet's own fleet expired by time as well.)
    pub http_ttl: Duration,
    /// After nobody watched for so long there was an outage of ours, in which reports could not be heard.
    pub outage: Duration,
    /// How long machines over HTTP have to report after it, at least.
    pub http_return: Duration,
    /// How soon after an event that a machine's inventory changed the next one may tell of it. An agent may say another
    /// inventory as often as it likes, and all tenants' events go through one outbox into one stream.
    pub inventory: Duration,
    /// A server that gives no sign of life for so long is lost. Servers give one every ten seconds.
    pub silence: Duration,
    /// How often sessions are compared with the servers' lists.
    pub reconcile: Duration,
    /// How long servers have to answer with their lists.
    pub gather: Duration,
    /// How often is looked for machines whose grace is over.
    pub tick: Duration,
    /// How often identity is asked for changes of machines.
    pub mirror: Duration,
    /// How often partitions are made and dropped.
    pub maintain: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            graces: Graces {
                client: Duration::from_secs(2),
                server: Duration::from_secs(45),
                unstable: Duration::from_secs(15),
                damping: Damping {
                    // Six times gone and back: more than somebody does who restarts an agent again and again.
                    changes: 12,
                    within: Duration::from_secs(600),
                },
            },
            http_ttl: HTTP_TTL,
            outage: Duration::from_secs(30),
            http_return: Duration::from_secs(120),
            inventory: Duration::from_secs(60),
            silence: Duration::from_secs(25),
            reconcile: Duration::from_secs(10),
            gather: Duration::from_millis(500),
            tick: Duration::from_millis(500),
            mirror: Duration::from_secs(1),
            maintain: Duration::from_secs(3_600),
        }
    }
}
