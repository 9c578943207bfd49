//! What operators say of machines: one at a time and many at once, who may, and what no agent undoes.

use std::collections::BTreeSet;

use contract::event::Event;
use contract::identity::{
    MachineChanges, MachineEdit, MachineEdited, MachineEdits, MachineLabel, MachineLabelled,
    MachineRecord,
};
use contract::merge::Edit;
use contract::{Envelope, Problem, ProblemKind};
use domain::MachineId;
use domain::labels::{LABELS_MAX, LabelEdits};
use domain::machine::LABEL_MANY_MAX;
use futures::StreamExt;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::world::{API_KEY, PASSWORD, PATIENCE, TOKEN, World, bootstrap};

const OTHER_KEY: &str = "dfk_other-organisation-0123456789";
const OTHER_TOKEN: &str = "dfe_other-organisation-0123456789";

/// `env=test` sets, `env` takes away.
fn labels(words: &[&str]) -> LabelEdits {
    let edit = |word: &&str| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => ((*word).to_owned(), None),
    };
    words.iter().map(edit).collect()
}

async fn edit(
    world: &World,
    machine_id: MachineId,
    edits: MachineEdits,
) -> Result<MachineEdited, Problem> {
    let request = MachineEdit { machine_id, edits };
    world.ask_as(API_KEY, request).await
}

async fn relabel(world: &World, machine: MachineId, words: &[&str]) -> MachineEdited {
    let edits = MachineEdits {
        labels: Edit::Set(labels(words)),
        ..MachineEdits::default()
    };
    edit(world, machine, edits).await.unwrap()
}

async fn label(
    world: &World,
    machines: Option<&[MachineId]>,
    selector: Option<&str>,
    words: &[&str],
) -> Result<MachineLabelled, Problem> {
    let request = MachineLabel {
        machine_ids: machines.map(<[MachineId]>::to_vec),
        selector: selector.map(ToOwned::to_owned),
        labels: labels(words),
    };
    world.ask_as(API_KEY, request).await
}

/// What the mirrors read.
async fn records(world: &World) -> Vec<MachineRecord> {
    let (mut after, mut records) = (0, Vec::new());
    loop {
        let changes = MachineChanges {
            after,
            limit: 1_000,
        };
        let page = world.action.service_call(&changes, None, PATIENCE).await;
        let page = page.unwrap();
        after = page.items.last().map_or(after, |record| record.change);
        records.extend(page.items);
        if !page.more {
            return records;
        }
    }
}

async fn record(world: &World, machine: MachineId) -> MachineRecord {
    let mut records = records(world).await.into_iter();
    records.find(|record| record.machine_id == machine).unwrap()
}

fn shown(record: &MachineRecord) -> Vec<String> {
    let label = |(key, value): (&String, &String)| format!("{key}={value}");
    record.labels.iter().map(label).collect()
}

fn refused<T: std::fmt::Debug>(result: Result<T, Problem>, path: &str, words: &str) {
    let problem = result.unwrap_err();
    let named = problem.errors.first().map(|error| error.path.as_str());
    assert_eq!(named, Some(path), "{problem}");
    assert!(problem.detail.contains(words), "{problem}");
}

async fn edits_heard(world: &World) -> bus::Subscription {
    let events = world.gateway.subscribe("df.evt.*.machine.edited").await;
    world.gateway.flush().await.unwrap();
    events.unwrap()
}

async fn next(events: &mut bus::Subscription) -> Event {
    let message = tokio::time::timeout(PATIENCE, events.next()).await.unwrap();
    let event: Envelope<Event> = serde_json::from_slice(&message.unwrap().payload).unwrap();
    event.body
}

#[tokio::test]
async fn an_edit_is_written_told_and_given_to_mirrors_and_the_same_again_is_nothing() {
    let (world, _replica) = World::start().await;
    let mut events = edits_heard(&world).await;
    let (_, enrolled) = world.machine().await;
    let machine = enrolled.machine_id;
    let first = record(&world, machine).await;
    assert_eq!(
        (&first.display_name, &first.notes, shown(&first)),
        (&None, &None, vec!["env=prod".to_owned()])
    );

    let edits = MachineEdits {
        display_name: Edit::Set("Büro 1".into()),
        notes: Edit::Set("rack 4\nthe password is on the door".into()),
        labels: Edit::Set(labels(&["env=test", "rack=r1", "nothing"])),
    };
    let edited = edit(&world, machine, edits.clone()).await.unwrap();
    let second = record(&world, machine).await;
    assert_eq!(second.change, edited.change);
    assert!(second.change > first.change);
    assert_eq!(second.display_name.as_deref(), Some("Büro 1"));
    assert_eq!(
        second.notes.as_deref(),
        Some("rack 4\nthe password is on the door")
    );
    assert_eq!(shown(&second), ["env=test", "rack=r1"]);
    assert_eq!(second.hostname, first.hostname);

    // The same again, and nothing at all.
    assert_eq!(edit(&world, machine, edits).await.unwrap(), edited);
    let nothing = MachineEdits::default();
    assert_eq!(edit(&world, machine, nothing).await.unwrap(), edited);
    assert_eq!(record(&world, machine).await, second);

    // Away with everything.
    let away = MachineEdits {
        display_name: Edit::Clear,
        notes: Edit::Set(" \n".into()),
        labels: Edit::Clear,
    };
    let cleared = edit(&world, machine, away).await.unwrap();
    let third = record(&world, machine).await;
    assert_eq!(
        (third.display_name, third.notes, third.labels.len()),
        (None, None, 0)
    );

    let mut told = Vec::new();
    for _ in 0..2 {
        let event = next(&mut events).await;
        assert_eq!(event.subject_id, machine.0);
        told.push(event);
    }
    let versions: Vec<i64> = told.iter().map(|event| event.version).collect();
    assert_eq!(versions, [edited.change, cleared.change]);
    assert_eq!(
        told[0].data["changes"],
        json!([
            { "path": "displayName", "before": null, "after": "Büro 1" },
            { "path": "labels.env", "before": "prod", "after": "test" },
            { "path": "labels.rack", "before": null, "after": "r1" },
            { "path": "notes" },
        ])
    );
    assert!(told[0].data["by"].is_string(), "{}", told[0].data);
    assert_eq!(told[1].data["changes"].as_array().map(Vec::len), Some(4));
    let rest = tokio::time::timeout(std::time::Duration::from_millis(700), events.next()).await;
    assert!(rest.is_err(), "an edit that changes nothing tells nothing");
}

#[tokio::test]
async fn a_machine_that_enrols_again_undoes_no_edit() {
    let (world, _replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    relabel(&world, enrolled.machine_id, &["env=test", "owner=ops"]).await;
    let edited = record(&world, enrolled.machine_id).await;
    let mut again = world.enroll_request(&key, TOKEN).await;
    again.labels = [("env".to_owned(), "prod".to_owned())].into();
    again.hostname = "another".into();
    crate::world::sign(&mut again, &key);
    let same = world.ask(again).await.unwrap();
    assert_eq!(same.machine_id, enrolled.machine_id);
    assert_eq!(record(&world, enrolled.machine_id).await, edited);
}

#[tokio::test]
async fn a_revoked_machine_takes_notes_stays_revoked_and_leaves_its_hostname_to_others() {
    let (world, _replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    let machine = enrolled.machine_id;
    world.revoke(machine).await.unwrap();
    let edits = MachineEdits {
        notes: Edit::Set("stolen".into()),
        ..MachineEdits::default()
    };
    edit(&world, machine, edits).await.unwrap();
    let record = record(&world, machine).await;
    assert!(record.revoked_at.is_some() && record.notes.as_deref() == Some("stolen"));
    let again = world.enroll(&key, TOKEN).await.unwrap_err();
    assert_eq!(again.kind, ProblemKind::Forbidden);
    let (_, next) = world.machine().await;
    let records = records(&world).await;
    let hostnames: BTreeSet<&str> = records.iter().map(|r| r.hostname.as_str()).collect();
    assert_eq!((records.len(), hostnames.len()), (2, 1));
    // A selector leaves out who is revoked; a list does not.
    let chosen = label(&world, None, Some("env=prod"), &["seen=yes"]).await;
    let chosen: Vec<_> = chosen.unwrap().items.iter().map(|i| i.machine_id).collect();
    assert_eq!(chosen, [next.machine_id]);
    let listed = label(&world, Some(&[machine]), None, &["env"])
        .await
        .unwrap();
    assert!(listed.items[0].change.is_some());
}

#[tokio::test]
async fn many_are_edited_all_or_none() {
    let (world, _replica) = World::start().await;
    let mut machines = Vec::new();
    for _ in 0..5 {
        machines.push(world.machine().await.1.machine_id);
    }
    let [a, b, c, d, e] = machines[..] else {
        panic!("five machines");
    };
    relabel(&world, e, &["env=test"]).await;
    let events = "SELECT count(*) FROM identity.outbox WHERE verb = 'edited'";
    testkit::eventually("the outbox is empty", PATIENCE, || async {
        (world.count(events).await == 0).then_some(())
    })
    .await;

    // Listed, one of them twice and one that has the label already.
    relabel(&world, b, &["rack=r1"]).await;
    let done = label(&world, Some(&[c, a, b, a]), None, &["rack=r1"]).await;
    let done = done.unwrap();
    let changed: Vec<_> = done
        .items
        .iter()
        .map(|item| (item.machine_id, item.change.is_some()))
        .collect();
    let mut expected = vec![(a, true), (b, false), (c, true)];
    expected.sort_unstable();
    assert_eq!(changed, expected);
    for item in &done.items {
        let record = record(&world, item.machine_id).await;
        assert_eq!(shown(&record), ["env=prod", "rack=r1"]);
        assert!(item.change.is_none_or(|change| change == record.change));
    }

    // Chosen, by what the labels are now, and moved out of what chose them.
    let done = label(&world, None, Some("env=prod,!rack"), &["env=test", "moved"]).await;
    let done = done.unwrap();
    assert_eq!(done.items.len(), 1);
    assert_eq!(done.items[0].machine_id, d);
    let again = label(&world, None, Some("env=prod,!rack"), &["env=test"]).await;
    assert!(again.unwrap().items.is_empty());
    let never = label(&world, None, Some("env=prod,env=test"), &["x=y"]).await;
    assert!(never.unwrap().items.is_empty());
    let done = label(&world, None, Some("env!=prod"), &["env=stage"]).await;
    let done: Vec<_> = done.unwrap().items.iter().map(|i| i.machine_id).collect();
    assert_eq!(done, if d < e { [d, e] } else { [e, d] });

    // One that is not there, one that would have too many: nobody is changed.
    let before = records(&world).await;
    let nowhere = MachineId::new();
    let gone = label(&world, Some(&[a, nowhere, b]), None, &["rack=r2"]).await;
    let problem = gone.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::NotFound);
    assert_eq!(problem.errors[0].path, "machineIds[1]");
    let full: Vec<String> = (0..LABELS_MAX - 2).map(|n| format!("k{n}=v")).collect();
    let full: Vec<&str> = full.iter().map(String::as_str).collect();
    relabel(&world, c, &full).await;
    let before_full = record(&world, c).await;
    let over = label(&world, None, Some("env=prod"), &["one-more=v"]).await;
    refused(
        over,
        "labels",
        &format!("machine {c}: there would be 65; at most 64"),
    );
    let mut after = records(&world).await;
    after.retain(|record| record.machine_id != c);
    let mut before = before;
    before.retain(|record| record.machine_id != c);
    assert_eq!(after, before);
    assert_eq!(record(&world, c).await, before_full);
}

#[tokio::test]
async fn a_thousand_at_once_and_not_one_more() {
    let (world, _replica) = World::start().await;
    let (_, enrolled) = world.machine().await;
    let mut events = edits_heard(&world).await;
    world
        .alter(&format!(
            "INSERT INTO identity.machines (org_id, id, hostname, public_key, labels, inventory, token_id, enrolled_at, change)
             SELECT org_id, gen_random_uuid(), 'web-' || n, 'U' || n, labels, inventory, token_id, now(), nextval('identity.machine_change')
             FROM identity.machines, generate_series(2, {LABEL_MANY_MAX}) n"
        ))
        .await;
    let started = std::time::Instant::now();
    let done = label(&world, None, Some("env=prod"), &["rack=r1"]).await;
    let done = done.unwrap();
    println!("{LABEL_MANY_MAX} machines in {:?}", started.elapsed());
    assert_eq!(done.items.len(), LABEL_MANY_MAX);
    assert!(done.items.iter().all(|item| item.change.is_some()));
    let ids: BTreeSet<MachineId> = done.items.iter().map(|item| item.machine_id).collect();
    assert!(ids.contains(&enrolled.machine_id) && ids.len() == LABEL_MANY_MAX);
    let mut told = BTreeSet::new();
    while told.len() < LABEL_MANY_MAX {
        let event = next(&mut events).await;
        told.insert(MachineId(event.subject_id));
    }
    assert_eq!(told, ids);
    world.machine().await;
    let over = label(&world, None, Some("env=prod"), &["rack=r2"]).await;
    refused(over, "selector", "more than 1000");
    let moved = "SELECT count(*) FROM identity.machines WHERE labels @> '{\"rack\": \"r2\"}'";
    assert_eq!(world.count(moved).await, 0);
}

#[tokio::test]
async fn edits_at_once_all_hold_and_wait_for_no_deadlock() {
    let (world, _replica) = World::start().await;
    let mut machines = Vec::new();
    for _ in 0..6 {
        machines.push(world.machine().await.1.machine_id);
    }
    let reversed: Vec<MachineId> = machines.iter().rev().copied().collect();
    let words: Vec<String> = (0..12).map(|n| format!("k{n}=v")).collect();
    let asked = words.iter().enumerate().map(|(n, word)| {
        let (world, machines, reversed) = (&world, &machines, &reversed);
        async move {
            match n % 3 {
                0 => label(world, Some(machines), None, &[word]).await,
                1 => label(world, Some(reversed), None, &[word]).await,
                _ => label(world, None, Some("env=prod"), &[word]).await,
            }
        }
    });
    for done in futures::future::join_all(asked).await {
        assert_eq!(done.unwrap().items.len(), machines.len());
    }
    for record in records(&world).await {
        assert_eq!(record.labels.len(), 1 + words.len(), "{:?}", record.labels);
    }
}

#[tokio::test]
async fn another_organisations_machine_is_no_machine() {
    let (world, _replica) = World::start().await;
    let other = bootstrap(
        &world.database,
        "other",
        "other@example.org",
        Some(OTHER_KEY),
        Some(OTHER_TOKEN),
    )
    .await;
    other.unwrap();
    let (_, ours) = world.machine().await;
    let theirs = world
        .enroll(&KeyPair::new_user(), OTHER_TOKEN)
        .await
        .unwrap();
    let (ours, theirs) = (ours.machine_id, theirs.machine_id);
    let nowhere = MachineId::new();
    let edits = MachineEdits {
        notes: Edit::Set("mine".into()),
        ..MachineEdits::default()
    };
    let foreign = edit(&world, theirs, edits.clone()).await.unwrap_err();
    assert_eq!(foreign.kind, ProblemKind::NotFound);
    assert_eq!(foreign, edit(&world, nowhere, edits).await.unwrap_err());
    let foreign = label(&world, Some(&[ours, theirs]), None, &["x=y"]).await;
    let foreign = foreign.unwrap_err();
    assert_eq!(foreign.kind, ProblemKind::NotFound);
    let absent = label(&world, Some(&[ours, nowhere]), None, &["x=y"]).await;
    assert_eq!(foreign, absent.unwrap_err());
    let chosen = label(&world, None, Some("env=prod"), &["x=y"])
        .await
        .unwrap();
    assert_eq!(chosen.items.len(), 1);
    assert_eq!(chosen.items[0].machine_id, ours);
    let theirs = record(&world, theirs).await;
    assert_eq!(
        (shown(&theirs), theirs.notes),
        (vec!["env=prod".into()], None)
    );
}

#[tokio::test]
async fn wrong_edits_name_the_field_and_rights_are_checked_here() {
    let (world, _replica) = World::start().await;
    let (_, enrolled) = world.machine().await;
    let machine = enrolled.machine_id;
    let one = |edits: Value| {
        let edits: MachineEdits = serde_json::from_value(edits).unwrap();
        edit(&world, machine, edits)
    };
    for (edits, path, words) in [
        (json!({ "displayName": " " }), "displayName", "empty"),
        (json!({ "displayName": "a\nb" }), "displayName", "control"),
        (
            json!({ "displayName": "x".repeat(201) }),
            "displayName",
            "201",
        ),
        (json!({ "notes": "a\u{0}b" }), "notes", "control"),
        (
            json!({ "notes": "x".repeat(4_001) }),
            "notes",
            "at most 4000",
        ),
        (json!({ "labels": { "e nv": null } }), "labels.e nv", "key"),
        (json!({ "labels": { "env": "a b" } }), "labels.env", "value"),
    ] {
        refused(one(edits).await, path, words);
    }
    refused(
        label(&world, None, None, &["a=b"]).await,
        "machineIds",
        "required",
    );
    refused(
        label(&world, Some(&[]), None, &["a=b"]).await,
        "machineIds",
        "0 items",
    );
    let both = label(&world, Some(&[machine]), Some("env"), &["a=b"]).await;
    refused(both, "selector", "beside");
    refused(
        label(&world, None, Some(" , "), &["a=b"]).await,
        "selector",
        "empty",
    );
    refused(
        label(&world, None, Some("a b"), &["a=b"]).await,
        "selector",
        "key",
    );
    refused(
        label(&world, None, Some("env"), &[]).await,
        "labels",
        "must name",
    );
    let many = vec![machine; LABEL_MANY_MAX + 1];
    let many = label(&world, Some(&many), None, &["a=b"]).await;
    refused(many, "machineIds", "1001 items");

    // Whoever may not write, or may write and not read, changes nothing.
    let before = record(&world, machine).await;
    for scopes in ["'machines:read'", "'machines:write'", ""] {
        world
            .alter(&format!(
                "UPDATE identity.api_keys SET scopes = ARRAY[{scopes}]::text[]"
            ))
            .await;
        for problem in [
            one(json!({ "notes": "x" })).await.map(|_| ()).unwrap_err(),
            label(&world, None, Some("env"), &["a=b"])
                .await
                .map(|_| ())
                .unwrap_err(),
        ] {
            assert_eq!(problem.kind, ProblemKind::Forbidden, "{scopes}: {problem}");
        }
    }
    assert_eq!(record(&world, machine).await, before);
    let tokens = world
        .login(crate::world::EMAIL, PASSWORD, "a")
        .await
        .unwrap();
    let request = MachineEdit {
        machine_id: machine,
        edits: MachineEdits {
            notes: Edit::Set("by a person".into()),
            ..MachineEdits::default()
        },
    };
    world.ask_as(&tokens.access_token, request).await.unwrap();
}
