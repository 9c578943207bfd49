//! Refused attempts that no owner's hook sees: what the gateway refuses by itself, and credentials that are no longer good.

use std::net::IpAddr;

use contract::ProblemKind;
use contract::audit::{AuditOutcome, AuditRefused, TurnedAway};
use contract::identity::{
    ApiKeyCreate, KeyKind, Logout, MemberEdit, MemberInvite, OrganizationClose, PasswordChange,
};
use domain::access::Role;

use super::{of_call, viewer};
use crate::world::{PASSWORD, World, kind, login};

fn refused(count: u32) -> AuditRefused {
    AuditRefused {
        operation: "DELETE /api/v1/machines/{id}".into(),
        reason: TurnedAway::Network,
        count,
    }
}

#[tokio::test]
async fn what_the_gateway_refuses_is_told_under_the_callers_own_grant_and_folded() {
    let (world, replica) = World::start().await;
    let viewer = viewer(&world).await;
    // Whoever has the gateway's key and no credential tells nothing.
    assert_eq!(
        kind(world.ask(refused(1)).await),
        ProblemKind::Unauthenticated
    );
    for (wrong, path) in [
        (refused(0), "count"),
        (refused(100_001), "count"),
        (
            AuditRefused {
                operation: String::new(),
                ..refused(1)
            },
            "operation",
        ),
        (
            AuditRefused {
                operation: "GET /\u{e9}".into(),
                ..refused(1)
            },
            "operation",
        ),
        (
            AuditRefused {
                operation: "x".repeat(161),
                ..refused(1)
            },
            "operation",
        ),
    ] {
        let refused = world.ask_as(viewer, wrong).await.unwrap_err();
        assert_eq!(
            (refused.kind, refused.errors[0].path.as_str()),
            (ProblemKind::Invalid, path)
        );
    }
    let from: IpAddr = "198.51.100.7".parse().unwrap();
    bus::client::on_behalf_of(from, async {
        for _ in 0..20 {
            world.ask_as(viewer, refused(3)).await.unwrap();
        }
    })
    .await;
    let first = of_call(&world, "http.request", 1).await.remove(0).entry;
    assert_eq!((first.outcome, first.count), (AuditOutcome::Denied, 3));
    assert_eq!(first.org, world.org);
    assert_eq!(first.actor.name.as_deref(), Some("viewer"));
    assert_eq!(first.address, Some(from));
    assert_eq!(first.resource.kind, "operation");
    assert_eq!(
        first.resource.id.as_deref(),
        Some("DELETE /api/v1/machines/{id}")
    );
    assert_eq!(
        first.reason.as_deref(),
        Some("this key is not taken from this address")
    );
    replica.stop().await;
    let _replica = world.replica().await;
    let all = of_call(&world, "http.request", 2).await;
    assert_eq!(all.iter().map(|event| event.entry.count).sum::<u32>(), 60);
}

#[tokio::test]
async fn credentials_of_somebody_known_that_are_no_longer_good_are_told_of() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, session) = world.join(&owner, "ann@example.org", Role::Admin).await;
    let (_, ended) = world.join(&owner, "bob@example.org", Role::Viewer).await;
    let create = ApiKeyCreate {
        name: "ann's".into(),
        kind: KeyKind::Api,
        role: Some(Role::Viewer),
        scopes: None,
        networks: None,
        machine_cap: None,
        expires_at: None,
        idempotency_key: None,
    };
    let key = world.ask_as(&session, create).await.unwrap();
    // Ended by its person; disabled, and with that what the person made.
    world.ask_as(&ended, Logout {}).await.unwrap();
    world
        .alter("UPDATE identity.users SET disabled_at = now() WHERE email = 'ann@example.org'")
        .await;
    for credential in [&ended, &session, &key.key] {
        assert_eq!(
            kind(world.exchange(credential).await),
            ProblemKind::Unauthenticated
        );
    }
    // What only has to be refreshed is nobody's attempt.
    world
        .alter("UPDATE identity.sessions SET access_expires_at = now() WHERE revoked_at IS NULL")
        .await;
    assert_eq!(
        kind(world.exchange(&owner).await),
        ProblemKind::Unauthenticated
    );
    let told = of_call(&world, "grant.exchange", 3).await;
    let mut reasons: Vec<&str> = told
        .iter()
        .filter_map(|event| event.entry.reason.as_deref())
        .collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            "this account is disabled",
            "this session was ended; log in again",
            "whoever made this API key is no longer a member, or disabled",
        ]
    );
    let of_key = told
        .iter()
        .find(|event| event.entry.resource.kind == "api-key");
    let of_key = &of_key.unwrap().entry;
    assert_eq!(of_key.credential, Some(key.api_key.id));
    assert_eq!(of_key.actor.name.as_deref(), Some("ann's"));
    assert!(told.iter().all(|event| {
        event.entry.outcome == AuditOutcome::Denied && event.entry.org == world.org
    }));
}

#[tokio::test]
async fn a_credential_of_a_closed_organisation_is_told_there() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (there, session) = world.organization("second").await;
    let close = OrganizationClose {
        organization_id: there,
    };
    world.ask_as(&owner, close).await.unwrap();
    assert_eq!(
        kind(world.exchange(&session).await),
        ProblemKind::Unauthenticated
    );
    let told = format!(
        "SELECT count(*) FROM identity.audit_events WHERE org_id = '{there}' AND call = 'grant.exchange'
         AND outcome = 'DENIED' AND reason = 'this organisation is closed'"
    );
    testkit::eventually("it is told", crate::world::PATIENCE, || async {
        (world.count(&told).await == 1).then_some(())
    })
    .await;
    let mine = "SELECT count(*) FROM identity.audit_events WHERE call = 'grant.exchange'";
    assert_eq!(world.count(mine).await, 1, "and nowhere else");
}

#[tokio::test]
async fn guesses_that_come_by_another_way_than_the_login_are_told_too() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (there, elsewhere) = world.organization("second").await;
    let (inviter, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let (_, ann) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let invite = |email: &str| MemberInvite {
        email: email.into(),
        role: Role::Viewer,
    };
    // By an invitation of somebody else's organisation: told where the person is, and not there.
    let made = world.ask_as(&elsewhere, invite("ann@example.org")).await;
    let link = made.unwrap().link.unwrap();
    assert_eq!(
        kind(world.accept(&link, "wrong").await),
        ProblemKind::Unauthenticated
    );
    // By a change of the password.
    let change = PasswordChange {
        current_password: "wrong".into(),
        new_password: "a new and better password".into(),
    };
    assert_eq!(
        kind(world.ask_as(&ann, change).await),
        ProblemKind::Unauthenticated
    );
    // By naming an organisation that is not the person's: right, and wrong.
    for (password, address, refused) in [
        (PASSWORD, "10.0.0.1", ProblemKind::Forbidden),
        ("wrong", "10.0.0.2", ProblemKind::Unauthenticated),
    ] {
        let mut request = login("ann@example.org", password, address);
        request.organization_id = Some(there);
        assert_eq!(kind(world.ask(request).await), refused);
    }
    // By a link of somebody who may not invite any more.
    let made = world.ask_as(&admin, invite("new@example.org")).await;
    let link = made.unwrap().link.unwrap();
    let edit = MemberEdit {
        user_id: inviter,
        role: Role::Viewer,
    };
    world.ask_as(&owner, edit).await.unwrap();
    assert_eq!(
        kind(world.accept(&link, PASSWORD).await),
        ProblemKind::Forbidden
    );
    for (call, reason) in [
        ("auth.accept", "the password is wrong"),
        ("auth.accept", "whoever invited could not invite any more"),
        ("auth.password", "the current password is wrong"),
        (
            "auth.login",
            "this account does not belong to this organisation",
        ),
        ("auth.login", "the password is wrong"),
    ] {
        let told = format!(
            "SELECT count(*) FROM identity.audit_events WHERE org_id = '{}' AND call = '{call}'
             AND outcome = 'DENIED' AND reason = '{reason}'",
            world.org
        );
        testkit::eventually(reason, crate::world::PATIENCE, || async {
            (world.count(&told).await == 1).then_some(())
        })
        .await;
    }
    let told = format!(
        "SELECT count(*) FROM identity.audit_events WHERE org_id = '{there}' AND outcome = 'DENIED'"
    );
    assert_eq!(world.count(&told).await, 0, "nothing is told of a stranger");
}
