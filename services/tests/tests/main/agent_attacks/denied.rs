//! What the server denies: everything but the machine's own words, orders and inbox.

use contract::server_config::{MAX_PAYLOAD, MAX_SUBSCRIPTIONS};
use contract::subject::Up;

use super::fleet::{Fleet, Machine};
use super::refused;
use super::targets::{forbidden_patterns, forbidden_subjects};
use crate::main::hostile::{Hostile, no_publish, no_subscribe};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_denies_an_agent_everything_but_its_own() {
    let fleet = Fleet::start().await;
    let (me, peer, stranger) = (
        fleet.enroll(&fleet.ours).await,
        fleet.enroll(&fleet.ours).await,
        fleet.enroll(&fleet.theirs).await,
    );
    let mut thief = fleet.connect(&me).await;
    // Those who would hear it.
    let mut witnesses = Vec::new();
    for machine in [&me, &peer, &stranger] {
        let mut witness = fleet.connect(machine).await;
        witness
            .subscribe(&format!("{}.>", machine.inbox()), None)
            .await;
        witness
            .subscribe(
                &format!("df.act.{}.{}.*", machine.org.token(), machine.id.token()),
                None,
            )
            .await;
        witnesses.push(witness);
    }
    for (user, patterns) in [
        ("gateway", ["df.live.>", "df.evt.>"]),
        ("identity", ["df.svc.*.identity.>", "df.rpc.identity.>"]),
        ("action", ["df.svc.*.action.>", "df.rpc.action.>"]),
    ] {
        let mut witness = fleet.service(user).await;
        for pattern in patterns {
            witness.subscribe(pattern, None).await;
        }
        witnesses.push(witness);
    }
    for witness in &mut witnesses {
        witness.sync().await;
    }

    let subjects = forbidden_subjects(&me, &peer, &stranger);
    for subject in &subjects {
        thief.publish(subject, None, b"evil").await;
        thief
            .publish(subject, Some(&format!("{}.answer", me.inbox())), b"evil")
            .await;
    }
    thief.sync().await;
    refused(
        &thief,
        &subjects
            .iter()
            .flat_map(|subject| [no_publish(subject), no_publish(subject)])
            .collect::<Vec<_>>(),
    );

    let patterns = forbidden_patterns(&me, &peer, &stranger);
    for pattern in &patterns {
        thief.subscribe(pattern, None).await;
        thief.subscribe(pattern, Some("identity")).await;
    }
    thief.sync().await;
    refused(
        &thief,
        &patterns
            .iter()
            .flat_map(|pattern| {
                [
                    no_subscribe(pattern, None),
                    no_subscribe(pattern, Some("identity")),
                ]
            })
            .collect::<Vec<_>>(),
    );

    for witness in &mut witnesses {
        witness.sync().await;
        let heard = witness.take_messages();
        assert!(
            heard.iter().all(|message| message.payload != b"evil"),
            "{heard:?}"
        );
    }
    let limits = limits(&fleet, &me, thief).await;
    let denied = 2 * subjects.len() + 2 * patterns.len() + limits;
    println!(
        "agent attacks: {denied} denied by the server ({} subjects, {} patterns, {limits} beyond a limit)",
        subjects.len(),
        patterns.len()
    );
    assert!(denied >= 40);
}

/// More than anybody may have. (The lower limits in an agent's JWT are not applied to whom a callout admits; what is
/// larger than an agent's message the services refuse.) Says how many things were tried.
async fn limits(fleet: &Fleet, me: &Machine, mut thief: Hostile) -> usize {
    for _ in 0..MAX_SUBSCRIPTIONS {
        thief.subscribe(&format!("{}.x", me.inbox()), None).await;
    }
    thief.sync().await;
    refused(&thief, &[]);
    thief.subscribe(&format!("{}.x", me.inbox()), None).await;
    thief.sync().await;
    let refusal = thief.take_errors().join(", ").to_lowercase();
    assert!(
        refusal.contains("maximum subscriptions exceeded"),
        "{refusal}"
    );

    let mut thief = fleet.connect(me).await;
    thief
        .publish(&me.up(Up::Metrics), None, &vec![b' '; MAX_PAYLOAD + 1])
        .await;
    thief.closed().await;
    2
}
