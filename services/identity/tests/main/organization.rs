//! Organisations: made and closed by platform administrators, seen by whoever belongs to them.

use std::time::Duration;

use contract::event::Event;
use contract::identity::{
    Me, OrganizationClose, OrganizationCreate, OrganizationEdit, OrganizationGet, OrganizationList,
};
use contract::{Envelope, ProblemKind};
use domain::OrgId;
use domain::access::Role;
use futures::StreamExt;
use nkeys::KeyPair;

use crate::world::{API_KEY, EMAIL, PASSWORD, TOKEN, World, kind};

fn create(name: &str, key: Option<&str>) -> OrganizationCreate {
    OrganizationCreate {
        name: name.into(),
        idempotency_key: key.map(Into::into),
    }
}

fn list() -> OrganizationList {
    OrganizationList {
        limit: 50,
        cursor: None,
    }
}

fn get(org: OrgId) -> OrganizationGet {
    OrganizationGet {
        organization_id: org,
    }
}

fn rename(org: OrgId, name: &str) -> OrganizationEdit {
    OrganizationEdit {
        organization_id: org,
        name: Some(name.into()),
        legacy_enabled: None,
    }
}

#[tokio::test]
async fn only_platform_administrators_make_organisations_and_a_repetition_makes_none() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, second) = world.join(&owner, "two@example.org", Role::Owner).await;
    for credential in [API_KEY, &second] {
        let refused = world
            .ask_as(credential, create("x", None))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.kind, ProblemKind::Forbidden);
        assert!(
            refused.detail.contains("platform:admin"),
            "{}",
            refused.detail
        );
    }
    let refused = world.ask_as(&owner, create(" ", None)).await.err().unwrap();
    assert_eq!(refused.errors[0].path, "name");
    let made = world
        .ask_as(&owner, create("second", Some("k")))
        .await
        .unwrap();
    assert_eq!((made.role, made.closed_at), (Some(Role::Owner), None));
    let again = world
        .ask_as(&owner, create("second", Some("k")))
        .await
        .unwrap();
    assert_eq!(again, made);
    let other = world.ask_as(&owner, create("third", Some("k"))).await;
    assert_eq!(kind(other), ProblemKind::Conflict);
    assert_eq!(
        world
            .count("SELECT count(*) FROM identity.organizations")
            .await,
        2
    );
}

#[tokio::test]
async fn everybody_sees_their_own_organisations_and_platform_administrators_all() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, ann) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let (org, there) = world.organization("second").await;
    let ids = async |credential: &str| -> Vec<OrgId> {
        let page = world.ask_as(credential, list()).await.unwrap();
        page.items.iter().map(|item| item.id).collect()
    };
    assert_eq!(ids(&owner).await, [world.org, org]);
    assert_eq!(ids(&ann).await, [world.org]);
    assert_eq!(ids(API_KEY).await, [world.org]);
    let own = world.ask_as(&ann, get(world.org)).await.unwrap();
    assert_eq!(
        (own.name.as_str(), own.role),
        ("default", Some(Role::Viewer))
    );
    assert_eq!(world.ask_as(&owner, get(org)).await.unwrap().name, "second");
    for elsewhere in [org, OrgId::new()] {
        let words = "there is no such organisation that you belong to";
        let refused = world.ask_as(&ann, get(elsewhere)).await.err().unwrap();
        assert_eq!(
            (refused.kind, refused.detail.as_str()),
            (ProblemKind::NotFound, words)
        );
    }
    let first = OrganizationList {
        limit: 1,
        cursor: None,
    };
    let first = world.ask_as(&there, first).await.unwrap();
    let rest = OrganizationList {
        limit: 1,
        cursor: first.next_cursor,
    };
    let rest = world.ask_as(&there, rest).await.unwrap();
    assert_eq!((rest.items[0].id, rest.next_cursor), (org, None));
}

#[tokio::test]
async fn an_owner_renames_their_organisation_and_nobody_elses() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, two) = world.join(&owner, "two@example.org", Role::Owner).await;
    let (_, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let (org, _) = world.organization("second").await;
    let mut events = world
        .gateway
        .subscribe("df.evt.*.organization.updated")
        .await
        .unwrap();
    world.gateway.flush().await.unwrap();
    for credential in [&admin, API_KEY] {
        let refused = world.ask_as(credential, rename(world.org, "x")).await;
        assert_eq!(kind(refused), ProblemKind::Forbidden);
    }
    assert_eq!(
        kind(world.ask_as(&two, rename(org, "x")).await),
        ProblemKind::NotFound
    );
    for _ in 0..2 {
        let renamed = world
            .ask_as(&two, rename(world.org, "fleet"))
            .await
            .unwrap();
        assert_eq!(renamed.name, "fleet");
    }
    let message = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
    let event: Envelope<Event> =
        serde_json::from_slice(&message.unwrap().unwrap().payload).unwrap();
    assert_eq!(
        (event.body.verb.as_str(), event.body.org),
        ("updated", world.org)
    );
    let again = tokio::time::timeout(Duration::from_millis(700), events.next()).await;
    assert!(again.is_err(), "the same again is no change");
    assert_eq!(
        world.ask_as(&two, Me {}).await.unwrap().organization_name,
        "fleet"
    );
    // A platform administrator may, wherever they are.
    let enable = OrganizationEdit {
        organization_id: org,
        name: None,
        legacy_enabled: Some(true),
    };
    let enabled = world.ask_as(&owner, enable).await.unwrap();
    assert!(enabled.legacy_enabled && enabled.name == "second");
}

#[tokio::test]
async fn no_credential_of_a_closed_organisation_is_accepted() {
    let (world, _replica) = World::start().await;
    let (org, there) = world.organization("second").await;
    let owner = world.owner().await;
    let (_, two) = world.join(&owner, "two@example.org", Role::Owner).await;
    let close = |organization_id| OrganizationClose { organization_id };
    assert_eq!(
        kind(world.ask_as(&two, close(world.org)).await),
        ProblemKind::Forbidden
    );
    let mut events = world
        .gateway
        .subscribe("df.evt.*.organization.closed")
        .await
        .unwrap();
    world.gateway.flush().await.unwrap();
    let closed = world.ask_as(&there, close(world.org)).await.unwrap();
    assert!(closed.closed_at.is_some());
    let heard = tokio::time::timeout(Duration::from_secs(1), events.next()).await;
    assert!(heard.is_ok(), "gateways hear of it");
    let again = world.ask_as(&there, close(world.org)).await.unwrap();
    assert_eq!(again.closed_at, closed.closed_at);
    for credential in [&owner, &two, API_KEY] {
        let refused = world.exchange(credential).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Unauthenticated);
        assert_eq!(refused.detail, "this organisation is closed");
    }
    let refused = world
        .enroll(&KeyPair::new_user(), TOKEN)
        .await
        .err()
        .unwrap();
    assert!(refused.detail.contains("is closed"), "{}", refused.detail);
    let uses = "SELECT uses - uses_left FROM identity.enrollment_tokens";
    assert_eq!(world.count(&format!("SELECT ({uses})::bigint")).await, 0);
    // The login goes where it is open.
    let tokens = world.login(EMAIL, PASSWORD, "b").await.unwrap();
    let me = world.ask_as(&tokens.access_token, Me {}).await.unwrap();
    assert_eq!(me.organization_id, org);
    assert_eq!(
        kind(world.login("two@example.org", PASSWORD, "b").await),
        ProblemKind::Forbidden
    );
    let edit = world.ask_as(&there, rename(world.org, "x")).await;
    assert_eq!(kind(edit), ProblemKind::Conflict);
}
