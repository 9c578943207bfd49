//! When to ask the server what was missed: at each connection, on a gap, when the server wants it, and now and then
//! anyway. One question at a time. It does no I/O.

use std::time::Duration;

use uuid::Uuid;

use crate::backoff;

/// Without any reason, a question comes after about this time.
const PERIOD: Duration = Duration::from_secs(60);
/// The most pages of one round: a server that never ends is not followed for ever.
const PAGES_MAX: u32 = 10_000;
/// The pause between two rounds: a gap that stays open must not keep both sides busy.
const REST: Duration = Duration::from_millis(250);
/// Beyond so many places that are known and not settled, not every regular question is about all of them.
const SPAN_MAX: i64 = 512;
/// Every so many-th is, all the same.
const WHOLE_EVERY: u64 = 10;

/// Where the question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The journal is asked where it stands.
    Head,
    /// The server is asked.
    Asked(Question),
}

/// A question to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Comes back in the page.
    pub nonce: Uuid,
    /// After which place.
    pub after: i64,
    /// What the last page wanted to hear back.
    pub echo: Option<Uuid>,
}

/// When to ask.
#[derive(Debug)]
pub struct Sync {
    phase: Phase,
    /// Something says that a question is wanted: about everything that is open (`true`) or unknown.
    wanted: Option<bool>,
    /// The place after which the next page begins, within a round.
    after: Option<i64>,
    /// What the last page wants to hear back.
    echo: Option<Uuid>,
    pages: u32,
    rounds: u64,
    due: Duration,
    /// No new round begins before this time, whatever wants one.
    rested: Duration,
    failures: u32,
}

impl Sync {
    /// A state that wants to ask at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: Phase::Idle,
            wanted: Some(true),
            after: None,
            echo: None,
            pages: 0,
            rounds: 0,
            due: Duration::ZERO,
            rested: Duration::ZERO,
            failures: 0,
        }
    }

    /// A question is wanted: about everything that is open, or what is unknown only.
    pub fn want(&mut self, whole: bool) {
        self.wanted = Some(self.wanted.unwrap_or(false) || whole);
    }

    /// A new connection: whatever was asked before gets no answer.
    pub fn reconnected(&mut self) {
        self.phase = Phase::Idle;
        self.after = None;
        self.failures = 0;
        self.due = Duration::ZERO;
        self.rested = Duration::ZERO;
        self.want(true);
    }

    /// Whether to ask the journal now where it stands, for a question.
    pub fn begins(&mut self, now: Duration) -> bool {
        let begins = self.next_due().is_some_and(|due| due <= now);
        if begins {
            self.phase = Phase::Head;
        }
        begins
    }

    /// The journal answered: the question. `place` gives the place of the first page of a
    /// round, by whether it is about everything that is open; `span` is how much that is.
    pub fn asks(&mut self, span: i64, place: impl FnOnce(bool) -> i64) -> Option<Question> {
        if self.phase != Phase::Head {
            return None;
        }
        let after = match self.after {
            Some(after) => after,
            None => {
                self.rounds += 1;
                self.pages = 0;
                let wanted = self.wanted.take();
                let whole =
                    wanted.unwrap_or(span <= SPAN_MAX || self.rounds.is_multiple_of(WHOLE_EVERY));
                place(whole)
            }
        };
        let nonce = Uuid::new_v4();
        let question = Question {
            nonce,
            after,
            echo: self.echo.take(),
        };
        self.phase = Phase::Asked(question);
        Some(question)
    }

    /// The question with this nonce, if its answer is waited for.
    #[must_use]
    pub fn awaits(&self, nonce: Uuid) -> Option<Question> {
        match self.phase {
            Phase::Asked(question) if question.nonce == nonce => Some(question),
            _ => None,
        }
    }

    /// A page came that wants to hear from this life again: at once the first time, then with pauses.
    pub fn suspected(&mut self, question: Question, echo: Uuid, now: Duration) {
        self.answered(None, now);
        self.echo = Some(echo);
        self.want(true);
        if question.echo.is_none() {
            self.rested = now;
        }
    }

    /// A page came; `next` is the place of the next one, when there is more and it is wanted.
    pub fn answered(&mut self, next: Option<i64>, now: Duration) {
        self.phase = Phase::Idle;
        self.failures = 0;
        self.pages += 1;
        self.after = next.filter(|_| self.pages < PAGES_MAX);
        self.due = now + backoff::jittered(PERIOD);
        self.rested = now + REST;
    }

    /// No page came, or none that can be believed.
    pub fn failed(&mut self, now: Duration) {
        self.phase = Phase::Idle;
        self.after = None;
        self.due = now + backoff::pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.want(true);
    }

    /// When to ask next, when nothing else happens; `None` while a question is open.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let due = if self.failures > 0 {
            self.due
        } else if self.after.is_some() {
            Duration::ZERO
        } else if self.wanted.is_some() {
            self.rested.min(self.due)
        } else {
            self.due
        };
        (self.phase == Phase::Idle).then_some(due)
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self::new()
    }
}
