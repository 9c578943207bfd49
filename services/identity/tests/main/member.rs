//! The people of an organisation: who may say what about whom, and what ends when somebody leaves.

use std::time::Duration;

use contract::event::Event;
use contract::identity::{
    ApiKeyCreate, InvitationCancel, InvitationList, KeyKind, Me, MemberEdit, MemberGet,
    MemberInvite, MemberList, MemberRemove, MemberReset,
};
use contract::{Envelope, Problem, ProblemKind};
use domain::UserId;
use domain::access::Role;
use futures::StreamExt;

use crate::world::{API_KEY, EMAIL, PASSWORD, World, kind};

fn invite(email: &str, role: Role) -> MemberInvite {
    MemberInvite {
        email: email.into(),
        role,
    }
}

fn edit(user_id: UserId, role: Role) -> MemberEdit {
    MemberEdit { user_id, role }
}

fn remove(user_id: UserId) -> MemberRemove {
    MemberRemove { user_id }
}

fn list() -> MemberList {
    MemberList {
        limit: 50,
        cursor: None,
    }
}

async fn id(world: &World, credential: &str) -> UserId {
    UserId(world.ask_as(credential, Me {}).await.unwrap().id)
}

#[tokio::test]
async fn an_invited_person_joins_once_and_is_a_member() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let made = world
        .ask_as(&owner, invite(" Ann@Example.org ", Role::Operator))
        .await
        .unwrap();
    let link = made.link.unwrap();
    assert_eq!(made.invitation.email, "ann@example.org");
    assert!(link.starts_with("/invitation#dfi_") && !made.invitation.mail_pending);
    let weak = world.accept(&link, "ann@example.org").await.err().unwrap();
    assert_eq!(weak.errors[0].path, "password");
    let (a, b) = tokio::join!(world.accept(&link, PASSWORD), world.accept(&link, PASSWORD));
    assert!(a.is_ok() != b.is_ok(), "the link works once");
    let tokens = a.or(b).unwrap();
    let me = world.ask_as(&tokens.access_token, Me {}).await.unwrap();
    assert_eq!(
        (me.email.as_deref(), me.name.as_str()),
        (Some("ann@example.org"), "ann")
    );
    assert_eq!((me.organization_id, me.role), (world.org, Role::Operator));
    assert_eq!(
        kind(world.accept(&link, PASSWORD).await),
        ProblemKind::Forbidden
    );
    let page = world.ask_as(&tokens.access_token, list()).await.unwrap();
    let emails: Vec<&str> = page.items.iter().map(|item| item.email.as_str()).collect();
    assert_eq!(emails, [EMAIL, "ann@example.org"]);
    let get = MemberGet {
        user_id: UserId(me.id),
    };
    assert_eq!(world.ask_as(API_KEY, get).await.unwrap(), page.items[1]);
    let again = world
        .ask_as(&owner, invite("ann@example.org", Role::Viewer))
        .await;
    assert_eq!(kind(again), ProblemKind::Conflict);
}

#[tokio::test]
async fn inviting_again_voids_the_link_before_and_so_does_taking_back() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let link = async |role| {
        let made = world
            .ask_as(&owner, invite("ann@example.org", role))
            .await
            .unwrap();
        (made.link.unwrap(), made.invitation.id)
    };
    let (first, _) = link(Role::Owner).await;
    let (second, id) = link(Role::Viewer).await;
    assert_eq!(
        kind(world.accept(&first, PASSWORD).await),
        ProblemKind::Forbidden
    );
    let all = InvitationList {
        limit: 50,
        cursor: None,
    };
    let page = world.ask_as(&owner, all.clone()).await.unwrap();
    assert_eq!((page.items.len(), page.items[0].role), (1, Role::Viewer));
    let cancel = InvitationCancel { invitation_id: id };
    world.ask_as(&owner, cancel.clone()).await.unwrap();
    assert_eq!(
        kind(world.ask_as(&owner, cancel).await),
        ProblemKind::NotFound
    );
    assert_eq!(
        kind(world.accept(&second, PASSWORD).await),
        ProblemKind::Forbidden
    );
    assert!(world.ask_as(&owner, all).await.unwrap().items.is_empty());
    let (third, _) = link(Role::Viewer).await;
    world
        .alter("UPDATE identity.invitations SET expires_at = now()")
        .await;
    assert_eq!(
        kind(world.accept(&third, PASSWORD).await),
        ProblemKind::Forbidden
    );
}

#[tokio::test]
async fn who_has_an_account_joins_with_its_password_and_keeps_it() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, at_home) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let (org, there) = world.organization("second").await;
    let made = world
        .ask_as(&there, invite("ann@example.org", Role::Admin))
        .await
        .unwrap();
    let link = made.link.unwrap();
    let wrong = world.accept(&link, "another password of mine").await;
    assert_eq!(kind(wrong), ProblemKind::Unauthenticated);
    let tokens = world.accept(&link, PASSWORD).await.unwrap();
    let me = world.ask_as(&tokens.access_token, Me {}).await.unwrap();
    assert_eq!(
        (UserId(me.id), me.organization_id, me.role),
        (ann, org, Role::Admin)
    );
    assert!(world.exchange(&at_home).await.is_ok());
    // What one is in one organisation says nothing about the other.
    let refused = world
        .ask_as(&at_home, invite("x@example.org", Role::Viewer))
        .await;
    assert_eq!(kind(refused), ProblemKind::Forbidden);
}

#[tokio::test]
async fn an_invitation_is_worth_what_its_inviter_is_now() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (admin, session) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let made = world
        .ask_as(&session, invite("ann@example.org", Role::Admin))
        .await
        .unwrap();
    world
        .ask_as(&owner, edit(admin, Role::Operator))
        .await
        .unwrap();
    let link = made.link.unwrap();
    assert_eq!(
        kind(world.accept(&link, PASSWORD).await),
        ProblemKind::Forbidden
    );
    world
        .ask_as(&owner, edit(admin, Role::Admin))
        .await
        .unwrap();
    assert!(world.accept(&link, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn nobody_gives_more_than_they_have_or_touches_whom_is_above() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let boss = id(&world, &owner).await;
    let (ann, viewer) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let (peer, _) = world.join(&owner, "peer@example.org", Role::Admin).await;
    let (_, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let refusals = [
        world
            .ask_as(&admin, invite("x@example.org", Role::Owner))
            .await
            .err(),
        world.ask_as(&admin, edit(ann, Role::Owner)).await.err(),
        world.ask_as(&admin, edit(boss, Role::Viewer)).await.err(),
        world.ask_as(&admin, remove(boss)).await.err(),
        world
            .ask_as(&admin, MemberReset { user_id: boss })
            .await
            .err(),
        world.ask_as(&viewer, edit(ann, Role::Admin)).await.err(),
        world.ask_as(&viewer, list()).await.err(),
        world.ask_as(&viewer, remove(peer)).await.err(),
        world
            .ask_as(API_KEY, invite("x@example.org", Role::Viewer))
            .await
            .err(),
        world.ask_as(API_KEY, edit(ann, Role::Operator)).await.err(),
        world.ask_as(API_KEY, remove(ann)).await.err(),
    ];
    for (index, refused) in refusals.into_iter().enumerate() {
        assert_eq!(
            refused.unwrap().kind,
            ProblemKind::Forbidden,
            "refusal {index}"
        );
    }
    let edited = world.ask_as(&admin, edit(ann, Role::Admin)).await.unwrap();
    assert_eq!(edited.role, Role::Admin);
    world.ask_as(&admin, remove(peer)).await.unwrap();
}

#[tokio::test]
async fn another_organisations_people_are_nowhere() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, _) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let (_, there) = world.organization("second").await;
    for user in [ann, UserId::new()] {
        let words = Problem::not_found("user");
        let get = MemberGet { user_id: user };
        assert_eq!(world.ask_as(&there, get).await.err().unwrap(), words);
        let edited = world.ask_as(&there, edit(user, Role::Viewer)).await;
        assert_eq!(edited.err().unwrap(), words);
        assert_eq!(
            world.ask_as(&there, remove(user)).await.err().unwrap(),
            words
        );
        let reset = MemberReset { user_id: user };
        assert_eq!(world.ask_as(&there, reset).await.err().unwrap(), words);
    }
    assert_eq!(world.ask_as(&there, list()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn the_last_owner_stays_whoever_asks_and_however_many_at_once() {
    let (world, _replica) = World::start().await;
    let _second_replica = world.replica().await;
    let owner = world.owner().await;
    let boss = id(&world, &owner).await;
    for refused in [
        world.ask_as(&owner, remove(boss)).await.err(),
        world.ask_as(&owner, edit(boss, Role::Admin)).await.err(),
    ] {
        let refused = refused.unwrap();
        assert_eq!(refused.kind, ProblemKind::Conflict);
        assert!(refused.detail.contains("last OWNER"), "{}", refused.detail);
    }
    for round in 0..5 {
        let email = format!("two{round}@example.org");
        let (two, second) = world.join(&owner, &email, Role::Owner).await;
        // Each removes the other, or itself: at most one of two OWNERs goes.
        let (a, b) = tokio::join!(
            world.ask_as(&owner, edit(two, Role::Admin)),
            world.ask_as(&second, remove(two)),
        );
        let (c, d) = tokio::join!(
            world.ask_as(&owner, edit(boss, Role::Admin)),
            world.ask_as(&owner, remove(boss)),
        );
        assert!(c.is_err() && d.is_err(), "{a:?} {b:?} {c:?} {d:?}");
        let owners = "SELECT count(*) FROM identity.memberships WHERE role = 'OWNER'";
        assert_eq!(world.count(owners).await, 1);
        let _ = world.ask_as(&owner, remove(two)).await;
    }
    let (two, second) = world.join(&owner, "last@example.org", Role::Owner).await;
    let (a, b) = tokio::join!(
        world.ask_as(&owner, remove(two)),
        world.ask_as(&second, remove(boss)),
    );
    assert!(a.is_ok() != b.is_ok(), "one of two: {a:?} {b:?}");
    let owners = "SELECT count(*) FROM identity.memberships WHERE role = 'OWNER'";
    assert_eq!(world.count(owners).await, 1);
}

#[tokio::test]
async fn whoever_leaves_leaves_no_session_and_no_key_and_everybody_hears() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, session) = world.join(&owner, "ann@example.org", Role::Admin).await;
    let create = ApiKeyCreate {
        name: "ann's".into(),
        kind: KeyKind::Api,
        role: Some(Role::Operator),
        scopes: None,
        networks: None,
        machine_cap: None,
        expires_at: None,
        idempotency_key: None,
    };
    let key = world.ask_as(&session, create).await.unwrap();
    let credential = world.exchange(&session).await.unwrap().credential;
    assert!(world.exchange(&key.key).await.is_ok());
    let mut events = world.gateway.subscribe("df.evt.*.*.*").await.unwrap();
    world.gateway.flush().await.unwrap();
    world.ask_as(&owner, remove(ann)).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        let message = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
        let event: Envelope<Event> =
            serde_json::from_slice(&message.unwrap().unwrap().payload).unwrap();
        let event = event.body;
        // What was made before may be told a little later.
        if event.verb == "created" {
            continue;
        }
        told.push(format!(
            "{}.{} {}",
            event.noun, event.verb, event.data["credential"]
        ));
    }
    told.sort();
    assert_eq!(
        told,
        [
            format!("key.revoked \"{}\"", key.api_key.id),
            "user.removed null".to_owned(),
            format!("user.revoked \"{credential}\""),
        ]
    );
    assert_eq!(
        kind(world.exchange(&session).await),
        ProblemKind::Unauthenticated
    );
    let refused = world.exchange(&key.key).await.err().unwrap();
    assert!(refused.detail.contains("was revoked"), "{}", refused.detail);
    let login = world.login("ann@example.org", PASSWORD, "b").await;
    assert_eq!(
        kind(login),
        ProblemKind::Forbidden,
        "belongs to no organisation"
    );
    assert_eq!(
        kind(world.ask_as(&owner, remove(ann)).await),
        ProblemKind::NotFound
    );
    // Whoever comes again begins anew, and may leave without asking.
    let (ann, session) = {
        let made = world
            .ask_as(&owner, invite("ann@example.org", Role::Viewer))
            .await
            .unwrap();
        let tokens = world.accept(&made.link.unwrap(), PASSWORD).await.unwrap();
        (ann, tokens.access_token)
    };
    assert!(world.exchange(&key.key).await.is_err());
    world.ask_as(&session, remove(ann)).await.unwrap();
    assert!(world.exchange(&session).await.is_err());
}

#[tokio::test]
async fn a_login_while_the_person_is_removed_ends_either_way_without_a_session() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    for round in 0..4 {
        let email = format!("ann{round}@example.org");
        let (ann, _) = world.join(&owner, &email, Role::Viewer).await;
        let login = async {
            tokio::time::sleep(Duration::from_millis(round * 8)).await;
            world.login(&email, PASSWORD, "c").await
        };
        let (removed, tokens) = tokio::join!(world.ask_as(&owner, remove(ann)), login);
        removed.unwrap();
        if let Ok(tokens) = tokens {
            assert!(world.exchange(&tokens.access_token).await.is_err());
        }
        let left = format!("SELECT count(*) FROM identity.sessions WHERE user_id = '{ann}'");
        assert_eq!(world.count(&left).await, 0);
    }
}
