//! The engine, one promise at a time.

use contract::order::SyncItem;
use dashfleet_agent::engine::accept::Offered;
use dashfleet_agent::engine::{Effect, Engine, OPEN_MAX, StepWord};
use dashfleet_agent::journal::record::Key;
use dashfleet_agent::journal::{Class, Record};
use dashfleet_agent::policy::Policy;
use domain::action::{ActionKind, Outcome};

use super::task::{
    engine, executed, life, moment, results, seqs, succeed, task, time, told, write_all,
};

#[test]
fn a_ping_costs_two_syncs_and_is_executed_only_after_the_first() {
    let mut engine = engine();
    let ping = task(1, ActionKind::Ping);
    let key = Key::of(&ping);
    assert_eq!(engine.offer(ping, time(0), moment(1)), Offered::Taken);
    let batches = engine.take_batches();
    assert_eq!(batches.len(), 1);
    assert!(matches!(
        batches[0].records[..],
        [Record::Accepted { .. }, Record::Started { .. }]
    ));
    assert!(
        engine.take_effects().is_empty(),
        "nothing before it is durable"
    );
    engine.durable(batches[0].id, moment(2));
    assert_eq!(seqs(&engine.take_effects()), [1]);
    succeed(&mut engine, key, 3);
    let batches = engine.take_batches();
    assert_eq!(batches.len(), 1);
    assert!(matches!(batches[0].records[..], [Record::Ended(_)]));
    assert!(
        engine.take_effects().is_empty(),
        "nothing is said before it is durable"
    );
    engine.durable(batches[0].id, moment(4));
    assert_eq!(
        results(&engine.take_effects()),
        [(key, Outcome::Succeeded, None)]
    );
}

#[test]
fn a_redelivery_is_answered_from_the_journal() {
    let mut engine = engine();
    let ping = task(1, ActionKind::Ping);
    let key = Key::of(&ping);
    engine.offer(ping.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    assert_eq!(seqs(&engine.take_effects()), [1]);
    assert_eq!(
        engine.offer(ping.clone(), time(0), moment(2)),
        Offered::Known
    );
    let said = engine.take_effects();
    assert!(
        matches!(
            said[..],
            [Effect::Step {
                word: StepWord::Started,
                asked: true,
                ..
            }]
        ),
        "{said:?}"
    );
    succeed(&mut engine, key, 3);
    write_all(&mut engine, 3);
    engine.take_effects();
    engine.reported(key);
    for _ in 0..3 {
        assert_eq!(
            engine.offer(ping.clone(), time(0), moment(4)),
            Offered::Known
        );
        assert_eq!(
            results(&engine.take_effects()),
            [(key, Outcome::Succeeded, None)]
        );
    }
}

#[test]
fn a_cancellation_that_overtakes_its_action_is_found_by_it() {
    let mut engine = engine();
    let ping = task(1, ActionKind::Ping);
    let key = Key::of(&ping);
    engine.cancel(ping.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    assert_eq!(
        results(&engine.take_effects()),
        [(key, Outcome::Cancelled, None)]
    );
    assert_eq!(engine.offer(ping, time(0), moment(2)), Offered::Known);
    let effects = engine.take_effects();
    assert!(executed(&effects).is_empty());
    assert_eq!(results(&effects), [(key, Outcome::Cancelled, None)]);
}

#[test]
fn a_cancellation_after_the_beginning_changes_nothing() {
    let mut engine = engine();
    let ping = task(1, ActionKind::Ping);
    let key = Key::of(&ping);
    engine.offer(ping.clone(), time(0), moment(1));
    // Its beginning is on the way to the disk: too late already.
    engine.cancel(ping.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    assert_eq!(seqs(&engine.take_effects()), [1]);
    engine.cancel(ping, time(0), moment(2));
    succeed(&mut engine, key, 3);
    write_all(&mut engine, 3);
    assert_eq!(
        results(&engine.take_effects()),
        [(key, Outcome::Succeeded, None)]
    );
}

#[test]
fn exclusive_kinds_run_alone_in_order_and_without_gaps_and_others_beside_them() {
    let mut engine = engine();
    let first = task(2, ActionKind::Reboot);
    engine.offer(first.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    let effects = engine.take_effects();
    assert!(effects.contains(&Effect::Sync), "place 1 is missing");
    let waits = |effects: &[Effect]| {
        !effects.iter().any(|e| {
            matches!(
                e,
                Effect::Step {
                    word: StepWord::Started,
                    ..
                }
            )
        })
    };
    assert!(waits(&effects));
    // A ping passes, whatever the gap.
    engine.offer(task(3, ActionKind::Ping), time(0), moment(2));
    write_all(&mut engine, 2);
    assert_eq!(seqs(&engine.take_effects()), [3]);
    // The gap closes: the first begins (its delay), the second waits for it.
    let second = task(4, ActionKind::Reboot);
    engine.offer(second.clone(), time(0), moment(3));
    engine.page(
        vec![SyncItem::Ended { seq: 1, through: 1 }],
        None,
        time(3),
        moment(3),
    );
    write_all(&mut engine, 3);
    assert!(!waits(&engine.take_effects()));
    engine.tick(moment(3 + 60_000));
    assert_eq!(seqs(&engine.take_effects()), [2]);
    engine.tick(moment(3 + 600_000));
    assert!(
        executed(&engine.take_effects()).is_empty(),
        "the second waits"
    );
    engine.finished(
        Key::of(&first),
        Outcome::Succeeded,
        None,
        None,
        moment(700_000),
    );
    write_all(&mut engine, 700_000);
    engine.tick(moment(700_000 + 60_000));
    // The ping of place 3 has not ended; a reboot waits for what came before it.
    assert!(executed(&engine.take_effects()).is_empty());
}

#[test]
fn what_was_missed_begins_in_order() {
    let mut engine = engine();
    let kinds = [ActionKind::Ping, ActionKind::Message, ActionKind::Ping];
    let tasks: Vec<_> = (1..=50)
        .map(|seq| task(seq, kinds[usize::try_from(seq).unwrap() % 3]))
        .collect();
    let items = tasks
        .iter()
        .map(|task| SyncItem::Open {
            task: task.clone(),
            cancel: false,
        })
        .collect();
    engine.page(items, None, time(1), moment(1));
    let mut order = Vec::new();
    loop {
        write_all(&mut engine, 2);
        let works = executed(&engine.take_effects());
        if works.is_empty() {
            break;
        }
        order.extend(works.iter().map(|work| work.seq));
        // They end in another order than they began.
        for work in works.iter().rev() {
            succeed(&mut engine, work.key, 3);
        }
    }
    assert_eq!(order, (1..=50).collect::<Vec<_>>());
}

#[test]
fn what_is_past_its_time_is_not_executed() {
    let mut engine = engine();
    let late = task(1, ActionKind::Ping);
    let key = Key::of(&late);
    let after = u64::try_from(late.not_after.millis() - time(0).millis()).unwrap();
    engine.offer(late.clone(), time(0), moment(after));
    write_all(&mut engine, after);
    let effects = engine.take_effects();
    assert!(executed(&effects).is_empty());
    assert_eq!(results(&effects), [(key, Outcome::Expired, None)]);
    // Far too late it is not even written down: a replay must not fill the journal.
    let mut engine = super::task::engine();
    assert_eq!(
        engine.offer(late, time(0), moment(after + 25 * 3_600_000)),
        Offered::Stale
    );
    assert!(engine.take_batches().is_empty());
}

#[test]
fn what_waits_expires_where_it_waits() {
    let mut engine = engine();
    let gapped = task(2, ActionKind::Restart);
    let key = Key::of(&gapped);
    let after = u64::try_from(gapped.not_after.millis() - time(0).millis()).unwrap();
    engine.offer(gapped, time(0), moment(1));
    write_all(&mut engine, 1);
    engine.tick(moment(after - 1));
    assert!(results(&engine.take_effects()).is_empty());
    engine.tick(moment(after));
    write_all(&mut engine, after);
    assert_eq!(
        results(&engine.take_effects()),
        [(key, Outcome::Expired, None)]
    );
}

#[test]
fn the_policy_of_the_owner_is_obeyed_and_named() {
    let policy = Policy::parse(r#"{"kinds": ["ping"]}"#, "/etc/dashfleet/policy.json").unwrap();
    let mut engine = Engine::new(life("boot-a"), policy);
    engine.begin(moment(0));
    let mut engine = told(engine, 0);
    let message = task(1, ActionKind::Message);
    engine.offer(message.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    let effects = engine.take_effects();
    assert!(executed(&effects).is_empty());
    assert_eq!(
        results(&effects),
        [(
            Key::of(&message),
            Outcome::Failed,
            Some("policy-denied".into())
        )]
    );
    let said = effects.iter().find_map(|effect| match effect {
        Effect::Result { report, .. } => report.error.clone(),
        _ => None,
    });
    let said = said.unwrap().message;
    assert!(
        said.contains("kinds")
            && said.contains("/etc/dashfleet/policy.json")
            && said.contains("message"),
        "{said}"
    );
}

#[test]
fn a_pending_reboot_can_be_cancelled_and_then_never_happens() {
    let mut engine = engine();
    let reboot = task(1, ActionKind::Reboot);
    engine.offer(reboot.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    engine.take_effects();
    engine.cancel(reboot.clone(), time(0), moment(59_000));
    write_all(&mut engine, 59_000);
    assert_eq!(
        results(&engine.take_effects()),
        [(Key::of(&reboot), Outcome::Cancelled, None)]
    );
    engine.tick(moment(120_000));
    assert!(executed(&engine.take_effects()).is_empty());
}

#[test]
fn a_quarantined_machine_begins_nothing_until_it_is_trusted_again() {
    let mut engine = engine();
    engine.page(Vec::new(), Some("a copy".into()), time(1), moment(1));
    write_all(&mut engine, 1);
    assert_eq!(
        engine.offer(task(1, ActionKind::Ping), time(1), moment(2)),
        Offered::NotNow
    );
    assert!(engine.take_batches().is_empty());
    let ping = task(1, ActionKind::Ping);
    engine.page(
        vec![SyncItem::Open {
            task: ping,
            cancel: false,
        }],
        None,
        time(3),
        moment(3),
    );
    write_all(&mut engine, 3);
    assert_eq!(seqs(&engine.take_effects()), [1]);
}

#[test]
fn with_a_full_disk_the_action_is_refused_and_that_is_said() {
    let mut engine = engine();
    let ping = task(1, ActionKind::Ping);
    engine.offer(ping.clone(), time(0), moment(1));
    let batches = engine.take_batches();
    assert_eq!(batches[0].class, Class::New);
    engine.rejected(batches[0].id, moment(2));
    let batches = engine.take_batches();
    assert_eq!(batches[0].class, Class::Refusal);
    engine.durable(batches[0].id, moment(3));
    let effects = engine.take_effects();
    assert!(executed(&effects).is_empty());
    assert_eq!(
        results(&effects),
        [(Key::of(&ping), Outcome::Failed, Some("journal-full".into()))]
    );
    assert_eq!(engine.tally().journal_full, 1);
}

#[test]
fn what_cannot_even_be_refused_was_never_here() {
    let mut engine = engine();
    let ping = task(1, ActionKind::Ping);
    engine.offer(ping.clone(), time(0), moment(1));
    for _ in 0..2 {
        let batches = engine.take_batches();
        engine.rejected(batches[0].id, moment(2));
    }
    assert!(results(&engine.take_effects()).is_empty());
    assert_eq!(engine.open(), 0);
    assert_eq!(
        engine.offer(ping, time(0), moment(3)),
        Offered::Taken,
        "the server offers it again"
    );
}

#[test]
fn a_place_that_may_be_forgotten_again_is_a_gap() {
    let mut engine = engine();
    let (first, second) = (task(1, ActionKind::Restart), task(2, ActionKind::Restart));
    engine.offer(second.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    engine.cancel(first.clone(), time(0), moment(2));
    let batches = engine.take_batches();
    assert_eq!(batches.len(), 1, "the second does not begin on a promise");
    engine.rejected(batches[0].id, moment(3));
    write_all(&mut engine, 3);
    assert!(executed(&engine.take_effects()).is_empty());
    engine.cancel(first, time(0), moment(4));
    write_all(&mut engine, 4);
    assert_eq!(seqs(&engine.take_effects()), [2]);
}

#[test]
fn more_than_the_reserve_is_counted_for_is_not_taken() {
    let mut engine = engine();
    // All of them wait: place 1 is missing.
    let taken = (2..).take_while(|seq| {
        engine.offer(task(*seq, ActionKind::Restart), time(0), moment(1)) == Offered::Taken
    });
    assert_eq!(taken.count(), OPEN_MAX);
}

#[test]
fn another_action_cannot_take_a_place_that_is_taken_and_that_is_said() {
    let mut engine = engine();
    // A restart that waits for place 1: its place is open.
    let first = task(2, ActionKind::Restart);
    engine.offer(first.clone(), time(0), moment(1));
    let mut records: Vec<_> = write_all(&mut engine, 1)
        .into_iter()
        .flat_map(|batch| batch.records)
        .collect();
    engine.take_effects();
    let second = task(2, ActionKind::Ping);
    let refused = (
        Key::of(&second),
        Outcome::Failed,
        Some("place-taken".to_owned()),
    );
    assert_eq!(
        engine.offer(second.clone(), time(0), moment(2)),
        Offered::Taken
    );
    let batches = write_all(&mut engine, 2);
    assert_eq!(batches[0].class, Class::Refusal);
    records.extend(batches.into_iter().flat_map(|batch| batch.records));
    let effects = engine.take_effects();
    assert!(executed(&effects).is_empty());
    assert_eq!(results(&effects), std::slice::from_ref(&refused));
    // Again it is answered from the journal, and a third one is refused too.
    assert_eq!(
        engine.offer(second.clone(), time(0), moment(3)),
        Offered::Known
    );
    assert_eq!(
        results(&engine.take_effects()),
        std::slice::from_ref(&refused)
    );
    // The first keeps its place in this life and in the next: it is open, and begins when place 1 is known.
    assert_eq!(engine.sync_after(true), 0);
    for mut engine in [
        engine,
        told(super::task::next_life(&records, "boot-b", 4), 4),
    ] {
        write_all(&mut engine, 4);
        engine.take_effects();
        assert_eq!(
            engine.offer(second.clone(), time(0), moment(4)),
            Offered::Known
        );
        engine.page(
            vec![SyncItem::Ended { seq: 1, through: 1 }],
            None,
            time(5),
            moment(5),
        );
        assert_eq!(
            engine.sync_after(true),
            1,
            "the refusal did not settle the place"
        );
        write_all(&mut engine, 5);
        assert_eq!(seqs(&engine.take_effects()), [2]);
    }
    let mut engine = super::task::engine();
    assert_eq!(
        engine.offer(task(0, ActionKind::Ping), time(0), moment(2)),
        Offered::Stale
    );
}

#[test]
fn what_the_server_ended_does_not_begin() {
    let mut engine = engine();
    let restart = task(2, ActionKind::Restart);
    engine.offer(restart.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    engine.take_effects();
    engine.page(
        vec![SyncItem::Ended { seq: 1, through: 5 }],
        None,
        time(2),
        moment(2),
    );
    write_all(&mut engine, 2);
    let effects = engine.take_effects();
    assert!(executed(&effects).is_empty());
    assert_eq!(
        results(&effects),
        [(
            Key::of(&restart),
            Outcome::Cancelled,
            Some("ended-by-server".into())
        )]
    );
}
