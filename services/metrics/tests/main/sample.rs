//! Samples: written once, answered after the commit, whatever comes twice, late, or out of bounds.

use std::time::Duration;

use contract::ProblemKind;
use contract::agent::{CollectorFault, SAMPLES_MAX, Sample, SampleAnswer};
use contract::metrics::{MachineGet, SampleList};
use dashfleet_metrics::Timing;
use domain::Timestamp;
use domain::health::HealthStatus;

use crate::main::world::{PATIENCE, SECOND, World, in_seconds, sample};

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_there_with_its_exact_health_when_the_answer_comes() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[("env", "prod")]);
    let agent = world.connect(&enrolled).await;
    let mut live = world
        .hear(&format!("df.live.{}.sample.*", world.org.token()))
        .await;
    let at = Timestamp::now();
    // The mirror may not know the machine yet: it is asked, and the sample is taken.
    let sent = sample(at, 75.0, 80.0, 85.0);
    assert_eq!(
        agent.samples(vec![sent.clone()]).await.unwrap(),
        SampleAnswer {
            through: at,
            refused: 0
        }
    );
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(machine.latest_sample.as_ref(), Some(&sent));
    let health = machine.health.unwrap();
    assert_eq!((health.score, health.status), (50, HealthStatus::Critical));
    assert_eq!(
        (
            health.components.cpu,
            health.components.ram,
            health.components.disk
        ),
        (0.5, 0.5, 0.5)
    );
    let listed = world
        .list(contract::metrics::MachineList {
            limit: 50,
            health: Some(HealthStatus::Critical),
            ..Default::default()
        })
        .await;
    assert_eq!(listed.items, vec![world.machine(enrolled.machine).await]);
    assert!(machine.last_seen_at.unwrap() >= at);
    let (subject, shown) = live.live().await;
    assert!(subject.ends_with(&enrolled.machine.token()));
    assert_eq!(
        (shown.noun.as_str(), &shown.data["health"]["score"]),
        ("sample", &serde_json::json!(50))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_a_full_disk_is_not_healthy_because_its_disks_cannot_be_looked_at() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    let mut live = world
        .hear(&format!("df.live.{}.sample.*", world.org.token()))
        .await;
    let hung = |seconds: i64| Sample {
        disks: Vec::new(),
        faults: vec![CollectorFault {
            collector: "disks".into(),
            message: "hangs: no answer within 5000 ms".into(),
        }],
        ..sample(in_seconds(seconds), 75.0, 80.0, 0.0)
    };
    // Nothing has ever been known.
    agent.samples(vec![hung(-60)]).await.unwrap();
    live.live().await;
    let unknown = world.machine(enrolled.machine).await;
    assert_eq!(unknown.health.unwrap().components.disk, 1.0);

    let mut full = sample(in_seconds(-50), 75.0, 80.0, 100.0);
    full.disks[1].read = Some(3.0);
    agent.samples(vec![full.clone()]).await.unwrap();
    live.live().await;
    let before = world.machine(enrolled.machine).await.health.unwrap();
    assert_eq!(
        (before.components.disk, before.status),
        (0.0, HealthStatus::Critical)
    );
    // By the machine's latest, again by that, and by an earlier sample of the same message.
    let mut later = full.clone();
    later.at = in_seconds(-20);
    for samples in [vec![hung(-40)], vec![hung(-30)], vec![later, hung(-10)]] {
        agent.samples(samples).await.unwrap();
        let (_, shown) = live.live().await;
        assert_eq!(shown.data["health"]["components"]["disk"], 0.0);
        let machine = world.machine(enrolled.machine).await;
        assert_eq!(machine.health, Some(before));
        let latest = machine.latest_sample.unwrap();
        assert_eq!(latest.faults.len(), 1, "it is said that they are old");
        assert_eq!((latest.disks.len(), latest.disks[1].percent), (2, 100.0));
        assert_eq!(latest.disks[1].read, None, "nobody knows that now");
        let critical = "SELECT count(*) FROM metrics.latest WHERE health_status = 'CRITICAL'";
        assert_eq!(world.count(critical).await, 1);
    }
    // What the agent said stays what it said.
    let empty = "SELECT count(*) FROM metrics.samples WHERE body -> 'disks' = '[]'";
    assert_eq!(world.count(empty).await, 4);
    // A machine that says that it has no disks has none.
    let mut none = sample(in_seconds(-5), 75.0, 80.0, 0.0);
    none.disks.clear();
    agent.samples(vec![none]).await.unwrap();
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(machine.health.unwrap().components.disk, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_share_stays_full_while_nobody_answers_for_it() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    // The fuller of the two disks is the share.
    let full = sample(in_seconds(-50), 10.0, 10.0, 100.0);
    let share = full.disks[1].mount.clone();
    agent.samples(vec![full.clone()]).await.unwrap();
    let before = world.machine(enrolled.machine).await.health.unwrap();
    // A new life of the agent has never seen it.
    for seconds in [-40, -30] {
        let mut local = full.clone();
        local.at = in_seconds(seconds);
        local.disks.truncate(1);
        local.faults = vec![CollectorFault {
            collector: "network-disks".into(),
            message: "hangs: no answer within 5000 ms".into(),
        }];
        agent.samples(vec![local]).await.unwrap();
        let machine = world.machine(enrolled.machine).await;
        assert_eq!(machine.health, Some(before));
        let latest = machine.latest_sample.unwrap();
        assert_eq!((latest.disks.len(), &latest.disks[1].mount), (2, &share));
    }
    // It is there again, or gone for good: what the machine says counts.
    let mut gone = full;
    gone.at = in_seconds(-20);
    gone.disks.truncate(1);
    agent.samples(vec![gone]).await.unwrap();
    let machine = world.machine(enrolled.machine).await;
    assert_eq!(machine.latest_sample.unwrap().disks.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repetition_disorder_and_back_fill_lose_and_double_nothing() {
    let world = World::with(Timing::default(), 2).await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    let now = Timestamp::now();
    let at = |seconds: i64| now.plus(chrono::Duration::seconds(seconds));
    let batch = |seconds: std::ops::Range<i64>| {
        seconds
            .map(|second| sample(at(second), 10.0, 10.0, 10.0))
            .collect::<Vec<_>>()
    };
    // The newest first, then what an outage held back, each twice and at once, to two replicas. A machine has no more
    // than two messages in work, and its place is free a moment after the answer.
    let batches = [-5..0, -60..-5, -90..-40];
    for seconds in batches {
        let (one, two) = tokio::join!(
            agent.samples(batch(seconds.clone())),
            agent.samples(batch(seconds))
        );
        for answer in [one, two] {
            assert_eq!(answer.unwrap().refused, 0);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let page = world
        .ask(&SampleList {
            machine_id: enrolled.machine,
            from: at(-100),
            to: at(0),
            limit: 200,
            cursor: None,
        })
        .await
        .unwrap();
    let expected: Vec<_> = (-90..0).map(at).collect();
    assert_eq!(
        page.items
            .iter()
            .map(|sample| sample.at)
            .collect::<Vec<_>>(),
        expected
    );
    assert_eq!(
        world
            .machine(enrolled.machine)
            .await
            .latest_sample
            .unwrap()
            .at,
        at(-1),
        "the newest wins, whatever came last"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_bounds_is_refused_for_good_and_the_rest_is_taken() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    let (old, good, odd, late) = (
        in_seconds(-8 * 86_400),
        in_seconds(-20),
        in_seconds(-10),
        in_seconds(3_600),
    );
    let samples = vec![
        sample(old, 1.0, 1.0, 1.0),
        sample(good, 1.0, 1.0, 1.0),
        sample(odd, 101.0, 1.0, 1.0),
        sample(late, 1.0, 1.0, 1.0),
    ];
    assert_eq!(
        agent.samples(samples).await.unwrap(),
        SampleAnswer {
            through: late,
            refused: 3
        }
    );
    assert_eq!(world.count("SELECT count(*) FROM metrics.samples").await, 1);
    let week = sample(in_seconds(-7 * 86_400 + 60), 1.0, 1.0, 1.0);
    assert_eq!(
        agent.samples(vec![week]).await.unwrap().refused,
        0,
        "the whole retention is taken"
    );
    for count in [0, SAMPLES_MAX + 1] {
        let samples = (0..count)
            .map(|n| sample(in_seconds(-100 + n as i64), 1.0, 1.0, 1.0))
            .collect();
        assert_eq!(
            agent.samples(samples).await.unwrap_err().kind,
            ProblemKind::Invalid,
            "{count}"
        );
    }
    // Values that are within bounds and that columns might not take.
    let mut extreme = sample(in_seconds(0), 0.3, 0.000_001, 100.0);
    extreme.disks[0].total = u64::MAX;
    extreme.disks[0].used = u64::MAX;
    extreme.networks[0].sent = 1e18;
    assert_eq!(
        agent.samples(vec![extreme.clone()]).await.unwrap().refused,
        0
    );
    assert_eq!(
        world.machine(enrolled.machine).await.latest_sample.unwrap(),
        extreme
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_machine_keeps_its_samples_and_a_revoked_one_is_refused() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    world.identity.lock().unwrap().dumb = true;
    let refused = agent
        .samples(vec![sample(in_seconds(-1), 1.0, 1.0, 1.0)])
        .await;
    // If the mirror had been quicker than the test, the sample was rightly taken.
    if let Err(problem) = refused {
        assert_eq!(problem.kind, ProblemKind::Unavailable);
    }
    world.identity.lock().unwrap().dumb = false;
    assert!(
        agent
            .samples(vec![sample(in_seconds(-1), 1.0, 1.0, 1.0)])
            .await
            .is_ok()
    );
    world.machine_changes(enrolled.machine, |record| {
        record.revoked_at = Some(Timestamp::now());
    });
    testkit::eventually("the revocation is known", PATIENCE, || async {
        let refused = agent
            .samples(vec![sample(Timestamp::now(), 1.0, 1.0, 1.0)])
            .await;
        refused
            .is_err_and(|problem| problem.kind == ProblemKind::Forbidden)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_machines_share_commits() {
    let world = World::with(Timing::default(), 2).await;
    let enrolled: Vec<_> = (0..20)
        .map(|n| world.enroll(&format!("web-{n}"), &[]))
        .collect();
    world.mirrored().await;
    let mut agents = Vec::new();
    for enrolled in &enrolled {
        agents.push(world.connect(enrolled).await);
    }
    let start = in_seconds(-600);
    let rounds = 25;
    for round in 0..rounds {
        let at = start.plus(chrono::Duration::seconds(round));
        let answers = futures::future::join_all(
            agents
                .iter()
                .map(|agent| agent.samples(vec![sample(at, 1.0, 1.0, 1.0)])),
        )
        .await;
        assert!(
            answers
                .into_iter()
                .all(|answer| answer.is_ok_and(|answer| answer.through == at))
        );
    }
    assert_eq!(
        world.count("SELECT count(*) FROM metrics.samples").await,
        20 * rounds
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_read_in_pages_and_within_bounds() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    let now = Timestamp::now();
    let at = |seconds: i64| now.plus(chrono::Duration::seconds(seconds));
    agent
        .samples(
            (-50..0)
                .map(|second| sample(at(second), 1.0, 1.0, 1.0))
                .collect(),
        )
        .await
        .unwrap();
    let mut request = SampleList {
        machine_id: enrolled.machine,
        from: at(-40),
        to: at(-1),
        limit: 15,
        cursor: None,
    };
    let mut read = Vec::new();
    for expected in [15, 15, 9] {
        let page = world.ask(&request).await.unwrap();
        assert_eq!(page.items.len(), expected);
        read.extend(page.items.iter().map(|sample| sample.at));
        request.cursor = page.next_cursor;
    }
    assert_eq!(request.cursor, None);
    assert_eq!(read, (-40..-1).map(at).collect::<Vec<_>>());
    let refuse = |change: fn(&mut SampleList)| {
        let mut request = SampleList {
            machine_id: enrolled.machine,
            from: at(-40),
            to: at(-1),
            limit: 15,
            cursor: None,
        };
        change(&mut request);
        let world = &world;
        async move { world.ask(&request).await.unwrap_err() }
    };
    assert_eq!(
        refuse(|request| request.limit = 0).await.errors[0].path,
        "limit"
    );
    assert_eq!(
        refuse(|request| request.limit = 201).await.errors[0].path,
        "limit"
    );
    assert_eq!(
        refuse(|request| request.from = request.to).await.errors[0].path,
        "from"
    );
    assert_eq!(
        refuse(|request| request.from = request.to.plus(-chrono::Duration::days(8)))
            .await
            .errors[0]
            .path,
        "to"
    );
    assert_eq!(
        refuse(|request| request.cursor = Some("e30".into()))
            .await
            .errors[0]
            .path,
        "cursor"
    );
    assert_eq!(
        refuse(|request| request.machine_id = domain::MachineId::new())
            .await
            .kind,
        ProblemKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_speak_for_another() {
    let world = World::new().await;
    let (mine, other) = (world.enroll("web-1", &[]), world.enroll("web-2", &[]));
    world.mirrored().await;
    let agent = world.connect(&mine).await;
    let subject = contract::subject::up(other.org, other.machine, contract::subject::Up::Metrics);
    let batch = contract::agent::SampleBatch {
        samples: vec![sample(in_seconds(0), 1.0, 1.0, 1.0)],
    };
    let answer: Result<SampleAnswer, _> = agent
        .bus
        .agent_request(subject, other.org, &batch, SECOND)
        .await;
    assert!(answer.is_err());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        world
            .ask(&MachineGet::from(other.machine))
            .await
            .unwrap()
            .latest_sample
            .is_none()
    );
}
