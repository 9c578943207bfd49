//! Several servers, several replicas: nobody is shown offline who only moved.

use std::time::Duration;

use dashfleet_metrics::Timing;
use domain::machine::MachineStatus;

use crate::main::world::{Agent, PATIENCE, World};

fn timing() -> Timing {
    Timing {
        silence: Duration::from_secs(3),
        reconcile: Duration::from_secs(1),
        ..Timing::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_between_servers_was_never_away() {
    let world = World::in_cluster(timing(), 2, 3).await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    let mut events = world.hear("df.evt.*.machine.*").await;
    let mut agent = Agent::connect_to(vec![world.nats.url()], &enrolled).await;
    assert_eq!(events.event().await.verb, "online");
    for url in [
        world.others[0].url(),
        world.others[1].url(),
        world.nats.url(),
    ] {
        let next = Agent::connect_to(vec![url], &enrolled).await;
        agent.leave().await;
        agent = next;
    }
    // And with a moment in which it is nowhere.
    agent.leave().await;
    let _agent = Agent::connect_to(vec![world.others[0].url()], &enrolled).await;
    events.silence(Duration::from_secs(5)).await;
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(
        (machine.status, machine.status_reason.as_deref()),
        (MachineStatus::Online, Some("connected"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_one_server_of_three_raises_no_false_alarm() {
    let world = World::in_cluster(timing(), 2, 3).await;
    let machines: Vec<_> = (0..6)
        .map(|place| world.enroll(&format!("web-{place}"), &[]))
        .collect();
    world.mirrored().await;
    let mut events = world.hear("df.evt.*.machine.*").await;
    let urls = |first: usize| {
        let mut urls = vec![
            world.nats.url(),
            world.others[0].url(),
            world.others[1].url(),
        ];
        urls.rotate_left(first);
        urls
    };
    let mut agents = Vec::new();
    for (place, machine) in machines.iter().enumerate() {
        agents.push(Agent::connect_to(urls(place % 3), machine).await);
        assert_eq!(events.event().await.verb, "online");
    }
    // What was said and not yet acknowledged by the stream would be said again after the loss, to those who only listen.
    world.told().await;
    // Its agents, one replica of metrics, and a third of the streams.
    world.others[0].kill();
    let pools = world.database.pools("metrics");
    testkit::eventually(
        "the lost server's sessions are closed",
        PATIENCE,
        || async {
            let lost: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM metrics.sessions WHERE reason = 'server lost'",
            )
            .fetch_one(pools.system())
            .await
            .ok()?;
            (lost == 2).then_some(())
        },
    )
    .await;
    events.silence(Duration::from_secs(5)).await;
    for machine in &machines {
        assert_eq!(
            world.machine(machine.machine).await.status,
            MachineStatus::Online
        );
    }
}
