//! What a selector chooses, for a service that acts for a user: page by page, and never more than the user may see.

use std::time::Duration;

use bus::Bus;
use contract::ProblemKind;
use contract::metrics::{MachineSelect, MachineSelection, SELECT_LIMIT_MAX};
use domain::access::{Role, Scopes};
use domain::{MachineId, OrgId};

use crate::main::world::{World, in_seconds};

const PATIENCE: Duration = Duration::from_secs(5);

fn by(selector: &str, limit: u32) -> MachineSelect {
    MachineSelect {
        selector: selector.into(),
        limit,
        cursor: None,
    }
}

async fn select(
    world: &World,
    action: &Bus,
    request: &MachineSelect,
) -> Result<MachineSelection, contract::Problem> {
    let grant = world.grant(world.org, Role::Viewer);
    action.service_call(request, Some(&grant), PATIENCE).await
}

/// All pages: the machines, and how many pages there were.
async fn chosen(world: &World, action: &Bus, selector: &str, limit: u32) -> (Vec<MachineId>, u32) {
    let mut request = by(selector, limit);
    let (mut machines, mut pages) = (Vec::new(), 0);
    loop {
        let page = select(world, action, &request).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        machines.extend(page.items);
        pages += 1;
        request.cursor = page.next_cursor;
        if request.cursor.is_none() {
            return (machines, pages);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_join_in_the_order_of_ids_without_the_revoked_and_other_organisations() {
    let world = World::new().await;
    let action = world.nats.bus("action").await;
    let mut prod: Vec<MachineId> = (0..7)
        .map(|n| {
            let labels = [("env", "prod"), ("n", if n < 3 { "few" } else { "many" })];
            world.enroll(&format!("web-{n}"), &labels).machine
        })
        .collect();
    let test = world.enroll("test", &[("env", "test")]).machine;
    world.enroll_in(OrgId::new(), "theirs", &[("env", "prod")]);
    let revoked = prod.remove(2);
    let quarantined = prod[0];
    world.machine_changes(revoked, |record| record.revoked_at = Some(in_seconds(0)));
    world.machine_changes(quarantined, |record| {
        record.quarantined_at = Some(in_seconds(0));
    });
    world.mirrored().await;
    prod.sort_unstable();
    for (limit, pages) in [(1, 6), (2, 3), (4, 2), (6, 1), (SELECT_LIMIT_MAX, 1)] {
        assert_eq!(
            chosen(&world, &action, "env=prod", limit).await,
            (prod.clone(), pages),
            "in pages of {limit}"
        );
    }
    for (selector, expected) in [
        ("env=prod,n=few", 2),
        ("env=prod,n!=few", 4),
        ("!n", 1),
        ("env", 7),
        ("", 7),
        ("env=prod,env=test", 0),
        ("rack", 0),
    ] {
        let (machines, _) = chosen(&world, &action, selector, 3).await;
        assert_eq!(machines.len(), expected, "{selector}");
    }
    assert_eq!(
        chosen(&world, &action, "env!=prod", 3).await,
        (vec![test], 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_grant_decides_and_not_the_service_that_asks() {
    let world = World::new().await;
    let action = world.nats.bus("action").await;
    world.enroll("web-1", &[("env", "prod")]);
    world.mirrored().await;
    let request = by("env=prod", 10);
    let mut claims = world.claims(world.org, Role::Owner);
    claims.scopes = Scopes::from_names(["actions:write"]).unwrap();
    let blind = world.sign(&claims);
    claims.scopes = Role::Owner.scopes();
    claims.aud = vec!["action".into()];
    let foreign = world.sign(&claims);
    for (token, kind) in [
        (None, ProblemKind::Unauthenticated),
        (Some(blind.as_str()), ProblemKind::Forbidden),
        (Some(foreign.as_str()), ProblemKind::Unauthenticated),
        (Some("a.b.c"), ProblemKind::Unauthenticated),
    ] {
        let refused = action.service_call(&request, token, PATIENCE).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, kind, "{refused}");
        if kind == ProblemKind::Forbidden {
            assert!(refused.detail.contains("machines:read"), "{refused}");
        }
    }
    // The organisation is the grant's.
    let stranger = world.grant(OrgId::new(), Role::Owner);
    let theirs = action
        .service_call(&request, Some(&stranger), PATIENCE)
        .await
        .unwrap();
    assert!(theirs.items.is_empty());
    // It is for services: the gateway has no subject for it.
    let grant = world.grant(world.org, Role::Owner);
    let asked = world
        .gateway
        .gateway_call(&request, Some(&grant), Duration::from_secs(1))
        .await;
    assert_eq!(asked.unwrap_err().kind, ProblemKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_are_refused_with_the_field() {
    let world = World::new().await;
    let action = world.nats.bus("action").await;
    for (path, request) in [
        ("selector", by("a b", 10)),
        ("selector", by("=x", 10)),
        ("limit", by("env=prod", 0)),
        ("limit", by("env=prod", SELECT_LIMIT_MAX + 1)),
    ] {
        let problem = select(&world, &action, &request).await.unwrap_err();
        assert_eq!(
            (problem.kind, problem.errors[0].path.as_str()),
            (ProblemKind::Invalid, path),
            "{request:?}"
        );
    }
}
