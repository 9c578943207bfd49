//! What begins, and in which order: everything in the order of its place; exclusive kinds one at a time and without
//! gaps; the others beside them.

use domain::action::{ActionKind, Payload, REBOOT_DELAY_DEFAULT_SECONDS};
use std::time::Duration;

use crate::clock::Moment;
use crate::engine::entry::Phase;
use crate::engine::{Effect, Engine, Mark, RUNNING_MAX, StepWord, Work};
use crate::journal::record::Key;
use crate::journal::{Class, Record};

/// What is decided about the next in order.
enum Decision {
    /// It begins.
    Start,
    /// It is over before it begins: its time is past, or the owner of the machine forbids it.
    End,
    /// It waits, and what is behind it may pass.
    Pass,
    /// It waits, and everything behind it too.
    Wait,
}

impl Engine {
    /// Begins what may begin.
    pub(super) fn start_ready(&mut self, moment: Moment) {
        self.start_in_order(moment, None);
    }

    /// Begins what may begin, in the order of places; with `only`, nothing but that one, and only if nothing else
    /// comes first.
    pub(super) fn start_in_order(&mut self, moment: Moment, only: Option<Key>) {
        if self.stopping || self.quarantined.is_some() || self.awaits_word {
            return;
        }
        let mut exclusive_waits = false;
        for (seq, key) in self.ready.iter().copied().collect::<Vec<_>>() {
            let decision = self.decide(seq, key, exclusive_waits, moment);
            match decision {
                Decision::Start | Decision::End if only.is_some_and(|only| only != key) => return,
                Decision::Start => self.start(seq, key, moment),
                Decision::End => self.end_unbegun(key, moment),
                Decision::Pass => exclusive_waits = true,
                Decision::Wait => return,
            }
        }
    }

    fn decide(&self, seq: i64, key: Key, exclusive_waits: bool, moment: Moment) -> Decision {
        let Some(entry) = self.entries.get(&key) else {
            return Decision::Wait;
        };
        let (Some(task), Phase::Accepted { durable }) = (&entry.task, &entry.phase) else {
            return Decision::Wait;
        };
        if !durable && !self.current.marks.contains(&Mark::Accepted(key)) {
            return Decision::Wait;
        }
        if self.restarts() {
            return Decision::Wait;
        }
        if self.refusal(task, moment).is_some() {
            return Decision::End;
        }
        if !task.kind.is_exclusive() {
            return if self.running.len() < RUNNING_MAX {
                Decision::Start
            } else {
                Decision::Wait
            };
        }
        // A gap or a delay can last: what is behind may pass. Everything else is a matter of moments.
        let delayed = self.exclusive.is_some() && self.delays.keys().next().is_some();
        if exclusive_waits || delayed || self.sequence.known_through() < seq - 1 {
            return Decision::Pass;
        }
        if self.exclusive.is_some() || self.may_be_forgotten_before(seq) {
            return Decision::Wait;
        }
        // It takes the machine or the agent down: what came before it ends first, what comes after waits for it.
        let before = self
            .running
            .first()
            .is_some_and(|(running, _)| *running < seq);
        if before {
            Decision::Wait
        } else {
            Decision::Start
        }
    }

    /// Whether an action before this place is refused and the full disk may not even take the refusal: then it will
    /// come again, and the place is a gap.
    fn may_be_forgotten_before(&self, seq: i64) -> bool {
        let refusals = self
            .in_flight
            .iter()
            .filter(|(_, class, _)| *class == Class::Refusal);
        refusals
            .flat_map(|(_, _, marks)| marks)
            .any(|mark| match mark {
                Mark::Ended(key) => self.entries.get(key).is_some_and(|entry| entry.seq < seq),
                _ => false,
            })
    }

    /// Whether the agent is about to be restarted.
    fn restarts(&self) -> bool {
        let exclusive = self.exclusive.and_then(|key| self.entries.get(&key));
        exclusive.is_some_and(|entry| entry.kind() == Some(ActionKind::Restart))
    }

    fn start(&mut self, seq: i64, key: Key, moment: Moment) {
        let began_in = (self.life.session, self.life.boot.clone());
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.phase = Phase::Starting;
        entry.started_at = Some(moment.now);
        entry.began_in = Some(Box::new(began_in.clone()));
        let exclusive = entry.kind().is_some_and(ActionKind::is_exclusive);
        self.ready.remove(&(seq, key));
        if exclusive {
            self.exclusive = Some(key);
        } else {
            self.running.insert((seq, key));
        }
        let (session, boot) = began_in;
        let Key { action, attempt } = key;
        self.write(
            Record::Started {
                action,
                attempt,
                at: moment.now,
                session,
                boot,
            },
            Mark::Started(key),
        );
    }

    /// The beginning is on the disk: now it is executed, or its delay begins.
    pub(super) fn started_durable(&mut self, key: Key, moment: Moment) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if entry.phase != Phase::Starting {
            return;
        }
        let delay = entry
            .task
            .as_ref()
            .and_then(|task| delay_of(task.kind, &task.payload));
        match delay {
            Some(_) if entry.cancel => {
                self.end(key, domain::action::Outcome::Cancelled, None, None, moment);
                return;
            }
            Some(delay) if delay > Duration::ZERO => {
                let until = moment.boot.saturating_add(delay);
                entry.phase = Phase::Waiting { until };
                self.delays.insert((until, key), ());
            }
            _ => self.execute(key),
        }
        let step = self
            .entries
            .get(&key)
            .and_then(|entry| entry.step(key, StepWord::Started, false));
        self.effects.extend(step);
    }

    pub(super) fn execute(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let Some(task) = &entry.task else { return };
        // Checked when it was accepted, and when it began.
        let Ok(payload) = Payload::parse(task.kind, &task.payload) else {
            return;
        };
        entry.phase = Phase::Running;
        self.tally.executed += 1;
        let work = Work {
            key,
            seq: entry.seq,
            payload,
            kind: task.kind,
            traceparent: task.traceparent.clone(),
        };
        self.effects.push(Effect::Execute(work));
    }

    pub(super) fn end_delays(&mut self, moment: Moment) {
        while let Some((until, key)) = self
            .delays
            .keys()
            .next()
            .copied()
            .filter(|(until, _)| *until <= moment.boot)
        {
            self.delays.remove(&(until, key));
            // The agent that is being stopped begins nothing; the machine is perhaps going down already.
            if !self.stopping {
                self.execute(key);
            }
        }
    }

    pub(super) fn expire_ready(&mut self, moment: Moment) {
        // Before the server's word the time is the machine's own, and anybody may have set that.
        if self.awaits_word {
            return;
        }
        for (_, key) in self.ready.iter().copied().collect::<Vec<_>>() {
            let over = self
                .entries
                .get(&key)
                .and_then(|entry| entry.task.as_ref())
                .is_some_and(|task| task.not_after <= moment.now);
            if over {
                self.end_unbegun(key, moment);
            }
        }
    }

    fn end_unbegun(&mut self, key: Key, moment: Moment) {
        let task = self
            .entries
            .get(&key)
            .and_then(|entry| entry.task.as_deref());
        if let Some((outcome, error)) = task.and_then(|task| self.refusal(task, moment)) {
            self.end(key, outcome, None, error, moment);
        }
    }
}

/// How long after its beginning a kind is executed; `None` for kinds that know no delay.
fn delay_of(kind: ActionKind, payload: &serde_json::Value) -> Option<Duration> {
    match Payload::parse(kind, payload) {
        Ok(Payload::Reboot(reboot)) => Some(Duration::from_secs(
            reboot
                .delay_seconds
                .unwrap_or(REBOOT_DELAY_DEFAULT_SECONDS)
                .into(),
        )),
        _ => None,
    }
}
