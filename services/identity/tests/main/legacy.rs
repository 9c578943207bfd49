//! Machines over HTTP: their keys, what they are bound to, and what a change of it does.

use std::net::IpAddr;

use contract::identity::{MachineChanges, MachineLabel, MachineRelease, MachineRevoke, Me};
use contract::legacy::{LegacyBind, LegacyBound};
use contract::metrics::Transport;
use contract::{Problem, ProblemKind};
use dashfleet_identity::config::BootstrapConfig;
use domain::MachineId;
use runtime::Reader;

use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, World};

const KEY: &str = "dfl_0123456789abcdefghijklmnop";
const SECOND_KEY: &str = "dfl_second0123456789abcdefgh";

/// A legacy key made as the bootstrap job makes it.
async fn legacy_key(world: &World, key: &str, networks: &str) -> Result<(), String> {
    let (url, system_url) = world.database_urls();
    let mut reader = Reader::from_pairs([
        ("DASHFLEET_DATABASE_URL", url),
        ("DASHFLEET_DATABASE_SYSTEM_URL", system_url),
        ("DASHFLEET_BOOTSTRAP_ORGANIZATION", "default".to_owned()),
        ("DASHFLEET_BOOTSTRAP_ADMIN_EMAIL", EMAIL.to_owned()),
        ("DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD", PASSWORD.to_owned()),
        ("DASHFLEET_BOOTSTRAP_LEGACY_API_KEY", key.to_owned()),
        ("DASHFLEET_BOOTSTRAP_LEGACY_NETWORKS", networks.to_owned()),
    ]);
    let config = BootstrapConfig::read(&mut reader).map_err(|error| error.to_string())?;
    let made = dashfleet_identity::app::bootstrap::ensure(&config).await;
    made.map(|_| ()).map_err(|error| error.to_string())
}

async fn bind_as(
    world: &World,
    key: &str,
    name: &str,
    address: &str,
    create: bool,
) -> Result<MachineId, Problem> {
    let grant = world.exchange(key).await?.grant;
    let address: IpAddr = address.parse().unwrap();
    let bind = LegacyBind {
        name: name.to_owned(),
        address,
        create,
    };
    let bound: LegacyBound = world
        .action
        .service_call(&bind, Some(&grant), PATIENCE)
        .await?;
    Ok(bound.machine_id)
}

async fn bind(world: &World, name: &str, address: &str) -> Result<MachineId, Problem> {
    bind_as(world, KEY, name, address, true).await
}

fn refused(result: Result<MachineId, Problem>, kind: ProblemKind, words: &str) {
    let problem = result.unwrap_err();
    assert_eq!(problem.kind, kind, "{problem}");
    assert!(problem.detail.contains(words), "{problem}");
}

async fn release(world: &World, machine: MachineId) {
    let release = MachineRelease {
        machine_id: machine,
    };
    world.ask_as(API_KEY, release).await.unwrap();
}

#[tokio::test]
async fn a_legacy_key_has_its_own_scopes_and_needs_an_organisation_that_takes_it() {
    let (world, _replica) = World::start().await;
    assert!(world.exchange(KEY).await.is_err());
    legacy_key(&world, KEY, "10.0.0.0/8, 192.0.2.7")
        .await
        .unwrap();
    let exchanged = world.exchange(KEY).await.unwrap();
    assert!(exchanged.legacy);
    assert_eq!(exchanged.networks.unwrap(), ["10.0.0.0/8", "192.0.2.7"]);
    assert!(!world.exchange(API_KEY).await.unwrap().legacy);
    let me = world.ask_as(KEY, Me {}).await.unwrap();
    let scopes: Vec<_> = me.scopes.names().collect();
    assert_eq!(scopes, ["legacy:agent", "legacy:operator"]);
    // It reaches nothing else.
    let revoke = MachineRevoke {
        machine_id: MachineId::new(),
    };
    let problem = world.ask_as(KEY, revoke).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Forbidden);

    for (change, words) in [
        (
            "UPDATE identity.organizations SET legacy_enabled = false",
            "not enabled",
        ),
        (
            "UPDATE identity.api_keys SET expires_at = now() WHERE kind = 'LEGACY'",
            "expired",
        ),
    ] {
        world.alter(change).await;
        let problem = world.exchange(KEY).await.err().unwrap();
        assert_eq!(problem.kind, ProblemKind::Unauthenticated);
        assert!(problem.detail.contains(words), "{problem}");
        world
            .alter("UPDATE identity.organizations SET legacy_enabled = true")
            .await;
    }
    let wrong = legacy_key(&world, SECOND_KEY, "ten").await.unwrap_err();
    assert!(
        wrong.contains("DASHFLEET_BOOTSTRAP_LEGACY_NETWORKS"),
        "{wrong}"
    );
}

#[tokio::test]
async fn a_new_organisation_takes_no_legacy_keys() {
    let (world, _replica) = World::start().await;
    let enabled = "SELECT count(*) FROM identity.organizations WHERE legacy_enabled";
    assert_eq!(world.count(enabled).await, 0);
    legacy_key(&world, KEY, "").await.unwrap();
    assert_eq!(world.count(enabled).await, 1);
}

#[tokio::test]
async fn a_machine_is_bound_at_its_first_report_and_travels_in_the_feed() {
    let (world, _replica) = World::start().await;
    legacy_key(&world, KEY, "").await.unwrap();
    refused(
        bind_as(&world, KEY, "web", "192.0.2.1", false).await,
        ProblemKind::NotFound,
        "machine",
    );
    let machine = bind(&world, "web", "192.0.2.1").await.unwrap();
    // The same, from elsewhere in its block, and asked without making one.
    assert_eq!(bind(&world, "web", "192.0.2.200").await.unwrap(), machine);
    assert_eq!(
        bind_as(&world, KEY, "web", "::ffff:192.0.2.9", false)
            .await
            .unwrap(),
        machine
    );
    let feed = MachineChanges {
        after: 0,
        limit: 10,
    };
    let page = world
        .action
        .service_call(&feed, None, PATIENCE)
        .await
        .unwrap();
    let [record] = page.items.as_slice() else {
        panic!("{page:?}");
    };
    assert_eq!(
        (record.machine_id, record.transport),
        (machine, Transport::Http)
    );
    let legacy = record.legacy.as_ref().unwrap();
    assert_eq!(
        (legacy.name.as_str(), legacy.block.as_str()),
        ("web", "192.0.2.0/24")
    );
    assert!(record.public_key.is_empty() && record.hostname == "web");
    let events = "SELECT count(*) FROM identity.machines WHERE transport = 'HTTP'";
    assert_eq!(world.count(events).await, 1);
    refused(
        bind(&world, "", "192.0.2.1").await,
        ProblemKind::Invalid,
        "machine_id",
    );
}

#[tokio::test]
async fn reports_at_once_make_one_machine() {
    let (world, _replica) = World::start().await;
    legacy_key(&world, KEY, "").await.unwrap();
    let all = futures::future::join_all((0..16).map(|_| bind(&world, "web", "192.0.2.1"))).await;
    let first = all[0].clone().unwrap();
    assert!(all.into_iter().all(|bound| bound.unwrap() == first));
}

#[tokio::test]
async fn a_name_never_leads_to_an_enrolled_machine() {
    let (world, _replica) = World::start().await;
    legacy_key(&world, KEY, "").await.unwrap();
    // Its hostname is `web-1`.
    let (_, enrolled) = world.machine().await;
    for name in ["web-1".to_owned(), enrolled.machine_id.to_string()] {
        let machine = bind(&world, &name, "192.0.2.1").await.unwrap();
        assert_ne!(machine, enrolled.machine_id);
    }
}

#[tokio::test]
async fn another_address_or_key_quarantines_until_an_operator_releases() {
    let (world, _replica) = World::start().await;
    legacy_key(&world, KEY, "").await.unwrap();
    legacy_key(&world, SECOND_KEY, "").await.unwrap();
    let machine = bind(&world, "web", "192.0.2.1").await.unwrap();
    refused(
        bind(&world, "web", "198.51.100.1").await,
        ProblemKind::Forbidden,
        "quarantined",
    );
    // Nobody speaks for it now: neither whom it was bound to nor whom it may be bound to.
    for address in ["192.0.2.1", "198.51.100.1", "203.0.113.1"] {
        refused(
            bind(&world, "web", address).await,
            ProblemKind::Forbidden,
            "quarantined",
        );
    }
    let reason = "SELECT count(*) FROM identity.machines
        WHERE quarantine_reason = 'reports came from 198.51.100.0/24 instead of 192.0.2.0/24'";
    assert_eq!(world.count(reason).await, 1);
    release(&world, machine).await;
    // The operator confirmed what had quarantined it, and nothing that came after.
    assert_eq!(bind(&world, "web", "198.51.100.77").await.unwrap(), machine);
    refused(
        bind_as(&world, SECOND_KEY, "web", "198.51.100.77", true).await,
        ProblemKind::Forbidden,
        "quarantined",
    );
    release(&world, machine).await;
    let bound = bind_as(&world, SECOND_KEY, "web", "198.51.100.77", true).await;
    assert_eq!(bound.unwrap(), machine);
    // Revoked is for ever, also for a name.
    let revoke = MachineRevoke {
        machine_id: machine,
    };
    world.ask_as(API_KEY, revoke).await.unwrap();
    let again = bind_as(&world, SECOND_KEY, "web", "198.51.100.77", true).await;
    refused(again, ProblemKind::Forbidden, "revoked");
}

#[tokio::test]
async fn a_machine_over_http_takes_labels_and_keeps_them_whatever_it_reports() {
    let (world, _replica) = World::start().await;
    legacy_key(&world, KEY, "").await.unwrap();
    let machine = bind(&world, "web", "192.0.2.1").await.unwrap();
    let label = MachineLabel {
        machine_ids: Some(vec![machine]),
        selector: None,
        labels: [("env".to_owned(), Some("prod".to_owned()))].into(),
    };
    let labelled = world.ask_as(API_KEY, label.clone()).await.unwrap();
    assert!(labelled.items[0].change.is_some());
    assert_eq!(bind(&world, "web", "192.0.2.9").await.unwrap(), machine);
    // An agent's key edits nothing.
    let problem = world.ask_as(KEY, label).await.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Forbidden);
    let changes = MachineChanges { after: 0, limit: 9 };
    let page = world.action.service_call(&changes, None, PATIENCE).await;
    let record = page.unwrap().items.remove(0);
    assert_eq!(record.transport, Transport::Http);
    assert_eq!(record.labels.get("env").map(String::as_str), Some("prod"));
}

#[tokio::test]
async fn a_key_has_room_for_so_many_machines() {
    let (world, _replica) = World::start().await;
    legacy_key(&world, KEY, "").await.unwrap();
    world
        .alter("UPDATE identity.api_keys SET machine_cap = 2 WHERE kind = 'LEGACY'")
        .await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let bound = names.map(|name| bind(&world, name, "192.0.2.1"));
    let bound = futures::future::join_all(bound).await;
    assert_eq!(
        bound.iter().filter(|bound| bound.is_ok()).count(),
        2,
        "{bound:?}"
    );
    let full = bound.into_iter().find(Result::is_err).unwrap();
    refused(full, ProblemKind::Forbidden, "as many machines");
}

#[tokio::test]
async fn only_services_bind_and_only_with_an_agents_scope() {
    let (world, _replica) = World::start().await;
    legacy_key(&world, KEY, "").await.unwrap();
    world
        .alter("UPDATE identity.api_keys SET scopes = '{legacy:operator}' WHERE kind = 'LEGACY'")
        .await;
    refused(
        bind(&world, "web", "192.0.2.1").await,
        ProblemKind::Forbidden,
        "legacy:agent",
    );
    refused(
        bind_as(&world, API_KEY, "web", "192.0.2.1", true).await,
        ProblemKind::Forbidden,
        "legacy:agent",
    );
}
