//! Tasks, moments and engines for tests.

use std::time::Duration;

use contract::order::Task;
use dashfleet_agent::clock::Moment;
use dashfleet_agent::engine::{Effect, Engine, Life, Work};
use dashfleet_agent::journal::record::Key;
use dashfleet_agent::journal::{Batch, Class, Record};
use dashfleet_agent::policy::Policy;
use domain::action::{ActionKind, Outcome};
use domain::{ActionId, SessionId, Timestamp};
use serde_json::json;

/// A time that is far enough from everything.
pub fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).expect("a time")
}

/// Both clocks, so many milliseconds after the beginning.
pub fn moment(millis: u64) -> Moment {
    Moment {
        now: time(i64::try_from(millis).expect("small")),
        boot: Duration::from_secs(1_000) + Duration::from_millis(millis),
    }
}

/// A task that may begin within a day.
pub fn task(seq: i64, kind: ActionKind) -> Task {
    let payload = match kind {
        ActionKind::Ping | ActionKind::Restart => json!({}),
        ActionKind::Message => json!({ "message": "hello" }),
        ActionKind::Reboot => json!({ "delaySeconds": 60 }),
    };
    Task {
        action: ActionId::new(),
        seq,
        attempt: 1,
        kind,
        payload,
        idempotent: false,
        not_after: time(24 * 3_600 * 1_000),
        traceparent: None,
    }
}

/// A life in the boot of this name.
pub fn life(boot: &str) -> Life {
    Life {
        session: SessionId(uuid::Uuid::new_v4()),
        boot: boot.to_owned(),
        version: "1.2.3".into(),
    }
}

/// An engine without a past, to which the server has spoken.
pub fn engine() -> Engine {
    told(engine_before_the_word(), 0)
}

/// An engine without a past, which waits for the server's first word.
pub fn engine_before_the_word() -> Engine {
    let mut engine = Engine::new(life("boot-a"), Policy::default());
    engine.begin(moment(0));
    for batch in engine.take_batches() {
        engine.durable(batch.id, moment(0));
    }
    engine
}

/// The same engine after an empty page, the server's first word.
pub fn told(mut engine: Engine, at: u64) -> Engine {
    engine.page(Vec::new(), None, time(0), moment(at));
    engine
}

/// The disk takes everything at once; gives what was written.
pub fn write_all(engine: &mut Engine, at: u64) -> Vec<Batch> {
    let mut written = Vec::new();
    loop {
        let batches = engine.take_batches();
        if batches.is_empty() {
            return written;
        }
        for batch in &batches {
            if batch.class != Class::Lazy {
                engine.durable(batch.id, moment(at));
            }
        }
        written.extend(batches);
    }
}

/// What was executed.
pub fn executed(effects: &[Effect]) -> Vec<Work> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Execute(work) => Some(work.clone()),
            _ => None,
        })
        .collect()
}

/// The places of what was executed, in order.
pub fn seqs(effects: &[Effect]) -> Vec<i64> {
    executed(effects).iter().map(|work| work.seq).collect()
}

/// What was said of endings: how, and with which code.
pub fn results(effects: &[Effect]) -> Vec<(Key, Outcome, Option<String>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Result { report, .. } => Some((
                Key {
                    action: report.action,
                    attempt: report.attempt,
                },
                report.outcome,
                report.error.as_ref().map(|error| error.code.clone()),
            )),
            _ => None,
        })
        .collect()
}

/// An execution ends well.
pub fn succeed(engine: &mut Engine, key: Key, at: u64) {
    engine.finished(
        key,
        Outcome::Succeeded,
        Some(serde_json::json!({})),
        None,
        moment(at),
    );
}

/// The records of a life that took and began this task, and died.
pub fn died_in(kind: ActionKind, boot: &str) -> (Vec<Record>, contract::order::Task) {
    let mut engine = Engine::new(life(boot), Policy::default());
    engine.begin(moment(0));
    let mut engine = told(engine, 0);
    let task = task(1, kind);
    engine.offer(task.clone(), time(0), moment(1));
    let records = write_all(&mut engine, 1)
        .into_iter()
        .flat_map(|batch| batch.records)
        .collect();
    (records, task)
}

/// The life after these records, which waits for the server's first word.
pub fn next_life(records: &[Record], boot: &str, at: u64) -> Engine {
    let mut engine = Engine::new(life(boot), Policy::default());
    for record in records {
        engine.apply(record.clone());
    }
    engine.begin(moment(at));
    engine
}
