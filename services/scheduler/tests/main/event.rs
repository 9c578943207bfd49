//! What is published: how executions end, and what is said of an organisation's executions as a whole.

use std::collections::BTreeMap;

use contract::event::Event;
use contract::job::SettingsEdit;
use contract::merge::Edit;
use contract::{Envelope, ProblemKind};
use dashfleet_scheduler::config::Timing;
use domain::OrgId;
use domain::execution::Outcome;
use serde_json::json;

use super::stage::{PATIENCE, PLAIN, Stage, next_of};
use super::world::{World, refused};

/// What a worker says, whether somebody had asked that it should stop, and what that is.
const ENDS: [(Outcome, bool, &str); 6] = [
    (Outcome::Completed, false, "completed"),
    (Outcome::Failed, false, "failed"),
    (Outcome::Timeout, false, "timeout"),
    (Outcome::Cancelled, true, "cancelled"),
    (Outcome::Failed, true, "cancelled"),
    (Outcome::Completed, true, "completed"),
];

#[tokio::test]
async fn each_way_in_which_what_ran_ends_has_its_verb() {
    let stage = Stage::new(Timing::default()).await;
    let mut heard = stage.listen("df.evt.>").await;
    let org = OrgId::new();
    let job = stage.job(org, PLAIN).await;
    let offers = stage.enqueue(org, job, "", ENDS.len() + 1).await;
    let worker = stage.worker().await;
    let places = worker.places(&offers).await;
    assert_eq!(places.len(), offers.len());
    let mut verbs = Vec::new();
    for (place, (outcome, is_stopped, verb)) in places.into_iter().zip(ENDS) {
        if is_stopped {
            let stop = "UPDATE scheduler.running SET cancel_requested_at = now()";
            stage
                .execute(&format!("{stop} WHERE id = '{}'", place.id))
                .await;
        }
        worker.conclude(place, outcome).await;
        verbs.push(verb);
    }
    // The last one is lost, for the third time.
    stage
        .execute("UPDATE scheduler.running SET losses = 2")
        .await;
    verbs.push("failed");
    testkit::eventually("the third loss is the end", PATIENCE, || async {
        stage.expire_sessions().await;
        (stage.state(offers[ENDS.len()].id).await == "FAILED").then_some(())
    })
    .await;

    let mut found = BTreeMap::new();
    while found.len() < offers.len() {
        let message = next_of(&mut heard).await;
        let event: Envelope<Event> = serde_json::from_slice(&message.payload).unwrap();
        let event = event.body;
        assert_eq!(
            message.subject,
            contract::subject::event(org, "execution", &event.verb)
        );
        found.insert(event.subject_id, event);
    }
    for (offer, verb) in offers.iter().zip(verbs) {
        let event = &found[&offer.id.0];
        assert_eq!(
            (event.org, event.noun.as_str(), event.verb.as_str()),
            (org, "execution", verb)
        );
        assert_eq!(event.version, 3, "made, begun, ended");
        let is_dead = ["failed", "timeout"].contains(&verb);
        let expected = json!({
            "jobId": job, "status": verb.to_uppercase(), "attempt": 1, "deadLetter": is_dead,
        });
        assert_eq!(event.data, expected);
    }
}

#[tokio::test]
async fn what_is_said_of_an_organisation_is_an_event_each_time_that_it_changes() {
    let world = World::new().await;
    let held = SettingsEdit {
        paused: Some(true),
        concurrency: Edit::Set(5),
        weight: None,
    };
    world.ask(&held).await.unwrap();
    // The same again changes nothing, nor does what is refused.
    world.ask(&held).await.unwrap();
    let weight = SettingsEdit {
        weight: Some(2),
        ..SettingsEdit::default()
    };
    assert_eq!(refused(world.ask(&weight).await).0, ProblemKind::Forbidden);
    let free = SettingsEdit {
        paused: Some(false),
        concurrency: Edit::Clear,
        weight: None,
    };
    world.ask(&free).await.unwrap();
    let events = world.events_of(world.org.0, 2).await;
    for (event, (version, paused, concurrency)) in
        events.iter().zip([(2, true, Some(5)), (3, false, None)])
    {
        assert_eq!(
            (event.org, event.noun.as_str(), event.verb.as_str()),
            (world.org, "execution-settings", "edited")
        );
        assert_eq!(event.version, version);
        let mut data = event.data.clone();
        let fields = data.as_object_mut().unwrap();
        assert!(fields.remove("by").unwrap().is_string());
        // That there is no limit any more is a change too.
        let mut changes: Vec<String> =
            serde_json::from_value(fields.remove("changes").unwrap()).unwrap();
        changes.sort();
        assert_eq!(changes, ["concurrency", "paused"]);
        assert_eq!(
            data,
            json!({ "paused": paused, "concurrency": concurrency, "weight": 1 })
        );
    }
    world.audited("settings.edit", 2).await;
}
