//! The engine's memory: over the end of a life, over a file written anew, and how long.

use contract::order::SyncItem;
use dashfleet_agent::engine::Engine;
use dashfleet_agent::engine::accept::Offered;
use dashfleet_agent::journal::record::Key;
use dashfleet_agent::policy::Policy;
use domain::action::{ActionKind, Outcome};

use super::task::{
    died_in, engine, executed, life, moment, next_life, results, seqs, succeed, task, time, told,
    write_all,
};

#[test]
fn the_next_life_knows_what_became_of_what_was_under_way() {
    for (kind, boot, outcome) in [
        (ActionKind::Ping, "boot-a", Outcome::Interrupted),
        (ActionKind::Message, "boot-b", Outcome::Interrupted),
        (ActionKind::Restart, "boot-a", Outcome::Succeeded),
        (ActionKind::Reboot, "boot-a", Outcome::Interrupted),
        (ActionKind::Reboot, "boot-b", Outcome::Succeeded),
    ] {
        let (records, task) = died_in(kind, "boot-a");
        let mut engine = next_life(&records, boot, 5_000);
        write_all(&mut engine, 5_000);
        let effects = engine.take_effects();
        assert!(
            executed(&effects).is_empty(),
            "{kind} is not executed again"
        );
        let said = results(&effects);
        assert_eq!(said.len(), 1);
        assert_eq!(
            (said[0].0, said[0].1),
            (Key::of(&task), outcome),
            "{kind} in {boot}"
        );
        if kind == ActionKind::Reboot && outcome == Outcome::Succeeded {
            assert!(
                format!("{effects:?}").contains("boot-b"),
                "the boot id is the proof: {effects:?}"
            );
        }
    }
}

#[test]
fn what_was_accepted_begins_in_the_next_life_after_the_servers_word_and_not_before() {
    let mut engine = engine();
    // A gap keeps it from beginning in the first life.
    let restart = task(2, ActionKind::Restart);
    engine.offer(restart.clone(), time(0), moment(1));
    engine.offer(task(1, ActionKind::Reboot), time(0), moment(1));
    let records: Vec<_> = write_all(&mut engine, 1)
        .into_iter()
        .flat_map(|batch| batch.records)
        .collect();

    let mut engine = next_life(&records, "boot-b", 5_000);
    write_all(&mut engine, 5_000);
    for at in [5_050, 3_600_000] {
        engine.tick(moment(at));
        write_all(&mut engine, at);
        assert!(
            executed(&engine.take_effects()).is_empty(),
            "not before the server's word, however long that takes"
        );
    }
    engine.page(Vec::new(), None, time(3_600_100), moment(3_600_100));
    write_all(&mut engine, 3_600_100);
    assert_eq!(seqs(&engine.take_effects()), [2]);
}

#[test]
fn quarantine_outlives_the_process() {
    let mut engine = engine();
    engine.page(Vec::new(), Some("a copy".into()), time(1), moment(1));
    let records: Vec<_> = write_all(&mut engine, 1)
        .into_iter()
        .flat_map(|batch| batch.records)
        .collect();
    assert_eq!(
        next_life(&records, "boot-a", 10).quarantined(),
        Some("a copy")
    );
}

#[test]
fn a_second_attempt_of_an_interrupted_idempotent_action_is_taken_and_no_other() {
    let mut first = task(1, ActionKind::Ping);
    first.idempotent = true;
    let mut engine = Engine::new(life("boot-a"), Policy::default());
    engine.begin(moment(0));
    let mut engine = told(engine, 0);
    engine.offer(first.clone(), time(0), moment(1));
    let records: Vec<_> = write_all(&mut engine, 1)
        .into_iter()
        .flat_map(|batch| batch.records)
        .collect();
    let mut engine = told(next_life(&records, "boot-a", 10), 10);
    write_all(&mut engine, 10);
    assert_eq!(results(&engine.take_effects())[0].1, Outcome::Interrupted);
    let third = contract::order::Task {
        attempt: 3,
        ..first.clone()
    };
    assert_eq!(engine.offer(third, time(0), moment(11)), Offered::Stale);
    let second = contract::order::Task {
        attempt: 2,
        ..first
    };
    assert_eq!(
        engine.offer(second.clone(), time(0), moment(12)),
        Offered::Taken
    );
    write_all(&mut engine, 12);
    assert_eq!(seqs(&engine.take_effects()), [1]);
    succeed(&mut engine, Key::of(&second), 13);
    write_all(&mut engine, 13);
    assert_eq!(engine.sync_after(true), 1, "the place is settled");
}

#[test]
fn a_file_written_anew_knows_as_much_as_the_old_one() {
    let mut engine = engine();
    let done = task(1, ActionKind::Ping);
    let waits = task(4, ActionKind::Restart);
    let delayed = task(2, ActionKind::Reboot);
    for task in [&done, &waits, &delayed] {
        engine.offer(task.clone(), time(0), moment(1));
    }
    engine.page(
        vec![SyncItem::Ended { seq: 7, through: 9 }],
        None,
        time(1),
        moment(1),
    );
    write_all(&mut engine, 1);
    succeed(&mut engine, Key::of(&done), 2);
    write_all(&mut engine, 2);
    engine.reported(Key::of(&done));
    write_all(&mut engine, 2);
    let snapshot = engine.snapshot(moment(3));
    let mut again = told(next_life(&snapshot, "boot-a", 10), 10);
    write_all(&mut again, 10);
    // The reboot's delay ended with the life; the restart still waits for place 3; the ping is known and reported.
    assert_eq!(
        results(&again.take_effects()),
        [(
            Key::of(&delayed),
            Outcome::Interrupted,
            Some("interrupted".into())
        )]
    );
    assert_eq!(again.open(), 1);
    assert_eq!(
        again.offer(done.clone(), time(0), moment(11)),
        Offered::Known
    );
    assert_eq!(
        results(&again.take_effects()),
        [(Key::of(&done), Outcome::Succeeded, None)]
    );
    assert_eq!(again.sync_after(true), 2);
    assert_eq!(
        again.offer(task(8, ActionKind::Ping), time(0), moment(12)),
        Offered::Stale,
        "the server ended place 8, and may mean this very action"
    );
}

#[test]
fn what_is_long_over_is_forgotten_and_still_not_executed_again() {
    let mut engine = engine();
    let ping = task(1, ActionKind::Ping);
    engine.offer(ping.clone(), time(0), moment(1));
    write_all(&mut engine, 1);
    succeed(&mut engine, Key::of(&ping), 2);
    write_all(&mut engine, 2);
    engine.take_effects();
    let day = 24 * 3_600_000;
    engine.forget(moment(2 * day + 1));
    assert_eq!(
        engine.offer(ping.clone(), time(0), moment(day)),
        Offered::Known,
        "nobody has its result: it stays"
    );
    engine.reported(Key::of(&ping));
    engine.forget(moment(2 * day - 1));
    assert_eq!(
        engine.offer(ping.clone(), time(0), moment(day)),
        Offered::Known
    );
    engine.forget(moment(2 * day + 1));
    assert_eq!(engine.offer(ping, time(0), moment(day)), Offered::Stale);
}

/// The records of a life in this boot that began a reboot.
pub fn records_of_a_reboot(boot: &str) -> Vec<dashfleet_agent::journal::Record> {
    died_in(ActionKind::Reboot, boot).0
}
