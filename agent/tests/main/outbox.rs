//! What is said, when, and until when; and when the agent asks.

use std::time::Duration;

use contract::agent::{ResultReport, Step, Verdict};
use dashfleet_agent::app::outbox::{FLYING_MAX, Outbox, Report};
use dashfleet_agent::app::sync::Sync;
use dashfleet_agent::engine::StepWord;
use domain::ActionId;
use domain::action::Outcome;

use super::task::time;

fn result(action: ActionId) -> ResultReport {
    ResultReport {
        action,
        attempt: 1,
        outcome: Outcome::Succeeded,
        result: None,
        error: None,
        accepted_at: None,
        started_at: None,
        finished_at: time(0),
    }
}

fn step(action: ActionId) -> Step {
    Step {
        action,
        attempt: 1,
        at: time(0),
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn an_action_that_ends_soon_costs_one_message() {
    let mut outbox = Outbox::default();
    let action = ActionId::new();
    outbox.step(StepWord::Started, step(action), false, None, ms(0));
    assert!(outbox.due(ms(99)).is_empty());
    outbox.result(result(action), None, ms(99));
    let due = outbox.due(ms(99));
    assert_eq!(due.len(), 1);
    assert!(matches!(due[0].report, Report::Result(_)));
    assert!(outbox.answered(&due[0], Some(Verdict::Applied), ms(100)));
    assert!(outbox.due(ms(1_000_000)).is_empty());
}

#[test]
fn an_action_that_lasts_says_its_step_once_and_again_when_asked() {
    let mut outbox = Outbox::default();
    let action = ActionId::new();
    outbox.step(StepWord::Started, step(action), false, None, ms(0));
    let due = outbox.due(ms(100));
    assert!(matches!(due[0].report, Report::Step(StepWord::Started, _)));
    assert!(!outbox.answered(&due[0], Some(Verdict::Applied), ms(101)));
    outbox.step(StepWord::Started, step(action), false, None, ms(200));
    assert!(outbox.due(ms(10_000)).is_empty(), "the owner knows");
    outbox.step(StepWord::Started, step(action), true, None, ms(10_000));
    assert_eq!(outbox.due(ms(10_000)).len(), 1, "the owner asks");
}

#[test]
fn a_result_is_said_again_until_somebody_has_it_and_at_once_on_a_new_connection() {
    for verdict in [Verdict::Applied, Verdict::Duplicate, Verdict::Fenced] {
        let mut outbox = Outbox::default();
        outbox.result(result(ActionId::new()), None, ms(0));
        let mut now = ms(0);
        let mut waits = Vec::new();
        for answer in [None, Some(Verdict::Retry), None, None, None, None, None] {
            let due = outbox.due(now);
            assert_eq!(due.len(), 1);
            assert!(outbox.due(now).is_empty(), "one at a time");
            assert!(!outbox.answered(&due[0], answer, now));
            let next = outbox.next_due().unwrap();
            waits.push(next - now);
            now = next;
        }
        assert!(waits[0] >= ms(500) && waits[0] <= ms(1_000), "{waits:?}");
        assert!(
            waits.iter().all(|wait| *wait <= ms(30_000)) && waits[6] >= ms(15_000),
            "{waits:?}"
        );
        // An answer that never came belongs to a connection that is gone.
        let lost = outbox.due(now);
        outbox.reconnected(now);
        let again = outbox.due(now);
        assert_eq!(again.len(), 1);
        assert!(
            !outbox.answered(&lost[0], Some(verdict), now),
            "the answer to another sending is no answer"
        );
        assert!(outbox.answered(&again[0], Some(verdict), now));
        assert_eq!(outbox.results(), 0);
    }
}

#[test]
fn not_everything_is_under_way_at_once() {
    let mut outbox = Outbox::default();
    for _ in 0..100 {
        outbox.result(result(ActionId::new()), None, ms(0));
    }
    let due = outbox.due(ms(0));
    assert_eq!(due.len(), FLYING_MAX);
    assert_eq!(outbox.next_due(), None, "nothing to wake up for");
    outbox.answered(&due[0], Some(Verdict::Applied), ms(1));
    assert_eq!(outbox.due(ms(1)).len(), 1);
}

fn ask(sync: &mut Sync, now: Duration) -> Option<dashfleet_agent::app::sync::Question> {
    sync.begins(now)
        .then(|| sync.asks(1, |whole| if whole { 10 } else { 20 }).unwrap())
}

#[test]
fn the_agent_asks_at_once_then_about_once_a_minute_and_when_wanted() {
    let mut sync = Sync::new();
    let first = ask(&mut sync, ms(0)).unwrap();
    assert_eq!(first.after, 10);
    assert!(ask(&mut sync, ms(0)).is_none(), "one question at a time");
    assert!(sync.awaits(first.nonce).is_some() && sync.awaits(uuid::Uuid::new_v4()).is_none());
    sync.answered(None, ms(5));
    let next = sync.next_due().unwrap();
    assert!(next >= ms(54_000) && next <= ms(66_005), "{next:?}");
    sync.want(false);
    let wanted = sync.next_due().unwrap();
    assert!(wanted <= ms(300), "{wanted:?}");
    assert_eq!(ask(&mut sync, wanted).unwrap().after, 20);
}

#[test]
fn pages_follow_each_other_and_a_failure_begins_anew_later() {
    let mut sync = Sync::new();
    ask(&mut sync, ms(0)).unwrap();
    sync.answered(Some(64), ms(1));
    assert_eq!(ask(&mut sync, ms(1)).unwrap().after, 64);
    sync.failed(ms(2));
    assert!(ask(&mut sync, ms(2)).is_none());
    let again = sync.next_due().unwrap();
    assert!(again >= ms(502) && again <= ms(1_002), "{again:?}");
    assert_eq!(ask(&mut sync, again).unwrap().after, 10);
    sync.reconnected();
    assert!(
        ask(&mut sync, again).is_some(),
        "a new connection waits for nothing"
    );
}

#[test]
fn a_suspicion_is_answered_at_once_and_not_for_ever_at_once() {
    let mut sync = Sync::new();
    let echo = uuid::Uuid::new_v4();
    let question = ask(&mut sync, ms(0)).unwrap();
    sync.suspected(question, echo, ms(1));
    let question = ask(&mut sync, ms(1)).unwrap();
    assert_eq!(question.echo, Some(echo));
    sync.suspected(question, echo, ms(2));
    assert!(ask(&mut sync, ms(2)).is_none());
    assert!(sync.next_due().unwrap() <= ms(300));
}
