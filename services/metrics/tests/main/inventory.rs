//! Inventory: given at enrolment, then as the agent says.

use std::time::{Duration, Instant};

use contract::agent::{Inventory, Noted};
use contract::subject::Up;
use dashfleet_metrics::Timing;

use crate::main::world::{Enrolled, Heard, PATIENCE, World};

/// A world in which a machine's inventory is told of once in so long.
async fn world(pace: Duration) -> World {
    let timing = Timing {
        inventory: pace,
        ..Timing::default()
    };
    World::with(timing, 1).await
}

/// Waits for the event that this path of the machine's inventory changed; gives its version.
async fn changed(events: &mut Heard, enrolled: &Enrolled, path: &str) -> i64 {
    loop {
        let event = events.event().await;
        if event.verb == "inventory-changed" {
            let changes = event.data["changes"].as_array().unwrap();
            assert!(
                changes.iter().any(|change| change["path"] == path),
                "{event:?}"
            );
            assert_eq!(
                (event.org, event.subject_id),
                (enrolled.org, enrolled.machine.0)
            );
            return event.version;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_word_replaces_what_enrolment_said_and_identity_does_not_take_it_back() {
    let world = world(Duration::from_secs(1)).await;
    let enrolled = world.enroll("web-1", &[("env", "prod")]);
    world.machine_changes(enrolled.machine, |record| {
        record.inventory.os = "Debian GNU/Linux".into();
    });
    world.mirrored().await;
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(
        (
            machine.inventory.os.as_str(),
            machine.labels["env"].as_str()
        ),
        ("Debian GNU/Linux", "prod")
    );
    assert_eq!(
        (
            machine.last_seen_at,
            machine.health,
            machine.status_reason.as_deref()
        ),
        (None, None, Some("never connected"))
    );
    let mut events = world.hear("df.evt.*.machine.*").await;
    let agent = world.connect(&enrolled).await;
    let said = Inventory {
        os: "Debian GNU/Linux".into(),
        os_version: "13".into(),
        cpu_cores: 8,
        memory_total: u64::MAX,
        ..Inventory::default()
    };
    let noted: Noted = agent.say(Up::Inventory, &said).await.unwrap();
    assert!(noted.noted);
    let version = changed(&mut events, &enrolled, "osVersion").await;
    // The same again changes nothing, and is no event: the next one is the next change's.
    agent.say::<_, Noted>(Up::Inventory, &said).await.unwrap();
    let said = Inventory {
        users: vec!["ann".into()],
        ..said
    };
    agent.say::<_, Noted>(Up::Inventory, &said).await.unwrap();
    let next = changed(&mut events, &enrolled, "users[ann]").await;
    assert!(next > version);
    // A later change of identity's brings the old inventory along.
    world.machine_changes(enrolled.machine, |record| {
        record.quarantined_at = Some(domain::Timestamp::now());
        record.quarantine_reason = Some("another journal".into());
    });
    world.mirrored().await;
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(machine.inventory, said);
    assert_eq!(
        (machine.status.as_str(), machine.status_reason.as_deref()),
        ("QUARANTINED", Some("another journal"))
    );
    let odd = Inventory {
        kernel: "6\u{0}".into(),
        ..said
    };
    let refused = agent
        .say::<_, Noted>(Up::Inventory, &odd)
        .await
        .unwrap_err();
    assert_eq!(refused.errors[0].path, "kernel");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_another_inventory_without_end_is_told_of_once_in_a_while_and_in_short()
{
    let pace = Duration::from_secs(4);
    let world = world(pace).await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    let agent = world.connect(&enrolled).await;
    world
        .becomes(enrolled.machine, domain::machine::MachineStatus::Online)
        .await;
    world.told().await;
    let mut events = world.hear("df.evt.*.machine.inventory-changed").await;
    // As much as an inventory may say, and all of it another one each time.
    let said = |turn: usize| Inventory {
        users: (0..64).map(|n| format!("{turn}-{n:0>250}")).collect(),
        packages: u32::try_from(turn).ok(),
        ..Inventory::default()
    };
    let begun = Instant::now();
    for turn in 0..40 {
        agent
            .say::<_, Noted>(Up::Inventory, &said(turn))
            .await
            .unwrap();
    }
    let took = begun.elapsed();
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(
        machine.inventory,
        said(39),
        "the row has what was said last"
    );

    // One at once, one for each `pace` that the flood took, and one for the rest.
    let most = 2 + took.as_secs() / pace.as_secs();
    let mut told = 0;
    let mut version = 0;
    loop {
        let event = events.event().await;
        told += 1;
        assert!(told <= most, "{told} events of 40 changes in {took:?}");
        assert!(event.version > version);
        version = event.version;
        let text = event.data.to_string();
        assert!(text.len() < 4_200, "{} bytes", text.len());
        assert!(event.data["omitted"].as_u64().unwrap() > 50);
        let changes = event.data["changes"].as_array().unwrap();
        if changes
            .iter()
            .any(|change| change["path"] == "packages" && change["after"] == 39)
        {
            break;
        }
    }
    let waiting = "SELECT count(*) FROM metrics.machines WHERE inventory_due_at IS NOT NULL";
    assert_eq!(world.count(waiting).await, 0);

    // What is as it was when its time has come, nobody is told of.
    for turn in [40, 39] {
        agent
            .say::<_, Noted>(Up::Inventory, &said(turn))
            .await
            .unwrap();
    }
    testkit::eventually("its time has come", PATIENCE, || async {
        (world.count(waiting).await == 0).then_some(())
    })
    .await;
    events.silence(Duration::from_secs(1)).await;
}
