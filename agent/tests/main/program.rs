//! The agent's program on a real bus.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use contract::order::{ORDER_PREFIX, Signed, Task, Verb};
use contract::subject::Up;
use domain::Timestamp;
use domain::action::{ActionKind, Outcome};
use nkeys::KeyPair;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::world::{Running, World};

/// A task that may begin within an hour.
pub fn task(seq: i64, kind: ActionKind) -> Task {
    let payload = if kind == ActionKind::Reboot {
        json!({ "delaySeconds": 0 })
    } else {
        super::task::task(seq, kind).payload
    };
    Task {
        not_after: Timestamp::now().plus(chrono::Duration::hours(1)),
        payload,
        ..super::task::task(seq, kind)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_executed_once_and_answered_in_one_message() {
    let world = World::new().await;
    let agent = world.enrol();
    let mut running = agent.start();
    world.until_synced(0).await;
    let mut took = Vec::new();
    for seq in 1..=50 {
        let ping = task(seq, ActionKind::Ping);
        let begun = Instant::now();
        world.ring(&agent, Verb::New, &ping).await;
        let result = loop {
            if let Some(result) = world.owners().result(ping.action) {
                break result;
            }
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_micros(200)).await;
        };
        took.push(begun.elapsed());
        assert_eq!(result.outcome, Outcome::Succeeded);
        let given = result.result.unwrap();
        assert!(
            given["pong"] == true
                && given["agentVersion"].is_string()
                && given["hostname"].is_string()
        );
        assert!(result.accepted_at.is_some() && result.started_at.is_some());
    }
    took.sort();
    println!(
        "ping, doorbell to result: p50 {:?}, p98 {:?}",
        took[25], took[48]
    );
    assert!(
        world.owners().steps.is_empty(),
        "nothing is said that the result says: {:?}",
        world.owners().steps
    );
    assert_eq!(agent.executed().len(), 50);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    println!(
        "memory: {}",
        status
            .lines()
            .filter(|line| line.starts_with("VmRSS") || line.starts_with("Rss"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    running.signal("TERM");
    assert_eq!(running.code().await, 0);
    assert_eq!(world.owners().stoppings.len(), 1, "it says that it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_for_this_machine_has_no_effect() {
    let world = World::new().await;
    let agent = world.enrol();
    let other = world.enrol();
    let running = agent.start();
    world.until_synced(0).await;
    let ping = || Some(task(1, ActionKind::Ping));
    let good = world.signed(&agent, Verb::New, ping());
    let foreign = Signed::sign(ORDER_PREFIX, good.body.clone(), &KeyPair::new_service()).unwrap();
    world.publish(&agent, Verb::New, &foreign).await;
    world
        .publish(
            &agent,
            Verb::New,
            &Signed {
                body: [good.body.as_slice(), b" "].concat(),
                ..good.clone()
            },
        )
        .await;
    world
        .publish(&agent, Verb::New, &world.signed(&other, Verb::New, ping()))
        .await;
    world.publish(&agent, Verb::Cancel, &good).await;
    let mut late = task(1, ActionKind::Ping);
    late.not_after = Timestamp::now().plus(chrono::Duration::days(-2));
    world.ring(&agent, Verb::New, &late).await;
    let last = task(1, ActionKind::Ping);
    world.ring(&agent, Verb::New, &last).await;
    world.result(last.action).await;
    assert_eq!(
        agent
            .executed()
            .iter()
            .map(|line| line.0)
            .collect::<Vec<_>>(),
        [last.action]
    );
    assert_eq!(
        running.said().matches("refused").count(),
        4,
        "{}",
        running.said()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_actions_that_waited_are_executed_in_order_except_those_past_their_time() {
    let world = World::new().await;
    let agent = world.enrol();
    let mut tasks = Vec::new();
    for seq in 1..=50 {
        let kinds = [
            ActionKind::Ping,
            ActionKind::Ping,
            ActionKind::Message,
            ActionKind::Ping,
            ActionKind::Reboot,
        ];
        let mut task = task(seq, kinds[usize::try_from(seq).unwrap() % 5]);
        if seq % 7 == 0 {
            task.not_after = Timestamp::now().plus(chrono::Duration::seconds(-1));
        }
        world.queue(&task);
        tasks.push(task);
    }
    let _running = agent.start();
    for task in &tasks {
        let expected = if task.seq % 7 == 0 {
            Outcome::Expired
        } else {
            Outcome::Succeeded
        };
        assert_eq!(
            world.result(task.action).await.outcome,
            expected,
            "seq {}",
            task.seq
        );
    }
    let order: Vec<_> = agent.executed().iter().map(|line| line.2).collect();
    assert_eq!(
        order,
        (1..=50).filter(|seq| seq % 7 != 0).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_the_same_process_in_a_new_life_and_a_dry_reboot_says_so() {
    let world = World::new().await;
    let agent = world.enrol();
    let mut running = agent.start();
    world.until_synced(0).await;
    let restart = task(1, ActionKind::Restart);
    world.queue(&restart);
    world.ring(&agent, Verb::New, &restart).await;
    let result = world.result(restart.action).await;
    assert_eq!(result.outcome, Outcome::Succeeded);
    // The result and the first question of the new life go their ways together.
    world
        .until("a new life", |owners| {
            let sessions = owners.syncs.iter().map(|sync| sync.session_id);
            sessions.collect::<HashSet<_>>().len() == 2
        })
        .await;
    assert_eq!(world.owners().stoppings[0].reason, "restart");
    assert!(
        running.child.try_wait().unwrap().is_none(),
        "the same process"
    );
    let reboot = task(2, ActionKind::Reboot);
    world.queue(&reboot);
    world.ring(&agent, Verb::New, &reboot).await;
    assert_eq!(
        world.result(reboot.action).await.result,
        Some(json!({ "dryRun": true }))
    );
    assert_eq!(agent.executed().len(), 2);
    // Entries only grow, over lives too, and each life's first question has more of them.
    let entries: Vec<_> = world
        .owners()
        .syncs
        .iter()
        .map(|sync| sync.entries)
        .collect();
    assert!(entries.is_sorted(), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time_it_executes_nothing_twice_and_owns_up_to_everything() {
    let world = World::new().await;
    let agent = world.enrol();
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut running = agent.start();
    let mut tasks = Vec::new();
    let mut kills = 0;
    for seq in 1..=200 {
        let task = task(
            seq,
            if seq % 40 == 0 {
                ActionKind::Reboot
            } else {
                ActionKind::Ping
            },
        );
        world.queue(&task);
        world.ring(&agent, Verb::New, &task).await;
        tasks.push(task);
        if random.random_ratio(1, 12) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
            running.kill();
            kills += 1;
            running = agent.start();
        }
    }
    let mut outcomes = Vec::new();
    for task in &tasks {
        let result = world.result(task.action).await;
        assert!(
            matches!(result.outcome, Outcome::Succeeded | Outcome::Interrupted),
            "{result:?}"
        );
        outcomes.push((task.action, result.outcome));
    }
    let executed = agent.executed();
    let once: HashSet<_> = executed.iter().map(|line| line.0).collect();
    assert_eq!(once.len(), executed.len(), "something was executed twice");
    for (action, outcome) in &outcomes {
        assert!(
            *outcome == Outcome::Interrupted || once.contains(action),
            "{action} is said to be done"
        );
    }
    let interrupted = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == Outcome::Interrupted)
        .count();
    println!("{kills} kills, {interrupted} interrupted");
    let owners = world.owners();
    for (before, after) in owners.syncs.iter().zip(owners.syncs.iter().skip(1)) {
        assert!(
            before.entries <= after.entries && before.journal_id == after.journal_id,
            "the journal lost entries"
        );
        if before.session_id != after.session_id {
            assert!(before.entries < after.entries);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_kept_and_said_until_the_owner_takes_it() {
    let world = World::new().await;
    world.owners().busy = true;
    let agent = world.enrol();
    let mut running = agent.start();
    world.until_synced(0).await;
    let ping = task(1, ActionKind::Ping);
    world.queue(&ping);
    world.ring(&agent, Verb::New, &ping).await;
    let logged = || async { (!agent.executed().is_empty()).then_some(()) };
    testkit::eventually("an execution", super::world::PATIENCE, logged).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.kill();
    world.owners().busy = false;
    let _running = agent.start();
    assert_eq!(world.result(ping.action).await.outcome, Outcome::Succeeded);
    assert_eq!(agent.executed().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_survive_an_outage_with_their_own_times_and_the_inventory_is_said_once() {
    let mut world = World::new().await;
    let agent = world.enrol();
    let mut running = agent.start();
    world
        .until("samples and inventory", |owners| {
            owners.samples.len() > 2 && !owners.inventories.is_empty()
        })
        .await;
    world.nats.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = world.owners().samples.len();
    // Offline, the agent restarts too: what it collected is on the disk.
    running.signal("TERM");
    assert_eq!(running.code().await, 0);
    let _running = agent.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.nats.launch_again();
    world
        .until("the samples of the outage", |owners| {
            owners.samples.len() > before + 12
        })
        .await;
    let owners = world.owners();
    let times: Vec<_> = owners.samples.iter().map(|sample| sample.at).collect();
    let gap = times
        .windows(2)
        .map(|pair| pair[1].since(pair[0]).num_milliseconds())
        .max()
        .unwrap();
    let distinct: HashSet<_> = times.iter().collect();
    assert!(
        distinct.len() + 1 >= times.len(),
        "hardly anything is said twice"
    );
    assert!(gap < 1_500, "no hole: {gap} ms");
    let sample = owners.samples.last().unwrap();
    assert!(
        sample.memory.total > 0
            && !sample.cpu.cores.is_empty()
            && !sample.disks.is_empty()
            && sample.processes > 1,
        "{sample:?}"
    );
    assert!(
        sample.uptime_seconds > 0 && sample.load.is_some(),
        "{sample:?}"
    );
    assert_eq!(owners.inventories.len(), 1, "the server has it already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_machine_executes_nothing_until_it_is_released() {
    let world = World::new().await;
    world.owners().quarantined = Some("a copy was seen".into());
    let agent = world.enrol();
    let running = agent.start();
    world.until_synced(0).await;
    let ping = task(1, ActionKind::Ping);
    world.queue(&ping);
    world.ring(&agent, Verb::New, &ping).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(agent.executed().is_empty());
    assert!(
        running.said().contains("a copy was seen"),
        "{}",
        running.said()
    );
    world.owners().quarantined = None;
    world
        .publish(&agent, Verb::Time, &world.signed(&agent, Verb::Time, None))
        .await;
    assert_eq!(world.result(ping.action).await.outcome, Outcome::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspected_machine_shows_that_it_lives() {
    let world = World::new().await;
    let echo = uuid::Uuid::new_v4();
    world.owners().suspects = Some(echo);
    let agent = world.enrol();
    let _running = agent.start();
    world
        .until("an echo", |owners| {
            owners.syncs.iter().any(|sync| sync.echo == Some(echo))
        })
        .await;
    let ping = task(1, ActionKind::Ping);
    world.ring(&agent, Verb::New, &ping).await;
    assert_eq!(world.result(ping.action).await.outcome, Outcome::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_lasts_says_its_steps_and_can_be_cancelled_while_it_waits() {
    let world = World::new().await;
    let agent = world.enrol();
    let _running = agent.start();
    world.until_synced(0).await;
    let reboot = Task {
        payload: json!({ "delaySeconds": 600 }),
        ..task(1, ActionKind::Reboot)
    };
    let second = task(2, ActionKind::Reboot);
    world.ring(&agent, Verb::New, &reboot).await;
    world.ring(&agent, Verb::New, &second).await;
    let said = |word, action| {
        move |owners: &super::world::Owners| {
            owners
                .steps
                .iter()
                .any(|(w, step)| *w == word && step.action == action)
        }
    };
    world
        .until("the first began", said(Up::Started, reboot.action))
        .await;
    world
        .until("the second waits", said(Up::Accepted, second.action))
        .await;
    world.ring(&agent, Verb::Cancel, &reboot).await;
    assert_eq!(
        world.result(reboot.action).await.outcome,
        Outcome::Cancelled
    );
    assert_eq!(
        world.result(second.action).await.outcome,
        Outcome::Succeeded
    );
    assert_eq!(
        agent
            .executed()
            .iter()
            .map(|line| line.0)
            .collect::<Vec<_>>(),
        [second.action]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_is_in_the_trace_of_the_request_that_made_it() {
    let world = World::new().await;
    let agent = world.enrol();
    let collector = testkit::Collector::start();
    let mut running = agent.start_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())]);
    world.until_synced(0).await;
    let trace = uuid::Uuid::new_v4();
    let traceparent = format!("00-{}-00f067aa0ba902b7-01", trace.simple());
    let ping = Task {
        traceparent: Some(traceparent),
        ..task(1, ActionKind::Ping)
    };
    world.ring(&agent, Verb::New, &ping).await;
    world.result(ping.action).await;
    running.signal("TERM");
    assert_eq!(running.code().await, 0, "{}", running.said());
    let mut spans = collector.spans_of(&trace.simple().to_string());
    spans.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = spans
        .iter()
        .map(|span| (span.name.as_str(), span.parent.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("action.execute", "00f067aa0ba902b7"),
            ("action.report", "00f067aa0ba902b7")
        ],
        "{}",
        running.said()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_an_update_in_place_runs_the_new_program() {
    let world = World::new().await;
    let agent = world.enrol();
    let program = agent.path.join("dashfleet-agent");
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_dashfleet-agent"));
    std::fs::copy(built, &program).unwrap();
    let (state, machine_id) = (agent.state(), agent.path.join("machine-id"));
    let mut running = Running::start_program(&program, &["run"], &state, &machine_id, &[]);
    world.until_synced(0).await;
    // As a package does it: a new file is renamed over the one that runs.
    let update = agent.path.join("dashfleet-agent.new");
    std::fs::copy(built, &update).unwrap();
    std::fs::rename(&update, &program).unwrap();
    let restart = task(1, ActionKind::Restart);
    world.queue(&restart);
    world.ring(&agent, Verb::New, &restart).await;
    let result = world.result(restart.action).await;
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:?}");
    assert!(running.child.try_wait().unwrap().is_none());
    let exe = std::fs::read_link(format!("/proc/{}/exe", running.child.id())).unwrap();
    assert_eq!(
        exe,
        program.canonicalize().unwrap(),
        "and not a deleted file"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_page_of_a_process_nothing_begins() {
    let world = World::new().await;
    let agent = world.enrol();
    world.owners().mute = true;
    let running = agent.start();
    world.until_synced(0).await;
    let ping = task(1, ActionKind::Ping);
    world.ring(&agent, Verb::New, &ping).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(agent.executed().is_empty(), "{}", running.said());
    world.queue(&ping);
    world.owners().mute = false;
    assert_eq!(world.result(ping.action).await.outcome, Outcome::Succeeded);
    // From now on a push is executed at once, and nobody is asked for it.
    let syncs = world.owners().syncs.len();
    let next = task(2, ActionKind::Ping);
    world.ring(&agent, Verb::New, &next).await;
    assert_eq!(world.result(next.action).await.outcome, Outcome::Succeeded);
    let asked = world.owners().syncs.len() - syncs;
    assert!(
        asked <= 1,
        "{asked} questions: at most the one that was due"
    );
}
