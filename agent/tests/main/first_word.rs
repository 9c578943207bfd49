//! The server's first word: nothing begins before it, no deadline is judged before it, and what is older than it comes
//! in a page.

use contract::order::SyncItem;
use dashfleet_agent::engine::accept::Offered;
use dashfleet_agent::journal::Class;
use dashfleet_agent::journal::record::Key;
use domain::action::ActionKind;

use super::task::{
    engine, engine_before_the_word, executed, moment, results, seqs, task, time, write_all,
};

#[test]
fn nothing_begins_before_the_servers_first_word_and_everything_at_once_after_it() {
    let mut engine = engine_before_the_word();
    let (missed, pushed) = (task(1, ActionKind::Ping), task(2, ActionKind::Ping));
    // The doorbells of both came first; the second was signed after the page, and overtook it.
    assert_eq!(
        engine.offer(missed.clone(), time(0), moment(1)),
        Offered::Waits
    );
    assert_eq!(
        engine.offer(pushed.clone(), time(9), moment(1)),
        Offered::Waits
    );
    engine.tick(moment(60_000));
    assert!(engine.take_batches().is_empty() && engine.take_effects().is_empty());
    // The memory of the first is gone, and the server has ended it: it is not begun again.
    let ended = vec![SyncItem::Ended { seq: 1, through: 1 }];
    engine.page(ended, None, time(5), moment(60_000));
    write_all(&mut engine, 60_000);
    assert_eq!(seqs(&engine.take_effects()), [2]);
    assert!(!engine.room_again(), "nothing is to be asked again");
}

#[test]
fn what_was_signed_before_the_first_word_is_taken_from_a_page_only() {
    let mut engine = engine_before_the_word();
    let ping = task(1, ActionKind::Ping);
    engine.page(Vec::new(), None, time(5), moment(1));
    assert_eq!(
        engine.offer(ping.clone(), time(4), moment(2)),
        Offered::NotNow
    );
    assert_eq!(
        engine.cancel(task(2, ActionKind::Ping), time(4), moment(2)),
        Offered::NotNow
    );
    assert!(
        write_all(&mut engine, 2)
            .iter()
            .all(|batch| batch.class == Class::Lazy)
    );
    assert!(engine.room_again(), "the server is asked at once");
    let open = SyncItem::Open {
        task: ping,
        cancel: false,
    };
    engine.page(vec![open], None, time(6), moment(3));
    write_all(&mut engine, 3);
    assert_eq!(seqs(&engine.take_effects()), [1]);
}

#[test]
fn orders_that_wait_for_the_first_word_are_bounded_and_a_cancellation_among_them_holds() {
    let mut engine = engine_before_the_word();
    let ping = task(1, ActionKind::Ping);
    engine.offer(ping.clone(), time(0), moment(1));
    assert_eq!(
        engine.cancel(ping.clone(), time(0), moment(1)),
        Offered::Waits
    );
    for seq in 2..40 {
        engine.offer(task(seq, ActionKind::Ping), time(0), moment(1));
    }
    assert!(
        !engine.room_again(),
        "nobody is asked before the first word"
    );
    engine.page(Vec::new(), None, time(0), moment(2));
    write_all(&mut engine, 2);
    let effects = engine.take_effects();
    assert_eq!(seqs(&effects).len(), 8, "as many as run at once");
    assert!(
        executed(&effects)
            .iter()
            .all(|work| work.key != Key::of(&ping))
    );
    assert!(engine.room_again(), "the rest is asked for");
}

#[test]
fn no_deadline_is_judged_before_the_servers_first_word() {
    // The machine's clock is far ahead when the agent starts, and nothing is written of the right time.
    let (records, waits) = {
        let mut engine = engine();
        let waits = task(2, ActionKind::Restart);
        engine.offer(waits.clone(), time(0), moment(1));
        let batches = write_all(&mut engine, 1);
        let records: Vec<_> = batches.into_iter().flat_map(|b| b.records).collect();
        (records, waits)
    };
    let ahead =
        u64::try_from(waits.not_after.millis() - time(0).millis()).unwrap() + 48 * 3_600_000;
    let mut engine = super::task::next_life(&records, "boot-b", ahead);
    let pushed = task(3, ActionKind::Ping);
    engine.offer(pushed.clone(), time(9), moment(ahead));
    engine.tick(moment(ahead));
    engine.forget(moment(ahead));
    write_all(&mut engine, ahead);
    assert!(results(&engine.take_effects()).is_empty());
    // The server says its time, and with it the clock is right.
    let ended = vec![SyncItem::Ended { seq: 1, through: 1 }];
    engine.page(ended, None, time(5), moment(5));
    write_all(&mut engine, 5);
    engine.tick(moment(6));
    write_all(&mut engine, 6);
    let effects = engine.take_effects();
    assert!(results(&effects).is_empty(), "{effects:?}");
    assert_eq!(seqs(&effects), [2]);
}

#[test]
fn while_the_server_suspects_a_copy_what_comes_waits() {
    let mut engine = engine();
    engine.suspected();
    assert_eq!(
        engine.offer(task(1, ActionKind::Ping), time(1), moment(1)),
        Offered::Waits
    );
    engine.tick(moment(600_000));
    assert!(write_all(&mut engine, 600_000).is_empty());
    engine.page(Vec::new(), None, time(2), moment(600_001));
    write_all(&mut engine, 600_001);
    assert_eq!(seqs(&engine.take_effects()), [1]);
}
