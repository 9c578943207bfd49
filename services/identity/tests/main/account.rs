//! People's own: sessions, other organisations, passwords.

use std::time::Duration;

use contract::ProblemKind;
use contract::identity::{
    Me, MemberReset, OrganizationClose, PasswordChange, PasswordForgot, PasswordReset, SessionList,
    SessionRevoke, Switch,
};
use domain::access::{PLATFORM_ADMIN, Role};
use domain::{CredentialId, OrgId};
use testkit::eventually;

use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, World, kind, login, secret_of};

const NEW: &str = "a new and better password";

fn list() -> SessionList {
    SessionList {
        limit: 50,
        cursor: None,
    }
}

fn switch(org: OrgId) -> Switch {
    Switch {
        organization_id: org,
        address: "10.9.8.7".into(),
        user_agent: "test/2".into(),
    }
}

fn change(current: &str, new: &str) -> PasswordChange {
    PasswordChange {
        current_password: current.into(),
        new_password: new.into(),
    }
}

fn reset(link: &str, password: &str) -> PasswordReset {
    PasswordReset {
        token: secret_of(link),
        password: password.into(),
    }
}

#[tokio::test]
async fn a_person_sees_and_ends_their_own_sessions_of_all_organisations_and_no_others() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, other) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let (org, there) = world.organization("second").await;
    let page = world.ask_as(&owner, list()).await.unwrap();
    // The owner's, the one of `organization`, and the one that it switched to; not Ann's.
    assert_eq!(page.items.len(), 3, "{page:?}");
    let newest = &page.items[0];
    assert_eq!((newest.organization_id, newest.current), (org, false));
    assert_eq!(
        page.items.iter().filter(|session| session.current).count(),
        1
    );
    let mine = page.items.iter().find(|session| session.current).unwrap();
    assert_eq!(mine.address.as_deref(), Some("a"));
    assert_eq!(mine.user_agent.as_deref(), Some("test/1"));
    let first = world
        .ask_as(
            &owner,
            SessionList {
                limit: 2,
                cursor: None,
            },
        )
        .await
        .unwrap();
    let rest = SessionList {
        limit: 2,
        cursor: first.next_cursor.clone(),
    };
    assert_eq!(world.ask_as(&owner, rest).await.unwrap().items.len(), 1);

    let foreign = world.ask_as(&other, list()).await.unwrap().items[0].id;
    for id in [foreign, CredentialId::new()] {
        let refused = world.ask_as(&owner, SessionRevoke { session_id: id }).await;
        let refused = refused.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::NotFound);
        assert_eq!(refused.detail, "there is no such session of yours");
    }
    for _ in 0..2 {
        let revoke = SessionRevoke {
            session_id: newest.id,
        };
        world.ask_as(&owner, revoke).await.unwrap();
    }
    assert!(world.exchange(&there).await.is_err());
    assert_eq!(world.ask_as(&owner, list()).await.unwrap().items.len(), 2);
    assert_eq!(
        kind(world.ask_as(API_KEY, list()).await),
        ProblemKind::Forbidden
    );
}

#[tokio::test]
async fn the_use_of_a_session_is_noted_at_most_once_a_minute() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let noted = "SELECT count(last_used_at) FROM identity.sessions";
    assert_eq!(world.count(noted).await, 0);
    world.exchange(&owner).await.unwrap();
    eventually("the use is noted", PATIENCE, || async {
        (world.count(noted).await == 1).then_some(())
    })
    .await;
    world
        .alter("UPDATE identity.sessions SET last_used_at = now() - interval '30 s'")
        .await;
    world.exchange(&owner).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let age = "SELECT extract(epoch FROM now() - last_used_at)::bigint FROM identity.sessions";
    assert!(world.count(age).await >= 29);
}

#[tokio::test]
async fn a_person_goes_into_their_other_organisations_and_nowhere_else() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (org, there) = world.organization("second").await;
    let me = world.ask_as(&there, Me {}).await.unwrap();
    assert_eq!((me.organization_id, me.role), (org, Role::Owner));
    assert!(me.scopes.allows(PLATFORM_ADMIN));
    assert!(
        world.exchange(&owner).await.is_ok(),
        "the first session goes on"
    );
    // Logging in with the organisation leads there at once.
    let mut request = login(EMAIL, PASSWORD, "a");
    request.organization_id = Some(org);
    let tokens = world.ask(request.clone()).await.unwrap();
    let me = world.ask_as(&tokens.access_token, Me {}).await.unwrap();
    assert_eq!(me.organization_id, org);

    let (_, ann) = world.join(&owner, "ann@example.org", Role::Admin).await;
    for elsewhere in [org, OrgId::new()] {
        let refused = world.ask_as(&ann, switch(elsewhere)).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::NotFound);
        assert_eq!(refused.detail, "you belong to no such organisation");
    }
    let me = world.ask_as(&ann, Me {}).await.unwrap();
    assert!(!me.scopes.allows(PLATFORM_ADMIN));
    let close = OrganizationClose {
        organization_id: org,
    };
    world.ask_as(&owner, close).await.unwrap();
    assert_eq!(
        kind(world.ask_as(&owner, switch(org)).await),
        ProblemKind::NotFound
    );
    assert_eq!(kind(world.ask(request).await), ProblemKind::Forbidden);
    assert_eq!(
        kind(world.ask_as(API_KEY, switch(world.org)).await),
        ProblemKind::Forbidden
    );
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_the_other_sessions() {
    let (world, _replica) = World::start().await;
    let (one, two) = (world.owner().await, world.owner().await);
    let (_, there) = world.organization("second").await;
    let refused = world
        .ask_as(&one, change("wrong", NEW))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.kind, ProblemKind::Unauthenticated);
    for bad in ["short", "password1234", "owner@example.org"] {
        let refused = world
            .ask_as(&one, change(PASSWORD, bad))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.errors[0].path, "newPassword", "{bad}");
    }
    assert!(world.exchange(&two).await.is_ok());
    world.ask_as(&one, change(PASSWORD, NEW)).await.unwrap();
    assert!(world.exchange(&one).await.is_ok(), "this session goes on");
    for ended in [two, there] {
        let refused = world.exchange(&ended).await.err().unwrap();
        assert!(refused.detail.contains("was ended"), "{}", refused.detail);
    }
    assert!(world.login(EMAIL, PASSWORD, "b").await.is_err());
    assert!(world.login(EMAIL, NEW, "b").await.is_ok());
    // Guessing the current one is limited like guessing at the login.
    for _ in 0..10 {
        let _ = world.ask_as(&one, change("wrong", PASSWORD)).await;
    }
    let limited = world.ask_as(&one, change(NEW, PASSWORD)).await;
    assert_eq!(kind(limited), ProblemKind::RateLimited);
}

#[tokio::test]
async fn failures_count_at_all_replicas_together() {
    let (world, one) = World::start().await;
    let _two = world.replica().await;
    for _ in 0..10 {
        let refused = world.login(EMAIL, "wrong", "10.0.0.1").await;
        assert_eq!(kind(refused), ProblemKind::Unauthenticated);
    }
    // Both asked some; whichever is left knows of all.
    one.stop().await;
    let limited = world.login(EMAIL, PASSWORD, "10.0.0.1").await;
    let limited = limited.err().unwrap();
    assert_eq!(limited.kind, ProblemKind::RateLimited);
    assert!(
        limited
            .retry_after_ms
            .is_some_and(|wait| (1..=6_000).contains(&wait))
    );
    assert!(world.login(EMAIL, PASSWORD, "10.0.0.2").await.is_ok());
    let counted = "SELECT count(*) FROM identity.login_failures WHERE level > 0";
    assert_eq!(world.count(counted).await, 1, "success counts nothing");
}

#[tokio::test]
async fn of_many_guesses_at_once_all_replicas_together_look_at_ten() {
    let (world, _one) = World::start().await;
    let _two = world.replica().await;
    let guesses = (0..40).map(|_| world.login(EMAIL, "wrong", "10.0.0.1"));
    let answers = futures::future::join_all(guesses).await;
    let looked_at = answers
        .into_iter()
        .filter(|answer| {
            let refused = answer.as_ref().err();
            refused.is_some_and(|refused| refused.kind == ProblemKind::Unauthenticated)
        })
        .count();
    // One more comes in for each six seconds that this takes.
    assert!((1..=11).contains(&looked_at), "{looked_at} were looked at");
}

#[tokio::test]
async fn without_mail_an_administrator_gets_the_link_and_only_of_whom_they_may() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, session) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let (_, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let me = world.ask_as(&owner, Me {}).await.unwrap();
    let refused = world
        .ask_as(
            &admin,
            MemberReset {
                user_id: me.id.into(),
            },
        )
        .await;
    assert_eq!(kind(refused), ProblemKind::Forbidden, "an OWNER is above");
    let made = world
        .ask_as(&admin, MemberReset { user_id: ann })
        .await
        .unwrap();
    let link = made.link.unwrap();
    assert!(link.starts_with("/password-reset#dfp_"), "{link}");
    let refused = world
        .ask(reset(&link, "ann@example.org"))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.errors[0].path, "password");
    let (a, b) = tokio::join!(world.ask(reset(&link, NEW)), world.ask(reset(&link, NEW)));
    assert!(a.is_ok() != b.is_ok(), "once: {a:?} {b:?}");
    assert!(world.exchange(&session).await.is_err(), "all sessions end");
    assert!(world.login("ann@example.org", NEW, "b").await.is_ok());
    let again = world.ask(reset(&link, NEW)).await.err().unwrap();
    assert_eq!(again.kind, ProblemKind::Forbidden);

    // Ann joins another organisation: from now on the link would open that too.
    let (_, there) = world.organization("second").await;
    let invite = contract::identity::MemberInvite {
        email: "ann@example.org".into(),
        role: Role::Viewer,
    };
    let link = world.ask_as(&there, invite).await.unwrap().link.unwrap();
    world.accept(&link, NEW).await.unwrap();
    let refused = world.ask_as(&admin, MemberReset { user_id: ann }).await;
    assert_eq!(kind(refused), ProblemKind::Forbidden);
    let link = world
        .ask_as(&owner, MemberReset { user_id: ann })
        .await
        .unwrap();
    assert!(link.link.is_some(), "a platform administrator may");
    world
        .alter("UPDATE identity.password_resets SET expires_at = now()")
        .await;
    let late = world.ask(reset(&link.link.unwrap(), PASSWORD)).await;
    assert_eq!(kind(late), ProblemKind::Forbidden);
}

#[tokio::test]
async fn without_mail_a_forgotten_password_answers_the_same_and_makes_nothing() {
    let (world, _replica) = World::start().await;
    for email in [EMAIL, "nobody@example.org"] {
        let forgot = PasswordForgot {
            email: email.into(),
            address: "a".into(),
        };
        assert!(world.ask(forgot).await.is_ok());
    }
    let rows = "SELECT count(*) FROM identity.password_resets";
    assert_eq!(world.count(rows).await, 0);
    let forgot = PasswordForgot {
        email: "nobody".into(),
        address: "a".into(),
    };
    assert_eq!(
        world.ask(forgot).await.err().unwrap().errors[0].path,
        "email"
    );
}

#[tokio::test]
async fn a_disabled_account_is_nobody() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, ann) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    world
        .alter("UPDATE identity.users SET disabled_at = now() WHERE email = 'ann@example.org'")
        .await;
    assert_eq!(
        kind(world.exchange(&ann).await),
        ProblemKind::Unauthenticated
    );
    let refused = world.login("ann@example.org", PASSWORD, "b").await;
    assert_eq!(kind(refused), ProblemKind::Forbidden);
    let wrong = world.login("ann@example.org", "wrong", "b").await;
    assert_eq!(
        kind(wrong),
        ProblemKind::Unauthenticated,
        "only who knows the password hears it"
    );
}
