//! Machines over HTTP: a report is a sample, presence is by time, the list says what they are.

use std::net::IpAddr;
use std::time::Duration;

use contract::identity::MachineRecord;
use contract::legacy::{
    LegacyBind, LegacyBinding, LegacyBound, LegacyFigures, LegacyFleet, LegacyFleetPage,
    LegacyReport, LegacyReported,
};
use contract::metrics::{MachineList, SampleList, Transport, Trust};
use contract::{Problem, ProblemKind};
use dashfleet_metrics::Timing;
use domain::access::{LEGACY_AGENT, LEGACY_OPERATOR, Scopes};
use domain::health::HealthStatus;
use domain::machine::MachineStatus;
use domain::network::block;
use domain::{CredentialId, MachineId, OrgId, Timestamp};
use serde_json::json;

use super::world::{Identity, PATIENCE, World, in_seconds};

/// What identity does with a machine that metrics does not know so.
pub fn bind(identity: &mut Identity, asked: &LegacyBind) -> Result<LegacyBound, Problem> {
    let (org, key) = identity.legacy.unwrap();
    let forbidden = || Problem::new(ProblemKind::Forbidden, "quarantined");
    identity.change += 1;
    let change = identity.change;
    let is_it = |record: &&mut MachineRecord| {
        let legacy = record.legacy.as_ref();
        legacy.is_some_and(|legacy| legacy.name == asked.name)
    };
    if let Some(record) = identity.machines.iter_mut().find(is_it) {
        let legacy = record.legacy.as_ref().unwrap();
        if legacy.block == block(asked.address) && record.quarantined_at.is_none() {
            return Ok(LegacyBound {
                machine_id: record.machine_id,
            });
        }
        record.change = change;
        record.quarantined_at = Some(Timestamp::now());
        return Err(forbidden());
    }
    let machine_id = MachineId::new();
    identity.machines.push(MachineRecord {
        change,
        org,
        machine_id,
        hostname: asked.name.clone(),
        display_name: None,
        notes: None,
        transport: Transport::Http,
        public_key: String::new(),
        legacy: Some(LegacyBinding {
            name: asked.name.clone(),
            key,
            block: block(asked.address),
        }),
        labels: Default::default(),
        inventory: Default::default(),
        enrolled_at: Timestamp::now(),
        revoked_at: None,
        quarantined_at: None,
        quarantine_reason: None,
        releases: 0,
    });
    Ok(LegacyBound { machine_id })
}

/// A key of these scopes, and what it asks.
struct Key<'a> {
    world: &'a World,
    grant: String,
}

impl<'a> Key<'a> {
    fn new(world: &'a World, scopes: &[&str]) -> Self {
        let credential = CredentialId::new();
        world.identity.lock().unwrap().legacy = Some((world.org, credential));
        Self::of(world, world.org, credential, scopes)
    }

    fn of(world: &'a World, org: OrgId, credential: CredentialId, scopes: &[&str]) -> Self {
        let mut grant = world.claims(org, domain::access::Role::Viewer);
        grant.scopes = Scopes::of_legacy_key(scopes.iter().copied()).unwrap();
        grant.credential = credential;
        Self {
            world,
            grant: world.sign(&grant),
        }
    }

    async fn report(
        &self,
        name: &str,
        address: &str,
        figures: LegacyFigures,
    ) -> Result<LegacyReported, Problem> {
        let address: IpAddr = address.parse().unwrap();
        let report = LegacyReport {
            name: name.to_owned(),
            address,
            figures,
        };
        let asked = &self.world.gateway;
        asked
            .gateway_call(&report, Some(&self.grant), PATIENCE)
            .await
    }

    async fn fleet(&self, after: Option<&str>, limit: u32) -> Result<LegacyFleetPage, Problem> {
        let fleet = LegacyFleet {
            after: after.map(ToOwned::to_owned),
            limit,
        };
        let asked = &self.world.gateway;
        asked
            .gateway_call(&fleet, Some(&self.grant), PATIENCE)
            .await
    }
}

const BOTH: [&str; 2] = [LEGACY_AGENT, LEGACY_OPERATOR];

fn figures(cpu: f64) -> LegacyFigures {
    LegacyFigures {
        cpu_percent: cpu,
        ram_percent: 40.0,
        disk_percent: 71.5,
        ram_used_gib: Some(2.0),
        ram_total_gib: Some(4.0),
        disk_used_gib: Some(10.0),
        disk_total_gib: Some(20.0),
        uptime_seconds: Some(61.9),
        uptime_hms: Some(json!("00:01:01")),
        ..LegacyFigures::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_a_sample_and_the_machine_is_shown_as_what_it_is() {
    let world = World::new().await;
    let key = Key::new(&world, &BOTH);
    let reported = key.report("web", "192.0.2.1", figures(75.0)).await.unwrap();
    assert_eq!(reported.org, world.org);
    let machine = world.machine(reported.machine_id).await;
    assert_eq!(
        (machine.transport, machine.trust),
        (Transport::Http, Trust::Unverified)
    );
    assert_eq!(
        (machine.hostname.as_str(), machine.status),
        ("web", MachineStatus::Online)
    );
    assert_eq!(machine.status_reason.as_deref(), Some("reports"));
    let health = machine.health.unwrap();
    assert_eq!((health.score, health.status), (81, HealthStatus::Ok));
    let sample = machine.latest_sample.unwrap();
    assert_eq!(
        (sample.memory.total, sample.memory.used),
        (4 << 30, 2 << 30)
    );
    assert_eq!((sample.disks[0].percent, sample.uptime_seconds), (71.5, 61));
    let listed = world.list(MachineList {
        limit: 10,
        ..MachineList::default()
    });
    assert_eq!(listed.await.items[0].transport, Transport::Http);
    // Each report is one.
    key.report("web", "192.0.2.77", figures(1.0)).await.unwrap();
    let samples = SampleList {
        machine_id: reported.machine_id,
        from: in_seconds(-60),
        to: in_seconds(60),
        limit: 10,
        cursor: None,
    };
    assert_eq!(world.ask(&samples).await.unwrap().items.len(), 2);

    let enrolled = world.enroll("db", &[]);
    world.mirrored().await;
    let enrolled = world.machine(enrolled.machine).await;
    assert_eq!(
        (enrolled.transport, enrolled.trust),
        (Transport::Nats, Trust::Verified)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_lists_what_reported_page_by_page() {
    let world = World::new().await;
    let key = Key::new(&world, &BOTH);
    for name in ["b", "c", "a"] {
        key.report(name, "192.0.2.1", figures(10.0)).await.unwrap();
    }
    let first = key.fleet(None, 2).await.unwrap();
    let names = |page: &LegacyFleetPage| -> Vec<String> {
        page.items.iter().map(|item| item.name.clone()).collect()
    };
    assert_eq!(
        (names(&first), first.next.as_deref()),
        (vec!["a".into(), "b".into()], Some("b"))
    );
    let second = key.fleet(Some("b"), 2).await.unwrap();
    assert_eq!((names(&second), second.next), (vec!["c".into()], None));
    let machine = &first.items[0];
    assert_eq!(
        (machine.client.as_str(), &machine.figures),
        ("192.0.2.1", &figures(10.0))
    );
    assert!((590..=600).contains(&machine.ttl_remaining_seconds));
    // Another organisation has none of them, and an enrolled machine is none of them.
    world.enroll("d", &[]);
    world.mirrored().await;
    let stranger = Key::of(&world, OrgId::new(), CredentialId::new(), &BOTH);
    assert!(stranger.fleet(None, 10).await.unwrap().items.is_empty());
    assert_eq!(key.fleet(None, 10).await.unwrap().items.len(), 3);
    assert_eq!(
        key.fleet(None, 0).await.unwrap_err().kind,
        ProblemKind::Invalid
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_by_time_and_a_report_brings_it_back() {
    let timing = Timing {
        http_ttl: Duration::from_secs(2),
        // Who has just begun to watch gives everybody this long.
        http_return: Duration::from_secs(2),
        ..Timing::default()
    };
    let world = World::with(timing, 2).await;
    let key = Key::new(&world, &BOTH);
    let mut events = world.hear("df.evt.*.machine.*").await;
    let machine = key
        .report("web", "192.0.2.1", figures(1.0))
        .await
        .unwrap()
        .machine_id;
    let came = events.event().await;
    assert_eq!(
        (came.verb.as_str(), &came.data["reason"]),
        ("online", &json!("reports"))
    );
    // Reports keep it there beyond its time, without an event each.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        key.report("web", "192.0.2.1", figures(1.0)).await.unwrap();
        assert_eq!(world.machine(machine).await.status, MachineStatus::Online);
    }
    let went = events.event().await;
    assert_eq!(
        (went.verb.as_str(), &went.data["reason"]),
        ("offline", &json!("no report"))
    );
    assert!(went.version > came.version);
    assert_eq!(world.machine(machine).await.status, MachineStatus::Offline);
    assert_eq!(
        key.fleet(None, 10).await.unwrap().items[0].ttl_remaining_seconds,
        0
    );
    key.report("web", "192.0.2.1", figures(1.0)).await.unwrap();
    assert_eq!(world.machine(machine).await.status, MachineStatus::Online);
    assert_eq!(events.event().await.verb, "online");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_ours_ends_nobodys_presence() {
    let timing = Timing {
        http_ttl: Duration::from_secs(4),
        outage: Duration::from_secs(3),
        http_return: Duration::from_secs(8),
        ..Timing::default()
    };
    let mut world = World::with(timing, 2).await;
    let credential = CredentialId::new();
    world.identity.lock().unwrap().legacy = Some((world.org, credential));
    let key = Key::of(&world, world.org, credential, &BOTH);
    let report = key.report("web", "192.0.2.1", figures(1.0)).await;
    let machine = report.unwrap().machine_id;
    let mut events = world.hear("df.evt.*.machine.*").await;
    world.told().await;
    world.metrics_stop().await;
    // Whatever it reports now is lost, for longer than a report lasts.
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.metrics_start();
    world.metrics_start();
    world.settle().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.machine(machine).await.status, MachineStatus::Online);
    let key = Key::of(&world, world.org, credential, &BOTH);
    key.report("web", "192.0.2.1", figures(1.0)).await.unwrap();
    // Silence after it is the machine's own, and takes it offline: the only event.
    loop {
        let event = events.event().await;
        match event.verb.as_str() {
            // The first report may have been told of late.
            "enrolled" | "online" => {}
            verb => {
                assert_eq!(
                    (verb, &event.data["reason"]),
                    ("offline", &json!("no report"))
                );
                break;
            }
        }
    }
    let changes = "SELECT count(*) FROM metrics.presence_changes";
    assert_eq!(world.count(changes).await, 2, "it came once and went once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_machine_elsewhere_does_not_end_its_presence() {
    let world = World::new().await;
    let key = Key::new(&world, &BOTH);
    let machine = key
        .report("web", "192.0.2.1", figures(1.0))
        .await
        .unwrap()
        .machine_id;
    world.machine_changes(machine, |record| record.releases = 1);
    world.mirrored().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(world.machine(machine).await.status, MachineStatus::Online);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_comes_otherwise_is_identitys_to_judge() {
    let world = World::new().await;
    let key = Key::new(&world, &BOTH);
    let machine = key
        .report("web", "192.0.2.1", figures(1.0))
        .await
        .unwrap()
        .machine_id;
    let moved = key
        .report("web", "198.51.100.1", figures(2.0))
        .await
        .unwrap_err();
    assert_eq!(moved.kind, ProblemKind::Forbidden);
    world.becomes(machine, MachineStatus::Quarantined).await;
    let there = key
        .report("web", "192.0.2.1", figures(3.0))
        .await
        .unwrap_err();
    assert_eq!(there.kind, ProblemKind::Forbidden);
    let sample = world.machine(machine).await.latest_sample.unwrap();
    assert_eq!(sample.cpu.percent, 1.0, "nothing of either was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_waits_while_its_machine_is_quarantined_or_revoked_is_not_taken() {
    let world = World::new().await;
    let key = Key::new(&world, &BOTH);
    let pools = world.database.pools("metrics");
    for standing in ["quarantined", "revoked"] {
        let busy = format!("busy-{standing}");
        let mut machines = Vec::new();
        for name in [standing, busy.as_str()] {
            let reported = key.report(name, "192.0.2.1", figures(1.0)).await.unwrap();
            machines.push(reported.machine_id);
        }
        let (machine, other) = (machines[0], machines[1]);
        // A commit hangs, and the next report gathers behind it: found good already, and not written yet.
        let mut held = pools.system().begin().await.unwrap();
        sqlx::query("SELECT 1 FROM metrics.latest WHERE machine_id = $1 FOR UPDATE")
            .bind(other.0)
            .execute(&mut *held)
            .await
            .unwrap();
        let hangs = key.report(&busy, "192.0.2.1", figures(2.0));
        let waits = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            key.report(standing, "192.0.2.1", figures(3.0)).await
        };
        let judged = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.machine_changes(machine, |record| match standing {
                "revoked" => record.revoked_at = Some(Timestamp::now()),
                _ => record.quarantined_at = Some(Timestamp::now()),
            });
            world.mirrored().await;
            held.rollback().await.unwrap();
        };
        let (hung, waited, ()) = tokio::join!(hangs, waits, judged);
        assert!(hung.is_ok(), "{hung:?}");
        assert_eq!(
            waited.unwrap_err().kind,
            ProblemKind::Forbidden,
            "{standing}"
        );
        let sample = world.machine(machine).await.latest_sample.unwrap();
        assert_eq!(sample.cpu.percent, 1.0, "{standing}: nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_and_scopes_hold_before_a_machine_is_made() {
    let world = World::new().await;
    let key = Key::new(&world, &[LEGACY_OPERATOR]);
    let refused = key
        .report("web", "192.0.2.1", figures(1.0))
        .await
        .unwrap_err();
    assert!(refused.kind == ProblemKind::Forbidden && refused.detail.contains(LEGACY_AGENT));
    let key = Key::new(&world, &[LEGACY_AGENT]);
    assert_eq!(
        key.fleet(None, 1).await.unwrap_err().kind,
        ProblemKind::Forbidden
    );
    for (name, cpu, path) in [
        ("web", 100.5, "report.cpu_percent"),
        ("web", -1.0, "report.cpu_percent"),
        ("a\nb", 1.0, "machine_id"),
    ] {
        let refused = key
            .report(name, "192.0.2.1", figures(cpu))
            .await
            .unwrap_err();
        assert_eq!(refused.kind, ProblemKind::Invalid);
        assert_eq!(refused.errors[0].path, path);
    }
    assert!(world.identity.lock().unwrap().machines.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_is_released_at_once_is_still_the_reason() {
    // Nobody looks between the quarantine and its release.
    let timing = Timing {
        tick: Duration::from_secs(3),
        ..Timing::default()
    };
    let world = World::with(timing, 1).await;
    let key = Key::new(&world, &BOTH);
    let report = key.report("web", "192.0.2.1", figures(1.0)).await;
    let machine = report.unwrap().machine_id;
    world.machine_changes(machine, |record| {
        record.quarantined_at = Some(Timestamp::now());
    });
    world.mirrored().await;
    world.machine_changes(machine, |record| record.quarantined_at = None);
    let found = world.becomes(machine, MachineStatus::Offline).await;
    assert_eq!(
        found.status_reason.as_deref(),
        Some("released; no report since")
    );
    let kept =
        "SELECT count(*) FROM metrics.presence_changes WHERE NOT online AND reason = 'quarantined'";
    assert_eq!(world.count(kept).await, 1);
    // With its next report it is there, and goes one day for the usual reason.
    key.report("web", "192.0.2.1", figures(2.0)).await.unwrap();
    world.becomes(machine, MachineStatus::Online).await;
    let noted = "SELECT count(*) FROM metrics.machines WHERE offline_reason IS NOT NULL";
    assert_eq!(world.count(noted).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_nobody_hears_any_more_is_offline_for_that_reason() {
    let world = World::with(Timing::default(), 2).await;
    let key = Key::new(&world, &BOTH);
    let mut events = world.hear("df.evt.*.machine.*").await;
    let now = || Some(Timestamp::now());
    for reason in ["quarantined", "revoked"] {
        let report = key.report(reason, "192.0.2.1", figures(1.0)).await;
        let machine = report.unwrap().machine_id;
        assert_eq!(events.event().await.verb, "online");
        world.machine_changes(machine, |record| match reason {
            "revoked" => record.revoked_at = now(),
            _ => record.quarantined_at = now(),
        });
        let went = events.event().await;
        assert_eq!(
            (went.verb.as_str(), &went.data["reason"]),
            ("offline", &json!(reason))
        );
        assert_eq!(went.subject_id, machine.0);
    }
}
