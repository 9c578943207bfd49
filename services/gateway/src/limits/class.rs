//! What is limited, and how much of it. Every class is counted over all replicas.

use std::time::Duration;

use poem::http::Method;

/// A minute, after which what is counted by minutes is counted anew.
pub const MINUTE: Duration = Duration::from_secs(60);
/// So many at once are taken of every rate, however small it is.
const BURST_LEAST: u32 = 10;
/// What is taken at once of a large rate: this part of a second's. So no second sees more than a quarter above the rate, and
/// four seconds hardly any.
const BURST_PART: u32 = 4;
/// A replica tells the others once it took this part of what a second (or minute) allows.
const TOLD_PART: u32 = 200;

/// One limit: so many, in such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub amount: u32,
    /// In which time, and how they come back.
    pub refill: Refill,
}

/// How what was taken comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// Evenly: `amount` in each second, of which so many may be taken at once.
    Steady {
        /// At once.
        burst: u32,
    },
    /// All of it, a minute after the first was taken.
    Minute,
}

impl Limit {
    /// So many in each second, evenly.
    #[must_use]
    pub fn steady(amount: u32) -> Self {
        let burst = amount.min(BURST_LEAST.max(amount / BURST_PART));
        Self {
            amount,
            refill: Refill::Steady { burst },
        }
    }

    /// So many in each second, also all at once.
    #[must_use]
    pub fn at_once(amount: u32) -> Self {
        let refill = Refill::Steady { burst: amount };
        Self { amount, refill }
    }

    /// So many in a minute.
    #[must_use]
    pub fn minute(amount: u32) -> Self {
        Self {
            amount,
            refill: Refill::Minute,
        }
    }

    /// From how many on the others are told.
    #[must_use]
    pub fn told_from(&self) -> u32 {
        (self.amount / TOLD_PART).max(1)
    }

    /// The time that `amount` is for, in a word.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.refill {
            Refill::Steady { .. } => "second",
            Refill::Minute => "minute",
        }
    }
}

macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident = $name:literal, $what:literal;)+) => {
        /// What is limited.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Class {
            $($(#[$doc])* $class,)+
        }

        impl Class {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$class,)+];

            /// Its name, on the bus and in the metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$class => $name,)+
                }
            }

            /// What there was too much of, for a person: "more than 7 …".
            #[must_use]
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$class => $what,)+
                }
            }
        }
    };
}

classes! {
    /// Requests from an address, whoever makes them.
    Address = "address", "requests from this address";
    /// Requests without a credential that cost others work: how machines enrol.
    Open = "open", "requests without a credential from this address";
    /// Ways to the bus that an address opens.
    Tunnels = "tunnels", "connections to the bus from this address";
    /// Failed authentications from an address.
    Failures = "failures", "failed authentications from this address";
    /// Logins and what is like them from an address: each costs a slow hash or a signature.
    Logins = "logins", "logins from this address";
    /// Requests with a credential.
    Requests = "requests", "requests with this credential";
    /// Changes among them.
    Writes = "writes", "changes with this credential";
    /// Heavy ones among them.
    Heavy = "heavy", "heavy requests (exports, batches, selectors) with this credential";
    /// Requests of a person, over all their sessions.
    UserRequests = "user-requests", "requests by this person";
    /// Changes among them.
    UserWrites = "user-writes", "changes by this person";
    /// Heavy ones among them.
    UserHeavy = "user-heavy", "heavy requests (exports, batches, selectors) by this person";
    /// `POST /api/fleet/report`
    LegacyReport = "legacy-report", "requests";
    /// `GET /api/fleet`
    LegacyFleet = "legacy-fleet", "requests";
    /// `POST /api/actions/queue`
    LegacyQueue = "legacy-queue", "requests";
    /// `GET /api/actions/pending`
    LegacyPending = "legacy-pending", "requests";
    /// `POST /api/actions/report`
    LegacyResult = "legacy-result", "requests";
    /// The same, of all actions of a key and an address together.
    LegacyResults = "legacy-results", "reports of actions with this key from this address";
}

impl Class {
    /// The class of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.name() == name)
    }

    /// Whether its subjects are known to identity: nobody invents them.
    #[must_use]
    pub fn is_known(self) -> bool {
        matches!(
            self,
            Self::Requests
                | Self::Writes
                | Self::Heavy
                | Self::UserRequests
                | Self::UserWrites
                | Self::UserHeavy
        )
    }
}

/// What a request weighs besides being one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// It changes something.
    pub write: bool,
    /// It costs much more than others: an export, a batch.
    pub heavy: bool,
}

/// The last words of paths whose requests are heavy whatever their bodies say. Where a body decides, the operation says so
/// ([`crate::caller::Caller::heavy`]).
const HEAVY: [&str; 5] = ["export", "batch", "labels", "verify", "cleanup"];

impl Weight {
    /// The weight of an operation, by its method and the template of its path.
    #[must_use]
    pub fn of(method: &Method, template: &str) -> Self {
        let last = template.rsplit('/').next().unwrap_or_default();
        Self {
            write: !matches!(*method, Method::GET | Method::HEAD),
            heavy: HEAVY.contains(&last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_are_unique() {
        for class in Class::ALL {
            assert_eq!(Class::of_name(class.name()), Some(*class));
        }
        assert_eq!(Class::of_name("nothing"), None);
    }

    #[test]
    fn what_is_taken_at_once_is_a_quarter_of_a_second_and_never_nothing() {
        for (amount, burst) in [(0, 0), (5, 5), (20, 10), (1_000, 250), (10_000, 2_500)] {
            assert_eq!(
                Limit::steady(amount).refill,
                Refill::Steady { burst },
                "{amount}"
            );
        }
    }

    #[test]
    fn exports_and_batches_are_heavy_and_the_rest_is_read_or_written() {
        for (method, template, write, heavy) in [
            (Method::GET, "/api/v1/machines", false, false),
            (Method::HEAD, "/api/v1/machines/{id}", false, false),
            (Method::POST, "/api/v1/actions", true, false),
            (Method::POST, "/api/v1/machines/labels", true, true),
            (Method::GET, "/api/v1/audit-events/export", false, true),
            (Method::DELETE, "/api/v1/machines/{id}", true, false),
        ] {
            assert_eq!(
                Weight::of(&method, template),
                Weight { write, heavy },
                "{method} {template}"
            );
        }
    }
}
