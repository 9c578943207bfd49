//! `sync`: offers, ranges of what ended, copies, lost journals, revocation.

use contract::ProblemKind;
use contract::order::{PAGE_MAX_BYTES, SyncItem, Verb};
use domain::action::Outcome;
use domain::{JournalId, SessionId, Timestamp};
use serde_json::json;

use super::world::{FakeAgent, PATIENCE, World, new_action};

fn open(page: &contract::order::SyncPage) -> Vec<i64> {
    page.items
        .iter()
        .filter_map(|item| {
            if let SyncItem::Open { task, .. } = item {
                Some(task.seq)
            } else {
                None
            }
        })
        .collect()
}

#[tokio::test]
async fn a_machine_gets_what_is_open_in_order_and_hears_of_no_gap() {
    let world = World::new().await;
    let agent = world.machine().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(world.create(agent.machine, "ping").await.id);
    }
    world
        .ask(&contract::action::ActionCancel { action_id: ids[1] })
        .await
        .unwrap();
    assert_eq!(world.status(ids[1]).await, "CANCELLED");
    let page = agent.sync(0).await;
    assert_eq!(open(&page), [1, 3, 4, 5, 6]);
    assert!(
        page.items.contains(&SyncItem::Ended { seq: 2, through: 2 }),
        "{page:?}"
    );
    assert!(!page.more);
    for id in &ids[2..] {
        agent.result(*id, 1, Outcome::Succeeded).await;
    }
    let page = agent.sync(1).await;
    assert!(
        open(&page).is_empty(),
        "what it knows does not come again: {page:?}"
    );
    assert!(
        page.items.contains(&SyncItem::Ended { seq: 2, through: 6 }),
        "{page:?}"
    );
}

#[tokio::test]
async fn pages_are_bounded_and_complete() {
    let world = World::new().await;
    let agent = world.machine().await;
    for _ in 0..12 {
        world
            .ask(&new_action(
                agent.machine,
                "message",
                json!({ "message": "\u{1f600}".repeat(4_000) }),
            ))
            .await
            .unwrap();
    }
    let (mut after, mut seen, mut pages) = (0, Vec::new(), 0);
    loop {
        let page = agent.sync(after).await;
        assert!(serde_json::to_vec(&page).unwrap().len() <= PAGE_MAX_BYTES);
        pages += 1;
        // What was accepted is not sent again.
        for item in &page.items {
            if let SyncItem::Open { task, .. } = item {
                seen.push(task.seq);
                agent.result(task.action, 1, Outcome::Succeeded).await;
            }
        }
        after = page
            .items
            .iter()
            .map(SyncItem::through)
            .max()
            .unwrap_or(after);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, (1..=12).collect::<Vec<_>>());
    assert!(pages > 1, "one page took everything");
}

#[tokio::test]
async fn a_copy_is_quarantined_when_both_have_shown_themselves() {
    let world = World::new().await;
    let mut original = world.machine().await;
    original.sync(0).await;
    let copy_session = SessionId::new();
    let (session, entries) = (original.session, original.entries);
    // The copy starts: a next life, by all that can be seen.
    original.session = copy_session;
    original.entries += 1;
    assert!(original.sync(0).await.echo.is_none());
    assert_eq!(
        original.order().await.verb,
        Verb::Time,
        "whoever else is there is asked to show itself"
    );
    // The original shows itself.
    original.session = session;
    original.entries = entries;
    let echo = original.sync(0).await.echo.expect("a word to echo");
    assert_eq!(
        world.quarantined(),
        0,
        "one question proves nothing: it may have been late"
    );
    let page = original.sync_with(0, Some(echo)).await.unwrap();
    assert!(page.quarantined.is_some() && page.items.is_empty());
    testkit::eventually("identity is told", PATIENCE, || async {
        (world.quarantined() == 1).then_some(())
    })
    .await;
    // Nothing is offered, to nobody.
    let action = world.create(original.machine, "ping").await;
    original.session = copy_session;
    assert!(original.sync(0).await.items.is_empty());
    assert_eq!(world.status(action.id).await, "QUEUED");
    // An operator trusts it again.
    world.machine_changes(original.machine, |record| record.releases += 1);
    testkit::eventually("the machine is offered its action", PATIENCE, || async {
        (open(&original.sync(0).await) == [1]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_late_question_quarantines_nobody() {
    let world = World::new().await;
    let mut agent = world.machine().await;
    agent.sync(0).await;
    let (old, old_entries) = (agent.session, agent.entries);
    agent.session = SessionId::new();
    agent.entries = 5;
    agent.sync(0).await;
    // The dead life's last question arrives now; nobody is there to echo.
    let now = (agent.session, agent.entries);
    (agent.session, agent.entries) = (old, old_entries);
    assert!(agent.sync(0).await.echo.is_some());
    (agent.session, agent.entries) = now;
    let page = agent.sync(0).await;
    assert!(page.echo.is_none() && page.quarantined.is_none());
}

#[tokio::test]
async fn a_journal_that_goes_back_or_forks_is_a_copy() {
    for (entries, head) in [(3, "h5"), (5, "other")] {
        let world = World::new().await;
        let mut agent = world.machine().await;
        (agent.entries, agent.head) = (5, "h5".into());
        agent.sync(0).await;
        (agent.entries, agent.head) = (entries, head.into());
        agent.session = SessionId::new();
        let echo = agent.sync(0).await.echo.expect("a word to echo");
        assert!(
            agent
                .sync_with(0, Some(echo))
                .await
                .unwrap()
                .quarantined
                .is_some()
        );
    }
}

#[tokio::test]
async fn a_new_journal_makes_what_was_offered_unknown() {
    let world = World::new().await;
    let mut agent = world.machine().await;
    let action = world.create(agent.machine, "ping").await;
    agent.sync(0).await;
    agent.journal = JournalId::new();
    agent.session = SessionId::new();
    agent.entries = 1;
    let page = agent.sync(0).await;
    assert!(open(&page).is_empty(), "{page:?}");
    let action = world.becomes(action.id, "UNKNOWN").await;
    assert_eq!(
        action.error.map(|error| error.code),
        Some("journal-lost".into())
    );
}

#[tokio::test]
async fn revoking_ends_everything() {
    let world = World::new().await;
    let agent = world.machine().await;
    let offered = world.create(agent.machine, "ping").await;
    agent.sync(0).await;
    world.presence(agent.machine, true).await;
    world.presence(agent.machine, false).await;
    let unoffered = world.create(agent.machine, "ping").await;
    world.machine_changes(agent.machine, |record| {
        record.revoked_at = Some(Timestamp::now());
    });
    world.becomes(offered.id, "UNKNOWN").await;
    world.becomes(unoffered.id, "CANCELLED").await;
    assert_eq!(
        agent
            .sync_with(0, None)
            .await
            .map(|_| ())
            .map_err(|problem| problem.kind),
        Err(ProblemKind::Forbidden)
    );
    let refused = world
        .ask(&new_action(agent.machine, "ping", json!({})))
        .await;
    assert_eq!(
        refused.map(|_| ()).map_err(|problem| problem.kind),
        Err(ProblemKind::Conflict)
    );
}

#[tokio::test]
async fn a_boast_of_knowing_more_than_there_is_changes_nothing() {
    let world = World::new().await;
    let agent = world.machine().await;
    let key = nkeys_of(&world, &agent).await;
    let stray = FakeAgent::connect(&world, &key, agent.machine, JournalId::new()).await;
    assert!(
        stray
            .sync_with(i64::MAX, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

async fn nkeys_of(world: &World, agent: &FakeAgent) -> nkeys::KeyPair {
    // Another key of the same machine, as identity could say it.
    let key = nkeys::KeyPair::new_user();
    let public = key.public_key();
    world.machine_changes(agent.machine, |record| record.public_key = public);
    key
}
