//! The engine: decides what is executed, when, and what is said about it. It does no I/O and reads no clock: what it
//! wants written and done it hands out, and what was written and done it is told.
//!
//! Rooms: [`entry`] what is known of one attempt, [`sequence`] which places are known, [`accept`] orders that come in,
//! [`start`] what begins, [`end`] how things end, [`recover`] the life before.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use contract::agent::{ResultReport, Step};
use contract::order::Task;
use domain::action::{ActionKind, Payload};
use domain::{SessionId, Timestamp};

use crate::clock::Moment;
use crate::journal::record::Key;
use crate::journal::{Batch, Class, Record};
use crate::policy::Policy;

pub mod accept;
pub mod end;
pub mod entry;
pub mod recover;
pub mod sequence;
pub mod start;

use entry::Entry;
use sequence::Sequence;

/// The most actions that are accepted and not ended: what the reserve of the journal is counted for.
pub const OPEN_MAX: usize = 256;
/// The most bytes of their payloads.
pub const OPEN_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The most actions that run at once.
pub const RUNNING_MAX: usize = 8;
/// The most ended actions that are remembered; the oldest settled ones are forgotten first.
pub const REMEMBERED_MAX: usize = 20_000;
/// The most orders that are kept in memory until the server's word is there; the others stay with the server.
pub const HELD_MAX: usize = 16;

/// Who executes: this life of the agent, in this boot of the machine.
#[derive(Clone, Debug)]
pub struct Life {
    /// This life.
    pub session: SessionId,
    /// This boot.
    pub boot: String,
    /// The agent's version, for results.
    pub version: String,
}

/// What is to be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Which attempt.
    pub key: Key,
    /// Its place.
    pub seq: i64,
    /// Its kind and what it takes.
    pub payload: Payload,
    /// Its kind.
    pub kind: ActionKind,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
}

/// A step of an attempt, for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepWord {
    /// It is in the journal.
    Accepted,
    /// It began.
    Started,
}

/// What is to be done now. Everything that must be durable before is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Execute this, once.
    Execute(Work),
    /// Say that an attempt reached a step, unless it ends soon; `asked` when the server asked for it.
    Step {
        /// The step.
        word: StepWord,
        /// What is said.
        step: Step,
        /// Whether to say it at once.
        asked: bool,
        /// The trace that it belongs to.
        traceparent: Option<String>,
    },
    /// Say how an attempt ended, until the owner has it.
    Result {
        /// What is said.
        report: ResultReport,
        /// The trace that it belongs to.
        traceparent: Option<String>,
    },
    /// Ask what was missed.
    Sync,
}

/// What a batch of records is about, for when it is durable or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Accepted(Key),
    Started(Key),
    Ended(Key),
}

/// Counters for the owner of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that were accepted.
    pub accepted: u64,
    /// Attempts that were begun.
    pub executed: u64,
    /// New actions refused because the disk is full.
    pub journal_full: u64,
    /// Orders that were about something long settled.
    pub stale: u64,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    life: Life,
    policy: Policy,
    entries: HashMap<Key, Entry>,
    sequence: Sequence,
    /// What is accepted and not begun, in order.
    ready: BTreeSet<(i64, Key)>,
    /// What runs beside, in order.
    running: BTreeSet<(i64, Key)>,
    /// What runs alone.
    exclusive: Option<Key>,
    /// Delays that end, by time since boot.
    delays: BTreeMap<(Duration, Key), ()>,
    open_bytes: usize,
    open: usize,
    quarantined: Option<String>,
    /// Whether the server's word is waited for: from the beginning of a life, and while the server suspects that this
    /// is a copy. Until it is there nothing begins and no deadline is judged: the journal may be an old one, and the
    /// machine's clock a wrong one.
    awaits_word: bool,
    /// The server's time of its first word in this life. What was signed before is taken from a page only: a page
    /// knows what became of it, a late doorbell does not.
    first_word: Option<Timestamp>,
    /// Orders that came while the word was waited for.
    held: Vec<Held>,
    stopping: bool,
    turned_away: bool,
    next_batch: u64,
    current: Current,
    batches: Vec<Batch>,
    in_flight: VecDeque<(u64, Class, Vec<Mark>)>,
    effects: Vec<Effect>,
    tally: Tally,
}

/// An order that waits for the server's word, and when it was signed.
#[derive(Clone, Debug)]
enum Held {
    New(Task, Timestamp),
    Cancel(Task, Timestamp),
}

/// The batch that is being put together.
#[derive(Debug, Default)]
struct Current {
    records: Vec<Record>,
    marks: Vec<Mark>,
}

impl Engine {
    /// An engine that knows nothing.
    #[must_use]
    pub fn new(life: Life, policy: Policy) -> Self {
        Self {
            life,
            policy,
            entries: HashMap::new(),
            sequence: Sequence::default(),
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            exclusive: None,
            delays: BTreeMap::new(),
            open_bytes: 0,
            open: 0,
            quarantined: None,
            awaits_word: true,
            first_word: None,
            held: Vec::new(),
            stopping: false,
            turned_away: false,
            next_batch: 1,
            current: Current::default(),
            batches: Vec::new(),
            in_flight: VecDeque::new(),
            effects: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// What is to be written, in order. Each batch but lazy ones must be answered by [`Engine::durable`] or
    /// [`Engine::rejected`], in order.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        self.seal(Class::Owed);
        std::mem::take(&mut self.batches)
    }

    /// What is to be done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn write(&mut self, record: Record, mark: Mark) {
        self.current.records.push(record);
        self.current.marks.push(mark);
    }

    /// Ends the batch that is being put together, as one of this class.
    fn seal(&mut self, class: Class) {
        let Current { records, marks } = std::mem::take(&mut self.current);
        if !records.is_empty() {
            self.push_batch(class, records, marks);
        }
    }

    fn push_batch(&mut self, class: Class, records: Vec<Record>, marks: Vec<Mark>) {
        let id = self.next_batch;
        self.next_batch += 1;
        if class != Class::Lazy {
            self.in_flight.push_back((id, class, marks));
        }
        self.batches.push(Batch { id, class, records });
    }

    /// A batch is on the disk.
    pub fn durable(&mut self, batch: u64, moment: Moment) {
        let Some((_, _, marks)) = self.answered(batch) else {
            return;
        };
        for mark in marks {
            match mark {
                Mark::Accepted(key) => self.accepted_durable(key),
                Mark::Started(key) => self.started_durable(key, moment),
                Mark::Ended(key) => self.ended_durable(key),
            }
        }
        self.start_ready(moment);
    }

    /// The disk is full: nothing of the batch was written.
    pub fn rejected(&mut self, batch: u64, moment: Moment) {
        let Some((_, _, marks)) = self.answered(batch) else {
            return;
        };
        for mark in marks {
            match mark {
                Mark::Accepted(key) => self.refuse_full(key, moment),
                Mark::Started(_) => {}
                Mark::Ended(key) => self.forget_refused(key),
            }
        }
        self.start_ready(moment);
    }

    fn answered(&mut self, batch: u64) -> Option<(u64, Class, Vec<Mark>)> {
        match self.in_flight.pop_front() {
            Some(answered) if answered.0 == batch => Some(answered),
            other => {
                tracing::error!(batch, expected = ?other.map(|(id, ..)| id), "the journal answered out of order");
                None
            }
        }
    }

    /// Time passes: delays end, deadlines pass, what is long over is forgotten.
    pub fn tick(&mut self, moment: Moment) {
        self.end_delays(moment);
        self.expire_ready(moment);
        self.start_ready(moment);
    }

    /// When the engine wants to be told the time again, since boot; `None` when nothing waits for it.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        self.delays.keys().next().map(|(until, _)| *until)
    }

    /// From now on nothing begins any more.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// How many run, without those that wait for the machine itself.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many batches wait for the disk.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether something is being written.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Why the server does not trust this machine.
    #[must_use]
    pub fn quarantined(&self) -> Option<&str> {
        self.quarantined.as_deref()
    }

    /// The counters.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many actions are accepted and not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// What is accepted and not ended, in no particular order of the two lists that it comes from.
    pub fn open_keys(&self) -> impl Iterator<Item = (Key, Option<ActionKind>)> {
        let beside = self.running.iter().chain(&self.ready).map(|(_, key)| *key);
        let keys = self.exclusive.into_iter().chain(beside);
        keys.map(move |key| (key, self.entries.get(&key).and_then(Entry::kind)))
    }

    /// Whether something was turned away, because there was no room or because it came too early, and would be taken
    /// from a page now.
    pub fn room_again(&mut self) -> bool {
        let room = self.turned_away
            && !self.awaits_word
            && self.open <= OPEN_MAX / 2
            && self.open_bytes <= OPEN_MAX_BYTES / 2;
        if room {
            self.turned_away = false;
        }
        room
    }
}
