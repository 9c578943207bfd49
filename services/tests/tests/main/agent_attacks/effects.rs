//! What reaches a service as the machine's own word, and changes nothing but the machine's own.

use std::time::Duration;

use contract::agent::{
    CpuSample, Inventory, MemorySample, Sample, SampleBatch, Step, Stopping, SwapSample,
};
use contract::envelope::Answer;
use contract::order::{PAGE_PREFIX, Signed, SyncPage};
use contract::subject::Up;
use domain::action::Outcome;
use domain::{ActionId, JournalId, SessionId, Timestamp};
use serde_json::Value;

use super::fleet::{Fleet, Life, Machine};
use super::reports::{forged_reports, replayed_syncs, result};
use super::targets::reply_targets;
use super::witness::Witness;
use crate::main::hostile::Hostile;

/// What agents say, each with a body that is in order.
fn words(machine: &Machine, life: Life, action: ActionId) -> Vec<(Up, Vec<u8>)> {
    let at = Timestamp::now();
    let step = Step {
        action,
        attempt: 1,
        at,
    };
    vec![
        (Up::Sync, machine.says(&life.request(0))),
        (Up::Accepted, machine.says(&step)),
        (Up::Started, machine.says(&step)),
        (
            Up::Result,
            machine.says(&result(action, 1, Outcome::Succeeded)),
        ),
        (
            Up::Metrics,
            machine.says(&SampleBatch {
                samples: vec![sample(at)],
            }),
        ),
        (
            Up::Inventory,
            machine.says(&Inventory {
                os: "evil".into(),
                ..Inventory::default()
            }),
        ),
        (
            Up::Stopping,
            machine.says(&Stopping {
                session_id: life.session,
                reason: "evil".into(),
            }),
        ),
    ]
}

fn sample(at: Timestamp) -> Sample {
    Sample {
        at,
        cpu: CpuSample {
            percent: 1.0,
            cores: vec![1.0],
        },
        load: None,
        memory: MemorySample {
            total: 2,
            used: 1,
            available: 1,
            percent: 50.0,
        },
        swap: SwapSample { total: 0, used: 0 },
        disks: Vec::new(),
        networks: Vec::new(),
        uptime_seconds: 1,
        processes: 1,
        temperatures: Vec::new(),
        batteries: Vec::new(),
        top_processes: None,
        faults: Vec::new(),
    }
}

/// What the services know of a machine that only its own words can have told them.
async fn told(fleet: &Fleet, me: &Machine) -> Vec<Option<String>> {
    let id = me.id;
    let samples = format!("SELECT count(*)::text FROM metrics.samples WHERE machine_id = '{id}'");
    let machine = format!(
        "SELECT concat_ws('|', inventory, stopping_reason) FROM metrics.machines WHERE id = '{id}'"
    );
    let actions = format!(
        "SELECT string_agg(concat_ws('|', id, status, version), ' ' ORDER BY id) FROM action.actions WHERE machine_id = '{id}'"
    );
    vec![
        fleet.look("df_metrics_system", &samples).await,
        fleet.look("df_metrics_system", &machine).await,
        fleet.look("df_action_system", &actions).await,
    ]
}

fn new_life() -> Life {
    Life {
        journal: JournalId::new(),
        session: SessionId::new(),
        entries: 5,
    }
}

/// The machine's own word, answered in its own inbox.
pub async fn say(thief: &mut Hostile, me: &Machine, word: Up, body: &[u8]) -> Value {
    thief
        .request(&me.up(word), &format!("{}.answer", me.inbox()), body)
        .await
}

pub async fn sync(thief: &mut Hostile, me: &Machine, request: &[u8]) -> SyncPage {
    let answer = say(thief, me, Up::Sync, request).await;
    let answer: Answer<Signed> = serde_json::from_value(answer).unwrap();
    let signed = Result::from(answer).unwrap();
    serde_json::from_slice(signed.verify(PAGE_PREFIX, &me.action_keys).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_a_service_changes_nothing_but_the_machines_own() {
    let fleet = Fleet::start().await;
    let (me, peer, stranger) = (
        fleet.enroll(&fleet.ours).await,
        fleet.enroll(&fleet.ours).await,
        fleet.enroll(&fleet.theirs).await,
    );
    let mut thief = fleet.connect(&me).await;
    thief
        .subscribe(&format!("{}.answer", me.inbox()), None)
        .await;
    let life = new_life();
    let mut witnesses = vec![
        Witness::agent(&fleet, "myself", &me).await,
        Witness::agent(&fleet, "another machine", &peer).await,
        Witness::agent(&fleet, "another organisation's machine", &stranger).await,
    ];
    for user in [
        "gateway",
        "identity",
        "action",
        "metrics",
        "identity-sys",
        "metrics-sys",
    ] {
        witnesses.push(Witness::service(&fleet, user).await);
    }
    let page = sync(&mut thief, &me, &me.says(&life.request(0))).await;
    assert_eq!((page.org, page.machine), (me.org, me.id));
    let mine = fleet.action(&fleet.ours, &me).await;
    let (peers, strangers) = (
        fleet.action(&fleet.ours, &peer).await,
        fleet.action(&fleet.theirs, &stranger).await,
    );
    for action in [peers, strangers] {
        testkit::eventually("it is offered", Duration::from_secs(15), || async {
            let offered =
                format!("SELECT offered_at::text FROM action.actions WHERE id = '{action}'");
            fleet.look("df_action_system", &offered).await
        })
        .await;
    }
    let others = fleet.others(&me).await;

    let before = told(&fleet, &me).await;
    let forged = forged_replies(&mut thief, &me, &peer, &stranger, life, mine).await;
    assert_eq!(
        told(&fleet, &me).await,
        before,
        "a request with a forged reply is not heard"
    );
    let traced = traced(&mut thief, &me, &peer, &stranger).await;
    let reported = forged_reports(&fleet, &mut thief, &me, mine, &[peers, strangers]).await;
    let replayed = replayed_syncs(&fleet, &mut thief, &me, life).await;

    assert_eq!(
        fleet.others(&me).await,
        others,
        "something of somebody else's has changed"
    );
    for witness in &mut witnesses {
        witness.swears().await;
    }
    println!(
        "agent attacks: {forged} forged replies, {traced} forged traces, {reported} forged reports, {replayed} replayed or impossible syncs, all without effect"
    );
    assert!(forged + traced + reported + replayed >= 40);
}

/// Good requests, whose answer is wanted where it does not belong.
async fn forged_replies(
    thief: &mut Hostile,
    me: &Machine,
    peer: &Machine,
    stranger: &Machine,
    life: Life,
    mine: ActionId,
) -> usize {
    let targets = reply_targets(me, peer, stranger);
    let mut tried = 0;
    for (word, body) in words(me, life, mine) {
        for target in &targets {
            thief.publish(&me.up(word), Some(target), &body).await;
            tried += 1;
        }
    }
    thief.sync().await;
    // Of these the server knows by itself that they are no reply subjects.
    let refusals = thief.take_errors();
    let known = |refusal: &String| refusal.contains("Publish with Reply of \"$JS.ACK.");
    assert!(refusals.iter().all(known), "{refusals:#?}");
    // Each service has dropped the others when it answers the next of the same word. (Without a body: none is done.)
    for (word, _) in words(me, life, mine) {
        let answer = say(thief, me, word, b"{}").await;
        assert_eq!(answer["error"]["kind"], "INVALID", "{word:?}: {answer}");
    }
    // A word that is longer than an agent's words are, in whatever order it is.
    for (word, body) in words(me, life, mine) {
        let padding = vec![b' '; contract::agent::MESSAGE_MAX_BYTES];
        let answer = say(thief, me, word, &[body, padding].concat()).await;
        assert_eq!(answer["error"]["kind"], "TOO_LARGE", "{word:?}: {answer}");
        tried += 1;
    }
    tried
}

/// The server can tell by a message of its own where a message went: to whom, says a header of the sender's.
async fn traced(thief: &mut Hostile, me: &Machine, peer: &Machine, stranger: &Machine) -> usize {
    let targets = reply_targets(me, peer, stranger);
    for target in &targets {
        thief
            .publish_with_header(&me.up(Up::Metrics), ("Nats-Trace-Dest", target), b"{}")
            .await;
    }
    thief.sync().await;
    thief.take_errors();
    targets.len()
}
