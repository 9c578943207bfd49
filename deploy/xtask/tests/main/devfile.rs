//! `dev.json`.

use launcher::devfile::{Devfile, pids};
use launcher::health::Probe;
use launcher::process::Identity;
use launcher::supervisor::record::Entry;
use launcher::supervisor::spec::Group;
use serde_json::json;

use crate::Scratch;

fn entry(kind: &str, group: Group, pid: Option<u32>) -> Entry {
    let identity = pid.map(|pid| Identity {
        pid,
        start: 1,
        boot: "boot".to_owned(),
    });
    Entry {
        name: kind.to_owned(),
        kind: kind.to_owned(),
        group,
        identity,
        since: 0,
        deaths: 0,
        port: None,
        probe: Probe::Alive,
    }
}

#[test]
fn pids_are_lists_for_services_and_numbers_for_the_rest() {
    let entries = [
        entry("postgres", Group::Postgres, Some(11)),
        entry("nats", Group::Nats, None),
        entry("action", Group::Service, Some(21)),
        entry("action", Group::Service, Some(22)),
        entry("scheduler", Group::Service, Some(23)),
        entry("worker", Group::Worker, Some(24)),
        entry("worker", Group::Worker, Some(25)),
        entry("metrics", Group::Service, None),
        entry("agent", Group::Agent, Some(31)),
    ];
    let expected = json!({
        "supervisor": 1, "postgres": 11, "nats": null, "action": [21, 22], "scheduler": [23], "worker": [24, 25],
        "metrics": [], "agent": 31
    });
    assert_eq!(serde_json::Value::Object(pids(1, &entries)), expected);
}

#[test]
fn it_has_the_promised_names_and_survives_a_round() {
    let scratch = Scratch::new();
    let path = scratch.join("dev.json");
    assert!(Devfile::read(&path).unwrap().is_none());
    let devfile = Devfile {
        url: "u".to_owned(),
        organization_id: "o".to_owned(),
        admin_email: "e".to_owned(),
        admin_password: "p".to_owned(),
        api_key: "k".to_owned(),
        legacy_api_key: "l".to_owned(),
        enrollment_token: "t".to_owned(),
        nats_url: "n".to_owned(),
        nats_websocket_url: "w".to_owned(),
        postgres_url: "d".to_owned(),
        machine_id: "m".to_owned(),
        gateway_urls: vec!["u".to_owned()],
        pids: pids(1, &[]),
    };
    assert!(!devfile.has(&"1".parse().unwrap()), "nothing runs");
    devfile.write(&path).unwrap();
    assert_eq!(Devfile::read(&path).unwrap(), Some(devfile));
    let text = std::fs::read_to_string(&path).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for name in [
        "url",
        "organizationId",
        "adminEmail",
        "adminPassword",
        "apiKey",
        "legacyApiKey",
        "enrollmentToken",
        "natsUrl",
        "natsWebsocketUrl",
        "postgresUrl",
        "machineId",
        "gatewayUrls",
        "pids",
    ] {
        assert!(value.get(name).is_some(), "{name} is missing in {text}");
    }
}
