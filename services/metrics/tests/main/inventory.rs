//! Inventory: given at enrolment, then as the agent says.

use contract::agent::{Inventory, Noted};
use contract::subject::Up;

use crate::main::world::{Enrolled, Heard, World};

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
    let world = World::new().await;
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
