//! Invitations: what holds when one is opened, and what does not any more.

use std::time::Duration;

use contract::ProblemKind;
use contract::identity::{InvitationCancel, MemberInvite};
use domain::access::Role;
use sqlx::{Connection, PgConnection};
use testkit::Postgres;

use crate::world::{PASSWORD, World, kind};

#[tokio::test]
async fn an_inviter_who_is_less_while_the_password_is_hashed_invites_nobody() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (inviter, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let invite = MemberInvite {
        email: "ann@example.org".into(),
        role: Role::Admin,
    };
    let link = world.ask_as(&admin, invite).await.unwrap().link.unwrap();
    let url = Postgres::shared().await.admin_url(&world.database.name);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // Under way when the link is opened, and done before the person has joined.
    let mut demotion = connection.begin().await.unwrap();
    sqlx::query("UPDATE identity.memberships SET role = 'VIEWER' WHERE user_id = $1")
        .bind(inviter.0)
        .execute(&mut *demotion)
        .await
        .unwrap();
    let (opened, ()) = tokio::join!(world.accept(&link, PASSWORD), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        demotion.commit().await.unwrap();
    });
    assert_eq!(kind(opened), ProblemKind::Forbidden);
    let people = "SELECT count(*) FROM identity.users WHERE email = 'ann@example.org'";
    assert_eq!(world.count(people).await, 0);
}

#[tokio::test]
async fn an_owners_invitation_is_taken_back_and_replaced_by_owners_alone() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let invite = |role: Role| MemberInvite {
        email: "ann@example.org".into(),
        role,
    };
    let made = world.ask_as(&owner, invite(Role::Owner)).await.unwrap();
    let cancel = || InvitationCancel {
        invitation_id: made.invitation.id,
    };
    for refused in [
        world.ask_as(&admin, cancel()).await.err().unwrap(),
        world
            .ask_as(&admin, invite(Role::Viewer))
            .await
            .err()
            .unwrap(),
    ] {
        assert_eq!(refused.kind, ProblemKind::Forbidden);
        assert!(refused.detail.contains("OWNER"), "{}", refused.detail);
    }
    // The link works as before: nothing was changed. An OWNER changes it, and then it is anybody's.
    let link = made.link.clone().unwrap();
    let again = world.ask_as(&owner, invite(Role::Viewer)).await.unwrap();
    assert_eq!(again.invitation.id, made.invitation.id);
    assert!(world.accept(&link, PASSWORD).await.is_err());
    world.ask_as(&admin, invite(Role::Admin)).await.unwrap();
    world.ask_as(&admin, cancel()).await.unwrap();
    // One that has expired holds nobody back.
    world.ask_as(&owner, invite(Role::Owner)).await.unwrap();
    world
        .alter("UPDATE identity.invitations SET expires_at = now()")
        .await;
    let made = world.ask_as(&admin, invite(Role::Viewer)).await.unwrap();
    assert!(world.accept(&made.link.unwrap(), PASSWORD).await.is_ok());
}
