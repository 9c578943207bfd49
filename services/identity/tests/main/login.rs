//! Sessions of people.

use std::time::{Duration, Instant};

use contract::ProblemKind;
use contract::event::Event;
use contract::grant::PrincipalKind;
use contract::identity::{Logout, Me, Refresh, Tokens};
use contract::{Envelope, Problem};
use domain::access::Role;
use futures::StreamExt;

use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, World};

fn kind(result: &Result<Tokens, Problem>) -> Option<ProblemKind> {
    result.as_ref().err().map(|problem| problem.kind)
}

async fn refresh(world: &World, tokens: &Tokens) -> Result<Tokens, Problem> {
    world
        .ask(Refresh {
            refresh_token: tokens.refresh_token.clone(),
        })
        .await
}

/// Half a minute passes.
async fn later(world: &World) {
    let sql = "UPDATE identity.sessions SET rotated_at = rotated_at - interval '31 seconds'";
    world.alter(sql).await;
}

#[tokio::test]
async fn a_login_gives_tokens_that_say_who_it_is() {
    let (world, _replica) = World::start().await;
    let tokens = world
        .login("  Owner@Example.ORG ", PASSWORD, "10.0.0.1")
        .await
        .unwrap();
    assert!(tokens.access_token.starts_with("dfa_") && tokens.refresh_token.starts_with("dfr_"));
    assert_eq!(tokens.expires_in, 900);
    let me = world.ask_as(&tokens.access_token, Me {}).await.unwrap();
    assert_eq!(
        (me.kind, me.email.as_deref()),
        (PrincipalKind::User, Some(EMAIL))
    );
    assert_eq!((me.organization_id, me.role), (world.org, Role::Owner));
    assert_eq!(me.organization_name, "default");
    let key = world.ask_as(API_KEY, Me {}).await.unwrap();
    assert_eq!(
        (key.kind, key.email, key.role),
        (PrincipalKind::ApiKey, None, Role::Owner)
    );
}

#[tokio::test]
async fn nothing_tells_an_unknown_account_from_a_wrong_password() {
    let (world, _replica) = World::start().await;
    let mut told = Vec::new();
    for email in [EMAIL, "nobody@example.org"] {
        let mut quickest = Duration::MAX;
        for attempt in 0..4 {
            let began = Instant::now();
            let address = format!("10.0.1.{attempt}");
            let refused = world
                .login(email, "wrong password", &address)
                .await
                .err()
                .unwrap();
            quickest = quickest.min(began.elapsed());
            assert_eq!(refused.kind, ProblemKind::Unauthenticated);
            told.push(refused.detail);
        }
        told.dedup();
        println!("{email}: {quickest:?}");
        // Without hashing, an answer would come after about a millisecond.
        assert!(
            quickest > Duration::from_millis(8),
            "{email} took {quickest:?}"
        );
    }
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn malformed_logins_are_refused_and_a_password_of_any_text_is_not_an_error() {
    let (world, _replica) = World::start().await;
    let long = "x".repeat(300);
    assert_eq!(
        kind(&world.login(&long, "x", "a").await),
        Some(ProblemKind::Invalid)
    );
    let long = "x".repeat(2_000);
    assert_eq!(
        kind(&world.login(EMAIL, &long, "a").await),
        Some(ProblemKind::Invalid)
    );
    for (email, password) in [("a\0b", "x"), ("", ""), (EMAIL, "\0")] {
        let refused = world.login(email, password, "a").await;
        assert_eq!(kind(&refused), Some(ProblemKind::Unauthenticated));
    }
}

#[tokio::test]
async fn ten_failures_a_minute_from_one_address_for_one_account_are_enough() {
    let (world, _replica) = World::start().await;
    for _ in 0..10 {
        let refused = world.login(EMAIL, "wrong", "10.0.0.1").await;
        assert_eq!(kind(&refused), Some(ProblemKind::Unauthenticated));
    }
    let limited = world
        .login(EMAIL, PASSWORD, "10.0.0.1")
        .await
        .err()
        .unwrap();
    assert_eq!(limited.kind, ProblemKind::RateLimited);
    assert!(
        limited
            .retry_after_ms
            .is_some_and(|wait| (1..=6_000).contains(&wait))
    );
    assert!(world.login(EMAIL, PASSWORD, "10.0.0.2").await.is_ok());
    let other = world.login("other@example.org", "wrong", "10.0.0.1").await;
    assert_eq!(kind(&other), Some(ProblemKind::Unauthenticated));
    // Success costs nothing.
    for _ in 0..12 {
        assert!(world.login(EMAIL, PASSWORD, "10.0.0.3").await.is_ok());
    }
}

#[tokio::test]
async fn a_refresh_replaces_both_tokens() {
    let (world, _replica) = World::start().await;
    let first = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let second = refresh(&world, &first).await.unwrap();
    assert!(world.exchange(&second.access_token).await.is_ok());
    let old = world.exchange(&first.access_token).await.err().unwrap();
    assert_eq!(old.kind, ProblemKind::Unauthenticated);
    assert!(refresh(&world, &second).await.is_ok());
}

#[tokio::test]
async fn a_refresh_token_used_again_later_ends_the_session_and_everybody_hears() {
    let (world, _replica) = World::start().await;
    let mut events = world
        .gateway
        .subscribe("df.evt.*.user.revoked")
        .await
        .unwrap();
    world.gateway.flush().await.unwrap();
    let first = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let second = refresh(&world, &first).await.unwrap();
    let credential = world
        .exchange(&second.access_token)
        .await
        .unwrap()
        .credential;
    later(&world).await;
    let reused = refresh(&world, &first).await.err().unwrap();
    assert_eq!(reused.kind, ProblemKind::Unauthenticated);
    assert!(reused.detail.contains("used before"), "{}", reused.detail);
    let message = tokio::time::timeout(Duration::from_secs(1), events.next())
        .await
        .unwrap()
        .unwrap();
    let event: Envelope<Event> = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(event.body.data["credential"], credential.to_string());
    for (name, refused) in [
        (
            "the new refresh token",
            refresh(&world, &second).await.err(),
        ),
        (
            "the access token",
            world.exchange(&second.access_token).await.err(),
        ),
    ] {
        let refused = refused.unwrap();
        assert_eq!(refused.kind, ProblemKind::Unauthenticated, "{name}");
        assert!(
            refused.detail.contains("was ended"),
            "{name}: {}",
            refused.detail
        );
    }
}

#[tokio::test]
async fn any_refresh_token_that_was_ever_given_ends_the_session_however_often_it_was_refreshed() {
    let (world, _replica) = World::start().await;
    let first = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let other = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    // Whoever copied it is quick: when it is shown the second time, it is five generations old.
    let mut last = refresh(&world, &first).await.unwrap();
    for _ in 0..4 {
        last = refresh(&world, &last).await.unwrap();
    }
    let reused = refresh(&world, &first).await.err().unwrap();
    assert_eq!(reused.kind, ProblemKind::Unauthenticated);
    assert!(reused.detail.contains("used before"), "{}", reused.detail);
    let ended = world.exchange(&last.access_token).await.err().unwrap();
    assert!(ended.detail.contains("was ended"), "{}", ended.detail);
    assert!(refresh(&world, &last).await.is_err());
    assert!(
        refresh(&world, &other).await.is_ok(),
        "another session goes on"
    );
    let told = "SELECT count(*) FROM identity.audit_events
        WHERE call = 'auth.refresh' AND outcome = 'DENIED'";
    testkit::eventually("it is told", PATIENCE, || async {
        (world.count(told).await == 1).then_some(())
    })
    .await;
    // What is made up in a family that nobody has is not known, and ends nothing.
    let made_up = Refresh {
        refresh_token: format!("dfr_{}", "x".repeat(86)),
    };
    let unknown = world.ask(made_up).await.err().unwrap();
    assert!(unknown.detail.contains("not known"), "{}", unknown.detail);
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_can_be_repeated_for_half_a_minute() {
    let (world, _one) = World::start().await;
    let _two = world.replica().await;
    let first = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let given = refresh(&world, &first).await.unwrap();
    // Whatever replica is asked, and at once.
    for _ in 0..5 {
        let (one, two) = tokio::join!(refresh(&world, &first), refresh(&world, &first));
        for again in [one.unwrap(), two.unwrap()] {
            assert_eq!(again.access_token, given.access_token);
            assert_eq!(again.refresh_token, given.refresh_token);
            assert!((890..=900).contains(&again.expires_in));
        }
    }
    assert!(world.exchange(&given.access_token).await.is_ok());
    let next = refresh(&world, &given).await.unwrap();
    assert_ne!(next.refresh_token, given.refresh_token);
    // What it led to is used already: there is nothing to repeat.
    let older = refresh(&world, &first).await.err().unwrap();
    assert_eq!(older.kind, ProblemKind::Unauthenticated);
    later(&world).await;
    assert!(refresh(&world, &given).await.is_err());
    let ended = world.exchange(&next.access_token).await.err().unwrap();
    assert!(ended.detail.contains("was ended"), "{}", ended.detail);
}

#[tokio::test]
async fn two_refreshes_at_once_get_the_same_tokens() {
    let (world, _replica) = World::start().await;
    let first = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let (one, two) = tokio::join!(refresh(&world, &first), refresh(&world, &first));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.refresh_token, two.refresh_token);
    assert!(refresh(&world, &one).await.is_ok());
}

#[tokio::test]
async fn expired_tokens_are_refused_in_words_that_help() {
    let (world, _replica) = World::start().await;
    let tokens = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    world
        .alter("UPDATE identity.sessions SET access_expires_at = now()")
        .await;
    let expired = world.exchange(&tokens.access_token).await.err().unwrap();
    assert_eq!(expired.detail, "this access token has expired; refresh it");
    world
        .alter("UPDATE identity.sessions SET refresh_expires_at = now()")
        .await;
    let expired = refresh(&world, &tokens).await.err().unwrap();
    assert_eq!(expired.detail, "this session has expired; log in again");
    for text in ["", "dfr_", "dfr_unknown", "dfk_not-a-refresh-token", "\0"] {
        let unknown = world
            .ask(Refresh {
                refresh_token: text.into(),
            })
            .await
            .err()
            .unwrap();
        assert_eq!(unknown.kind, ProblemKind::Unauthenticated, "{text}");
    }
}

#[tokio::test]
async fn logout_ends_the_session_within_a_second_and_can_be_repeated() {
    let (world, _replica) = World::start().await;
    let mut events = world.gateway.subscribe("df.evt.*.user.*").await.unwrap();
    world.gateway.flush().await.unwrap();
    let tokens = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let other = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let exchanged = world.exchange(&tokens.access_token).await.unwrap();
    for _ in 0..2 {
        world
            .gateway
            .gateway_call(&Logout {}, Some(&exchanged.grant), PATIENCE)
            .await
            .unwrap();
    }
    let message = tokio::time::timeout(Duration::from_secs(1), events.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        message.subject,
        format!("df.evt.{}.user.revoked", world.org.token())
    );
    let event: Envelope<Event> = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(
        event.body.data["credential"],
        exchanged.credential.to_string()
    );
    let again = tokio::time::timeout(Duration::from_millis(700), events.next()).await;
    assert!(again.is_err(), "one event only");
    assert!(world.exchange(&tokens.access_token).await.is_err());
    assert!(refresh(&world, &tokens).await.is_err());
    assert!(
        world.exchange(&other.access_token).await.is_ok(),
        "another session goes on"
    );
    let key = world.ask_as(API_KEY, Logout {}).await.err().unwrap();
    assert_eq!(key.kind, ProblemKind::Forbidden);
}
