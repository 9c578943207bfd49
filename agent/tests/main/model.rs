//! The engine against a world that loses, repeats and reorders everything and crashes between any two steps:
//! each attempt is executed at most once, exclusive kinds in order, and what is said is what was done.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use contract::agent::ResultReport;
use contract::order::{SyncItem, Task};
use dashfleet_agent::engine::{Effect, Engine, Life, Work};
use dashfleet_agent::journal::record::Key;
use dashfleet_agent::journal::{Batch, Class, Record};
use dashfleet_agent::policy::Policy;
use domain::action::{ActionKind, Outcome};
use proptest::prelude::*;
use serde_json::json;

use super::task::{life, moment, task, time};

#[derive(Clone, Debug)]
enum Step {
    /// The doorbell of an action rings (again).
    Ring(usize),
    /// Somebody cancels an action, and the doorbell rings.
    Cancel(usize),
    /// The doorbell of a cancellation rings again.
    RingCancel(usize),
    /// The agent asks what it missed and gets so many items.
    Sync { items: usize, whole: bool },
    /// The disk takes so many batches.
    Commit(usize),
    /// The disk is full for the next batch that may be refused.
    Reject,
    /// What runs ends.
    Finish(usize),
    /// A result reaches the server, and its answer the agent or not.
    Report { which: usize, answered: bool },
    /// The agent dies; so many records of what was under way reach the disk. The server speaks to the next life at
    /// once, or when it is asked.
    Crash {
        records: usize,
        reboot: bool,
        told: bool,
    },
    /// Time passes.
    Pass(u64),
    /// The journal is written anew.
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12usize).prop_map(Step::Ring),
        2 => (0..12usize).prop_map(Step::Cancel),
        1 => (0..12usize).prop_map(Step::RingCancel),
        3 => (0..12usize, any::<bool>()).prop_map(|(items, whole)| Step::Sync { items, whole }),
        8 => (1..4usize).prop_map(Step::Commit),
        1 => Just(Step::Reject),
        5 => (0..8usize).prop_map(Step::Finish),
        4 => (0..8usize, any::<bool>()).prop_map(|(which, answered)| Step::Report { which, answered }),
        2 => (0..6usize, any::<bool>(), any::<bool>())
            .prop_map(|(records, reboot, told)| Step::Crash { records, reboot, told }),
        2 => (0..4_000u64).prop_map(Step::Pass),
        1 => Just(Step::Compact),
    ]
}

/// Kind, whether it is idempotent, and how many milliseconds it has.
fn plan() -> impl Strategy<Value = (ActionKind, bool, u64)> {
    let kind = prop_oneof![
        4 => Just(ActionKind::Ping),
        2 => Just(ActionKind::Message),
        2 => Just(ActionKind::Restart),
        2 => Just(ActionKind::Reboot),
    ];
    (
        kind,
        any::<bool>(),
        prop_oneof![1 => 500..8_000u64, 4 => Just(1_000_000_000)],
    )
}

/// An action as the server has it.
struct Action {
    task: Task,
    cancel: bool,
    end: Option<Outcome>,
}

struct World {
    actions: Vec<Action>,
    engine: Engine,
    boot: u32,
    now: u64,
    /// What is on the disk.
    disk: Vec<Record>,
    /// What is on its way there.
    writing: VecDeque<Batch>,
    running: Vec<Work>,
    results: BTreeMap<Key, ResultReport>,
    executed: HashMap<Key, i64>,
    exclusive: Vec<Key>,
    /// What the agent ever said, to anybody.
    said: HashMap<Key, Outcome>,
    /// Whether the server has spoken to this life.
    told: bool,
    dies: Option<bool>,
}

impl World {
    fn new(plans: Vec<(ActionKind, bool, u64)>) -> Self {
        let actions = plans
            .into_iter()
            .zip(1..)
            .map(|((kind, idempotent, lasts), seq)| {
                let payload = if kind == ActionKind::Reboot {
                    json!({ "delaySeconds": seq % 3 })
                } else {
                    task(1, kind).payload
                };
                let not_after = time(i64::try_from(lasts).unwrap());
                Action {
                    task: Task {
                        idempotent,
                        not_after,
                        payload,
                        ..task(seq, kind)
                    },
                    cancel: false,
                    end: None,
                }
            })
            .collect();
        let mut world = Self {
            actions,
            engine: Engine::new(life("none"), Policy::default()),
            boot: 0,
            now: 0,
            disk: Vec::new(),
            writing: VecDeque::new(),
            running: Vec::new(),
            results: BTreeMap::new(),
            executed: HashMap::new(),
            exclusive: Vec::new(),
            said: HashMap::new(),
            told: false,
            dies: None,
        };
        world.live();
        world
    }

    /// A life begins with what is on the disk.
    fn live(&mut self) {
        let life = Life {
            boot: format!("boot-{}", self.boot),
            ..life("")
        };
        self.engine = Engine::new(life, Policy::default());
        for record in &self.disk {
            self.engine.apply(record.clone());
        }
        self.told = false;
        self.engine.begin(moment(self.now));
        self.pump();
    }

    fn crash(&mut self, records: usize, reboot: bool) {
        let mut reached: Vec<Record> = self
            .writing
            .drain(..)
            .flat_map(|batch| batch.records)
            .collect();
        reached.truncate(records);
        self.disk.extend(reached);
        self.running.clear();
        self.exclusive.clear();
        self.results.clear();
        self.boot += u32::from(reboot);
        self.live();
    }

    fn pump(&mut self) {
        self.writing.extend(self.engine.take_batches());
        for effect in self.engine.take_effects() {
            match effect {
                Effect::Execute(work) => self.execute(work),
                Effect::Result { report, .. } => self.hear(report),
                Effect::Step { .. } | Effect::Sync => {}
            }
        }
    }

    fn on_disk(&self, wanted: impl Fn(&Record) -> bool) -> bool {
        self.disk.iter().any(wanted)
    }

    fn execute(&mut self, work: Work) {
        assert!(
            self.told,
            "executed before the server's first word: {work:?}"
        );
        let Key { action, attempt } = work.key;
        let begun = |record: &Record| matches!(record, Record::Started { action: a, attempt: n, .. } if (*a, *n) == (action, attempt));
        assert!(
            self.on_disk(begun),
            "executed before its beginning is on the disk"
        );
        assert_eq!(
            self.executed.insert(work.key, work.seq),
            None,
            "executed twice: {work:?}"
        );
        assert!(
            !self.said.contains_key(&work.key),
            "executed after it was said to be over: {work:?}"
        );
        if work.kind.is_exclusive() {
            assert!(
                self.exclusive.is_empty(),
                "two exclusive ones at once: {work:?} beside {:?}",
                self.exclusive
            );
            for action in self
                .actions
                .iter()
                .filter(|action| action.task.kind.is_exclusive() && action.task.seq < work.seq)
            {
                let key = Key {
                    attempt: 1,
                    ..Key::of(&action.task)
                };
                let over = action.end.is_some()
                    || self.said.contains_key(&key)
                    || self.is_over_on_disk(key);
                assert!(over, "{} overtakes {}", work.seq, action.task.seq);
            }
            self.exclusive.push(work.key);
        }
        self.running.push(work);
    }

    /// Whether the agent has written down, or is writing down, how it ended.
    fn is_over_on_disk(&self, key: Key) -> bool {
        let ended = |record: &Record| matches!(record, Record::Ended(ended) if ended.key() == key);
        self.disk
            .iter()
            .chain(self.writing.iter().flat_map(|batch| &batch.records))
            .any(ended)
    }

    fn hear(&mut self, report: ResultReport) {
        let key = Key {
            action: report.action,
            attempt: report.attempt,
        };
        let outcome = report.outcome;
        assert!(
            self.on_disk(|record| matches!(record, Record::Ended(ended) if ended.key() == key && ended.outcome == outcome)),
            "said before it is on the disk"
        );
        if let Some(before) = self.said.insert(key, outcome) {
            assert_eq!(before, outcome, "said otherwise before");
        }
        self.results.insert(key, report);
    }

    fn finish(&mut self, which: usize) {
        if self.running.is_empty() {
            return;
        }
        let work = self.running.remove(which % self.running.len());
        match work.kind {
            // It ends when everything that runs has ended, by a new life.
            ActionKind::Restart => self.dies = Some(false),
            ActionKind::Reboot if which.is_multiple_of(2) => self.dies = Some(true),
            _ => {
                self.exclusive.retain(|key| *key != work.key);
                self.engine
                    .finished(work.key, Outcome::Succeeded, None, None, moment(self.now));
                self.pump();
            }
        }
        if let Some(reboot) = self.dies.take() {
            self.commit(usize::MAX);
            self.crash(0, reboot);
        }
    }

    fn commit(&mut self, batches: usize) {
        for _ in 0..batches {
            let Some(batch) = self.writing.pop_front() else {
                return;
            };
            self.disk.extend(batch.records);
            if batch.class != Class::Lazy {
                self.engine.durable(batch.id, moment(self.now));
                self.pump();
            }
        }
    }

    fn reject(&mut self) {
        // Those before it are written: the journal answers in order.
        let next = self
            .writing
            .iter()
            .position(|batch| matches!(batch.class, Class::New | Class::Refusal));
        let Some(next) = next else { return };
        self.commit(next);
        if let Some(batch) = self.writing.front()
            && matches!(batch.class, Class::New | Class::Refusal)
        {
            let id = batch.id;
            self.writing.pop_front();
            self.engine.rejected(id, moment(self.now));
            self.pump();
        }
    }

    fn sync(&mut self, items: usize, whole: bool) {
        self.told = true;
        let after = self.engine.sync_after(whole);
        let page = self
            .actions
            .iter()
            .filter(|action| {
                action.task.seq > after
                    || (action.end.is_none() && (action.cancel || action.task.attempt > 1))
            })
            .take(items)
            .map(|action| match action.end {
                Some(_) => SyncItem::Ended {
                    seq: action.task.seq,
                    through: action.task.seq,
                },
                None => SyncItem::Open {
                    task: action.task.clone(),
                    cancel: action.cancel,
                },
            })
            .collect();
        let now = time(i64::try_from(self.now).unwrap());
        self.engine.page(page, None, now, moment(self.now));
        self.pump();
    }

    fn report(&mut self, which: usize, answered: bool) {
        if self.results.is_empty() {
            return;
        }
        let key = *self.results.keys().nth(which % self.results.len()).unwrap();
        let report = self.results[&key].clone();
        let action = self
            .actions
            .iter_mut()
            .find(|action| action.task.action == key.action)
            .unwrap();
        if action.task.attempt == key.attempt && action.end.is_none() {
            if report.outcome == Outcome::Interrupted
                && action.task.idempotent
                && key.attempt < 3
                && !action.cancel
            {
                action.task.attempt += 1;
            } else {
                action.end = Some(report.outcome);
            }
        }
        if answered {
            self.results.remove(&key);
            self.engine.reported(key);
            self.pump();
        }
    }

    fn step(&mut self, step: Step) {
        let count = self.actions.len();
        let now = time(i64::try_from(self.now).unwrap());
        match step {
            Step::Ring(which) => {
                let task = self.actions[which % count].task.clone();
                self.engine.offer(task, now, moment(self.now));
                self.pump();
            }
            Step::Cancel(which) | Step::RingCancel(which) => {
                let action = &mut self.actions[which % count];
                action.cancel |= matches!(step, Step::Cancel(_)) && action.end.is_none();
                if action.cancel {
                    let task = action.task.clone();
                    self.engine.cancel(task, now, moment(self.now));
                    self.pump();
                }
            }
            Step::Sync { items, whole } => self.sync(items, whole),
            Step::Commit(batches) => self.commit(batches),
            Step::Reject => self.reject(),
            Step::Finish(which) => self.finish(which),
            Step::Report { which, answered } => self.report(which, answered),
            Step::Crash {
                records,
                reboot,
                told,
            } => {
                self.crash(records, reboot);
                if told {
                    self.sync(0, true);
                }
            }
            Step::Pass(millis) => {
                self.now += millis;
                self.engine.tick(moment(self.now));
                self.pump();
            }
            Step::Compact => {
                self.commit(usize::MAX);
                self.disk = self.engine.snapshot(moment(self.now));
            }
        }
    }

    /// Everything works from now on: all that is open must end.
    fn settle(&mut self) {
        for _ in 0..400 {
            self.commit(usize::MAX);
            self.finish(1);
            self.commit(usize::MAX);
            self.report(0, true);
            self.sync(usize::MAX, true);
            self.step(Step::Pass(100));
            if self.actions.iter().all(|action| action.end.is_some()) && self.results.is_empty() {
                return;
            }
        }
        let open: Vec<_> = self
            .actions
            .iter()
            .filter(|action| action.end.is_none())
            .map(|action| &action.task)
            .collect();
        panic!("still open: {open:?}");
    }

    fn check(&self) {
        for action in &self.actions {
            for attempt in 1..=action.task.attempt {
                let key = Key {
                    attempt,
                    ..Key::of(&action.task)
                };
                let done = self.executed.contains_key(&key);
                match self.said.get(&key) {
                    Some(Outcome::Expired | Outcome::Cancelled | Outcome::Failed) => {
                        assert!(
                            !done,
                            "{key:?} was executed, and the agent said that it was not"
                        );
                    }
                    Some(Outcome::Succeeded) if !action.task.kind.is_exclusive() => {
                        assert!(
                            done,
                            "{key:?} was not executed, and the agent said that it was"
                        );
                    }
                    _ => {}
                }
            }
        }
        let order: Vec<_> = self
            .executed
            .keys()
            .filter(|key| key.attempt == 1)
            .collect();
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), order.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_attempt_is_executed_at_most_once_and_reported_as_it_was(
        plans in proptest::collection::vec(plan(), 1..10),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(plans);
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check();
    }
}
