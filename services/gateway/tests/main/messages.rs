//! Messages as owners send them, with every field set or with as few as there can be; and the promise that the
//! document tells the truth about both.

use contract::action::{Action, ActionBatch, ActionPage, ActionSummary};
use contract::agent::{
    ActionError, BatterySample, BatteryState, Bios, CollectorFault, CpuSample, DiskSample,
    Inventory, InventoryDisk, InventoryInterface, LoadSample, MemorySample, NetworkSample,
    ProcessSample, Sample, SwapSample, TemperatureSample, TopProcesses,
};
use contract::grant::PrincipalKind;
use contract::identity::{
    Challenged, Enroll, Enrolled, KeyStanding, LabelledMachine, MachineEdits, MachineLabel,
    MachineLabelled, Principal, Standing, StandingGet, Tokens,
};
use contract::metrics::{Machine, MachinePage, SamplePage, Transport, Trust};
use dashfleet_gateway::inbound::action::create::Create;
use dashfleet_gateway::inbound::auth::session::{CookieSession, Login, Refresh};
use dashfleet_gateway::inbound::machine::edit::Labelled;
use dashfleet_gateway::inbound::machine::release::Release;
use dashfleet_gateway::json::Documented;
use dashfleet_gateway::{document, shape};
use domain::access::{Role, Scopes};
use domain::action::{ActionKind, ActionStatus};
use domain::health::health;
use domain::machine::MachineStatus;
use domain::{ActionId, MachineId, OrgId, Timestamp};
use poem_openapi::types::Type;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

#[path = "messages/job.rs"]
mod job;
#[path = "messages/people.rs"]
mod people;

pub use job::{execution_ended, execution_summary, execution_waiting, job};

pub use people::{
    api_key, enrollment_token, invited, member, one_time_link, organization, session,
};

fn text(text: &str) -> String {
    text.to_owned()
}

fn time() -> Timestamp {
    "2026-01-09T23:52:38.548Z".parse().unwrap()
}

pub fn action_queued() -> Action {
    Action {
        id: ActionId::new(),
        machine_id: MachineId::new(),
        kind: ActionKind::Ping,
        status: ActionStatus::Queued,
        payload: json!({}),
        result: None,
        error: None,
        seq: 1,
        attempt: 1,
        idempotent: false,
        cancel_requested: false,
        late: false,
        not_after: time(),
        created_at: time(),
        delivered_at: None,
        started_at: None,
        finished_at: None,
    }
}

pub fn action_summary(machine_id: MachineId, kind: ActionKind) -> ActionSummary {
    ActionSummary {
        id: ActionId::new(),
        machine_id,
        kind,
        status: ActionStatus::Queued,
        seq: 7,
        not_after: time(),
        created_at: time(),
    }
}

pub fn action_ended() -> Action {
    Action {
        kind: ActionKind::Message,
        status: ActionStatus::Failed,
        payload: json!({ "title": "Tonight", "message": "Maintenance at ten." }),
        result: Some(json!({ "shownOn": ["tty1"], "depth": { "a": [1, null] } })),
        error: Some(ActionError {
            code: text("policy-denied"),
            message: text("the rule `kinds` forbids it"),
        }),
        delivered_at: Some(time()),
        started_at: Some(time()),
        finished_at: Some(time()),
        ..action_queued()
    }
}

pub fn sample() -> Sample {
    Sample {
        at: time(),
        cpu: CpuSample {
            percent: 12.5,
            cores: vec![10.0, 15.0],
        },
        load: Some(LoadSample {
            one: 0.1,
            five: 0.2,
            fifteen: 0.3,
        }),
        memory: MemorySample {
            total: 1 << 34,
            used: 1 << 33,
            available: 1 << 33,
            percent: 50.0,
        },
        swap: SwapSample { total: 0, used: 0 },
        disks: vec![DiskSample {
            mount: text("/"),
            file_system: text("ext4"),
            total: u64::MAX,
            used: 1,
            percent: 0.0,
            available: Some(1),
            read: Some(0.5),
            written: Some(1e6),
        }],
        networks: vec![NetworkSample {
            name: text("eth0"),
            received: 1.5,
            sent: 0.0,
            packets_received: Some(1.0),
            packets_sent: Some(2.0),
            receive_errors: Some(0.0),
            send_errors: Some(0.0),
            receive_drops: Some(0.1),
            send_drops: Some(0.0),
        }],
        uptime_seconds: 86_400,
        processes: 211,
        temperatures: vec![TemperatureSample {
            name: text("coretemp Core 0"),
            celsius: 41.5,
            critical: Some(100.0),
        }],
        batteries: vec![BatterySample {
            name: text("BAT0"),
            percent: 99.0,
            state: BatteryState::Idle,
        }],
        top_processes: Some(TopProcesses {
            by_cpu: vec![process()],
            by_memory: vec![process()],
        }),
        faults: vec![CollectorFault {
            collector: text("disks"),
            message: text("hangs: no answer for 5 s"),
        }],
    }
}

fn process() -> ProcessSample {
    ProcessSample {
        pid: 4_242,
        name: text("postgres"),
        cpu_percent: 12.5,
        memory: 1 << 30,
    }
}

pub fn machine() -> Machine {
    Machine {
        id: MachineId::new(),
        hostname: text("web-1"),
        display_name: Some(text("Web server 1")),
        notes: Some(text("rack 4\ndisk swapped")),
        status: MachineStatus::Online,
        status_reason: Some(text("connected")),
        transport: Transport::Nats,
        trust: Trust::Verified,
        labels: [(text("env"), text("prod"))].into(),
        inventory: Inventory {
            os: text("Debian GNU/Linux"),
            cpu_cores: 8,
            memory_total: 1 << 34,
            disks: vec![InventoryDisk {
                name: text("nvme0n1"),
                model: text("Disk 1"),
                size: 1 << 40,
            }],
            interfaces: vec![InventoryInterface {
                name: text("eth0"),
                mac: text("02:42:ac:11:00:02"),
                addresses: vec![text("172.17.0.2/16")],
            }],
            bios: Some(Bios {
                vendor: text("Vendor"),
                ..Bios::default()
            }),
            packages: Some(412),
            users: vec![text("ann")],
            ..Inventory::default()
        },
        health: Some(health(12.5, 50.0, 0.0)),
        latest_sample: Some(sample()),
        last_seen_at: Some(time()),
        enrolled_at: time(),
    }
}

fn machine_new() -> Machine {
    Machine {
        display_name: None,
        notes: None,
        status_reason: None,
        health: None,
        latest_sample: None,
        last_seen_at: None,
        ..machine()
    }
}

pub fn tokens() -> Tokens {
    Tokens {
        access_token: text("dfa_good"),
        refresh_token: text("dfr_good"),
        expires_in: 900,
    }
}

pub fn principal() -> Principal {
    Principal {
        id: Uuid::now_v7(),
        kind: PrincipalKind::ApiKey,
        email: None,
        name: text("ci"),
        organization_id: OrgId::new(),
        organization_name: text("default"),
        role: Role::Owner,
        scopes: Role::Owner.scopes(),
    }
}

pub fn challenged() -> Challenged {
    Challenged {
        challenge: text("opaque"),
        expires_at: time(),
        action_keys: vec![text("f0")],
    }
}

pub fn enrolled() -> Enrolled {
    Enrolled {
        organization_id: OrgId::new(),
        machine_id: MachineId::new(),
        deployment_id: Uuid::now_v7().into(),
        nats_urls: vec![text("nats://127.0.0.1:4222")],
        nats_ca: Some(text("-----BEGIN CERTIFICATE-----")),
        action_keys: vec![text("U…")],
    }
}

/// A message as it travels is what the document says, and the document has no field that is never sent.
pub fn documented<T: Documented + Serialize>(message: &T) {
    let mut value = serde_json::to_value(message).unwrap();
    let sent = value.clone();
    let errors = shape::check(
        &T::Schema::schema_ref(),
        document::registry(),
        true,
        &mut value,
    );
    assert!(errors.is_empty(), "{}: {errors:?}", T::Schema::name());
    assert_eq!(
        value,
        sent,
        "{}: a null is sent where the document says absent",
        T::Schema::name()
    );
}

#[test]
fn what_owners_send_is_what_the_document_says() {
    documented(&action_queued());
    documented(&action_ended());
    documented(&ActionPage {
        items: vec![action_ended()],
        next_cursor: Some(text("c")),
    });
    documented(&ActionPage {
        items: vec![],
        next_cursor: None,
    });
    documented(&ActionBatch {
        items: vec![action_summary(MachineId::new(), ActionKind::Reboot)],
    });
    documented(&ActionBatch { items: vec![] });
    documented(&CookieSession {
        csrf_token: text("0123"),
        expires_in: 900,
    });
    documented(&machine());
    documented(&machine_new());
    documented(&MachinePage {
        items: vec![machine_new(), machine()],
        next_cursor: Some(text("c")),
    });
    let labelled = [Some(7), None].map(|change| LabelledMachine {
        machine_id: MachineId::new(),
        change,
    });
    documented(&Labelled::from(MachineLabelled {
        items: labelled.into(),
    }));
    documented(&sample());
    documented(&SamplePage {
        items: vec![Sample {
            load: None,
            ..sample()
        }],
        next_cursor: None,
    });
    documented(&tokens());
    documented(&principal());
    documented(&Principal {
        email: Some(text("a@b")),
        kind: PrincipalKind::User,
        scopes: Scopes::default(),
        ..principal()
    });
    documented(&challenged());
    documented(&enrolled());
    for standing in [
        KeyStanding::Enrolled,
        KeyStanding::Quarantined,
        KeyStanding::Revoked,
        KeyStanding::Unknown,
    ] {
        documented(&Standing { standing });
    }
    documented(&Enrolled {
        nats_ca: None,
        ..enrolled()
    });
}

#[test]
fn every_state_and_word_is_in_the_document() {
    for status in ActionStatus::ALL {
        documented(&Action {
            status,
            ..action_queued()
        });
    }
    for kind in ActionKind::ALL {
        documented(&Action {
            kind,
            ..action_queued()
        });
    }
    for status in MachineStatus::ALL {
        documented(&Machine {
            status,
            ..machine()
        });
    }
    for (transport, trust) in [
        (Transport::Nats, Trust::Verified),
        (Transport::Http, Trust::Unverified),
    ] {
        documented(&Machine {
            transport,
            trust,
            ..machine()
        });
    }
    for (cpu, disk) in [(0.0, 0.0), (100.0, 0.0), (100.0, 100.0)] {
        documented(&Machine {
            health: Some(health(cpu, 0.0, disk)),
            ..machine()
        });
    }
    for role in Role::ALL {
        documented(&Principal {
            role,
            scopes: role.scopes(),
            ..principal()
        });
    }
    for kind in [
        PrincipalKind::User,
        PrincipalKind::ApiKey,
        PrincipalKind::Service,
        PrincipalKind::Module,
    ] {
        documented(&Principal {
            kind,
            ..principal()
        });
    }
}

fn taken<T: Documented + serde::de::DeserializeOwned>(body: serde_json::Value) {
    if let Err(refused) = dashfleet_gateway::json::decode::<T>(body.to_string().as_bytes()) {
        panic!("{}: {refused}", T::Schema::name());
    }
}

/// Whatever the document lets through, the message takes: else a client would get a message without a path.
#[test]
fn what_the_document_takes_is_what_the_messages_take() {
    taken::<Create>(json!({
        "machineId": "018F2F3E00007000800000000000000A", "kind": "ping", "payload": {}, "notAfter": null, "idempotent": null,
    }));
    taken::<Create>(json!({
        "machineId": Uuid::now_v7(), "kind": "reboot", "payload": { "any": [1, {}] },
        "notAfter": "2026-01-09T23:52:38+01:00", "idempotent": true,
    }));
    taken::<Create>(json!({
        "machineId": null, "selector": "env=prod,!legacy", "kind": "restart", "payload": {},
    }));
    taken::<MachineEdits>(json!({}));
    taken::<MachineEdits>(json!({ "displayName": null, "notes": null, "labels": null }));
    taken::<MachineEdits>(json!({
        "displayName": "x", "notes": "", "labels": { "env": "prod", "rack": null, "owner": "" },
    }));
    taken::<MachineLabel>(json!({ "machineIds": [Uuid::now_v7()], "labels": { "rack": null } }));
    taken::<MachineLabel>(json!({ "machineIds": null, "selector": "env", "labels": {} }));
    taken::<Release>(json!({}));
    for accept in [json!("KNOWN"), json!("NEW"), json!(null)] {
        taken::<Release>(json!({ "accept": accept }));
    }
    taken::<Login>(json!({ "email": "a@b", "password": "c" }));
    for session in [json!("TOKEN"), json!("COOKIE"), json!(null)] {
        taken::<Login>(json!({ "email": "a@b", "password": "c", "session": session }));
    }
    taken::<Login>(json!({ "email": "a@b", "password": "c", "organizationId": Uuid::now_v7() }));
    taken::<StandingGet>(
        json!({ "challenge": "c", "publicKey": "U", "signature": "s", "later": 1 }),
    );
    taken::<Refresh>(json!({ "refreshToken": "dfr_x" }));
    taken::<Refresh>(json!({}));
    let enrollment = json!({
        "token": "dfe_x", "challenge": "c", "publicKey": "U", "signature": "s", "hostname": "h",
        "inventory": { "os": "x", "cpuCores": 4_294_967_295_u32, "memoryTotal": u64::MAX, "later": 1 },
        "labels": { "env": "prod" }, "later": {},
    });
    taken::<Enroll>(enrollment);
    taken::<Enroll>(json!({
        "token": "dfe_x", "challenge": "c", "publicKey": "U", "signature": "s", "hostname": "h",
        "inventory": null, "labels": null,
    }));
    taken::<Enroll>(json!({
        "token": "dfe_x", "challenge": "c", "publicKey": "U", "signature": "s", "hostname": "h",
        "inventory": { "os": null },
    }));
}
