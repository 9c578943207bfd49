//! Invitations: what holds when one is opened, and what does not any more.

use std::time::Duration;

use contract::ProblemKind;
use contract::identity::MemberInvite;
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
