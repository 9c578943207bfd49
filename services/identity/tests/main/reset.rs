//! Links for a new password that an administrator made: worth no more than the administrator may do when they are used.

use contract::ProblemKind;
use contract::identity::{
    MemberEdit, MemberInvite, MemberRemove, MemberReset, PasswordChange, PasswordReset,
};
use domain::UserId;
use domain::access::Role;

use crate::world::{PASSWORD, PATIENCE, World, kind, secret_of};

const NEW: &str = "a new and better password";

async fn made(world: &World, by: &str, user: UserId) -> PasswordReset {
    let made = world.ask_as(by, MemberReset { user_id: user }).await;
    PasswordReset {
        token: secret_of(&made.unwrap().link.unwrap()),
        password: NEW.into(),
    }
}

async fn edit(world: &World, by: &str, user: UserId, role: Role) {
    let edit = MemberEdit {
        user_id: user,
        role,
    };
    world.ask_as(by, edit).await.unwrap();
}

#[tokio::test]
async fn a_link_is_worth_nothing_once_the_person_is_more_than_when_it_was_made() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, there) = world.organization("second").await;
    let (_, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let (ann, _) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let (bob, _) = world.join(&owner, "bob@example.org", Role::Viewer).await;
    let (cid, _) = world.join(&owner, "cid@example.org", Role::Viewer).await;
    let of_ann = made(&world, &admin, ann).await;
    let of_bob = made(&world, &admin, bob).await;
    let of_cid = made(&world, &admin, cid).await;

    // OWNER elsewhere, OWNER here, and only another role here: each is judged at the link's use.
    let invite = MemberInvite {
        email: "ann@example.org".into(),
        role: Role::Owner,
    };
    let link = world.ask_as(&there, invite).await.unwrap().link.unwrap();
    world.accept(&link, PASSWORD).await.unwrap();
    edit(&world, &owner, bob, Role::Owner).await;
    edit(&world, &owner, cid, Role::Operator).await;
    for (email, link) in [
        ("ann@example.org", of_ann),
        ("bob@example.org", of_bob),
        ("cid@example.org", of_cid),
    ] {
        let refused = world.ask(link).await.unwrap_err();
        assert_eq!(refused.kind, ProblemKind::Forbidden, "{email}");
        assert!(refused.detail.contains("outlived"), "{}", refused.detail);
        assert!(world.login(email, PASSWORD, email).await.is_ok(), "{email}");
    }
    let told = "SELECT count(*) FROM identity.audit_events
        WHERE call = 'auth.reset' AND outcome = 'DENIED' AND reason LIKE '%outlived%'";
    testkit::eventually("it is told", PATIENCE, || async {
        (world.count(told).await == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_link_is_worth_nothing_once_whoever_made_it_could_not_make_it() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, _) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let (one, first) = world.join(&owner, "one@example.org", Role::Admin).await;
    let (two, second) = world.join(&owner, "two@example.org", Role::Admin).await;
    let (_, third) = world.join(&owner, "three@example.org", Role::Admin).await;
    let links = [
        made(&world, &first, ann).await,
        made(&world, &second, ann).await,
    ];
    let good = made(&world, &third, ann).await;
    edit(&world, &owner, one, Role::Operator).await;
    let remove = MemberRemove { user_id: two };
    world.ask_as(&owner, remove).await.unwrap();
    for link in links {
        let refused = world.ask(link).await;
        assert_eq!(kind(refused), ProblemKind::Forbidden);
    }
    world.ask(good).await.unwrap();
    assert!(world.login("ann@example.org", NEW, "b").await.is_ok());
}

#[tokio::test]
async fn a_person_who_changes_the_password_is_rid_of_open_links() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let (ann, session) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let link = made(&world, &admin, ann).await;
    let own = "my own and better password";
    let change = PasswordChange {
        current_password: PASSWORD.into(),
        new_password: own.into(),
    };
    world.ask_as(&session, change).await.unwrap();
    assert_eq!(kind(world.ask(link).await), ProblemKind::Forbidden);
    assert!(world.login("ann@example.org", own, "b").await.is_ok());
}
