//! Enrolment tokens: labels, uses, the hour's cap; and what a repetition gives.

use contract::identity::{
    EnrollmentTokenCreate, EnrollmentTokenGet, EnrollmentTokenList, EnrollmentTokenRevoke,
};
use contract::{Problem, ProblemKind};
use domain::Timestamp;
use domain::access::Role;
use futures::future::join_all;
use nkeys::KeyPair;
use uuid::Uuid;

use crate::world::{API_KEY, World, kind, sign};

fn create(uses: u32, hourly_cap: Option<u32>) -> EnrollmentTokenCreate {
    EnrollmentTokenCreate {
        name: "rack 4".into(),
        labels: [("env".to_owned(), "token".to_owned())].into(),
        uses: Some(uses),
        hourly_cap,
        expires_at: None,
        idempotency_key: None,
    }
}

async fn enroll_many(world: &World, token: &str, machines: usize) -> Vec<Result<(), Problem>> {
    let enroll = async || world.enroll(&KeyPair::new_user(), token).await.map(drop);
    join_all((0..machines).map(|_| enroll())).await
}

#[tokio::test]
async fn a_token_is_made_shown_once_and_revoked_also_by_a_key() {
    let (world, _replica) = World::start().await;
    let made = world.ask_as(API_KEY, create(2, Some(1))).await.unwrap();
    assert!(made.token.starts_with("dfe_"));
    let id = made.enrollment_token.id;
    let token = world
        .ask_as(API_KEY, EnrollmentTokenGet { token_id: id })
        .await
        .unwrap();
    assert_eq!(
        (token.uses, token.uses_left, token.hourly_cap),
        (2, 2, Some(1))
    );
    assert_eq!(token.expires_at.since(Timestamp::now()).num_days(), 29);
    assert!(!serde_json::to_string(&token).unwrap().contains(&made.token));
    let list = EnrollmentTokenList {
        limit: 1,
        cursor: None,
    };
    let page = world.ask_as(API_KEY, list).await.unwrap();
    assert!(page.items[0].id == id && page.next_cursor.is_some());
    for _ in 0..2 {
        world
            .ask_as(API_KEY, EnrollmentTokenRevoke { token_id: id })
            .await
            .unwrap();
    }
    let refused = world
        .enroll(&KeyPair::new_user(), &made.token)
        .await
        .err()
        .unwrap();
    assert!(refused.detail.contains("was revoked"), "{}", refused.detail);
    let owner = world.owner().await;
    let (_, operator) = world.join(&owner, "op@example.org", Role::Operator).await;
    assert_eq!(
        kind(world.ask_as(&operator, create(1, None)).await),
        ProblemKind::Forbidden
    );
}

#[tokio::test]
async fn what_a_token_cannot_be_is_refused_by_its_field() {
    let (world, _replica) = World::start().await;
    let at = |days| Some(Timestamp::now().plus(chrono::Duration::days(days)));
    for (request, path) in [
        (
            EnrollmentTokenCreate {
                name: String::new(),
                ..create(1, None)
            },
            "name",
        ),
        (create(0, None), "uses"),
        (create(1_000_001, None), "uses"),
        (create(1, Some(0)), "hourlyCap"),
        (
            EnrollmentTokenCreate {
                expires_at: at(-1),
                ..create(1, None)
            },
            "expiresAt",
        ),
        (
            EnrollmentTokenCreate {
                expires_at: at(400),
                ..create(1, None)
            },
            "expiresAt",
        ),
    ] {
        let refused = world.ask_as(API_KEY, request.clone()).await.err().unwrap();
        assert_eq!(refused.errors[0].path, path, "{request:?}");
    }
    let labels = [("no spaces".to_owned(), "x".to_owned())].into();
    let request = EnrollmentTokenCreate {
        labels,
        ..create(1, None)
    };
    assert_eq!(
        kind(world.ask_as(API_KEY, request).await),
        ProblemKind::Invalid
    );
}

#[tokio::test]
async fn the_tokens_labels_win_over_those_that_a_machine_asks_for() {
    let (world, _replica) = World::start().await;
    let made = world.ask_as(API_KEY, create(1, None)).await.unwrap();
    let key = KeyPair::new_user();
    let mut request = world.enroll_request(&key, &made.token).await;
    request.labels.insert("role".into(), "db".into());
    sign(&mut request, &key);
    world.ask(request).await.unwrap();
    let labels = "SELECT count(*) FROM identity.machines WHERE labels = '{\"env\": \"token\", \"role\": \"db\"}'";
    assert_eq!(world.count(labels).await, 1);
}

#[tokio::test]
async fn of_many_at_once_as_many_enrol_as_the_token_has_uses() {
    let (world, _one) = World::start().await;
    let _two = world.replica().await;
    let made = world.ask_as(API_KEY, create(3, None)).await.unwrap();
    let ended = enroll_many(&world, &made.token, 12).await;
    assert_eq!(ended.iter().filter(|end| end.is_ok()).count(), 3);
    for refused in ended.into_iter().filter_map(Result::err) {
        assert!(refused.detail.contains("used up"), "{}", refused.detail);
    }
    assert_eq!(
        world.count("SELECT count(*) FROM identity.machines").await,
        3
    );
}

#[tokio::test]
async fn of_many_at_once_as_many_enrol_in_an_hour_as_the_cap_says() {
    let (world, _one) = World::start().await;
    let _two = world.replica().await;
    let made = world.ask_as(API_KEY, create(100, Some(4))).await.unwrap();
    let ended = enroll_many(&world, &made.token, 16).await;
    assert_eq!(ended.iter().filter(|end| end.is_ok()).count(), 4);
    for refused in ended.into_iter().filter_map(Result::err) {
        assert_eq!(refused.kind, ProblemKind::RateLimited, "{}", refused.detail);
        let wait = refused.retry_after_ms.unwrap();
        assert!((3_500_000..=3_600_000).contains(&wait), "{wait}");
    }
    // What was refused took no use, and the next hour is another one.
    let id = made.enrollment_token.id;
    let left = async || {
        let get = EnrollmentTokenGet { token_id: id };
        world.ask_as(API_KEY, get).await.unwrap().uses_left
    };
    assert_eq!(left().await, 96);
    world
        .alter("UPDATE identity.enrollment_tokens SET hour_at = hour_at - interval '1 hour'")
        .await;
    let ended = enroll_many(&world, &made.token, 6).await;
    assert_eq!(ended.iter().filter(|end| end.is_ok()).count(), 4);
    assert_eq!(left().await, 92);
}

#[tokio::test]
async fn a_repetition_gives_the_same_token_and_another_organisations_are_nowhere() {
    let (world, _replica) = World::start().await;
    let request = || EnrollmentTokenCreate {
        idempotency_key: Some("k".into()),
        ..create(1, None)
    };
    let (a, b) = tokio::join!(
        world.ask_as(API_KEY, request()),
        world.ask_as(API_KEY, request()),
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(
        (&a.token, a.enrollment_token.id),
        (&b.token, b.enrollment_token.id)
    );
    assert!(world.enroll(&KeyPair::new_user(), &a.token).await.is_ok());
    let other = EnrollmentTokenCreate {
        uses: Some(2),
        ..request()
    };
    assert_eq!(
        kind(world.ask_as(API_KEY, other).await),
        ProblemKind::Conflict
    );
    let (_, there) = world.organization("second").await;
    for token_id in [a.enrollment_token.id, Uuid::now_v7()] {
        let words = Problem::not_found("enrolment token");
        let get = world.ask_as(&there, EnrollmentTokenGet { token_id }).await;
        assert_eq!(get.err().unwrap(), words);
        let revoke = world
            .ask_as(&there, EnrollmentTokenRevoke { token_id })
            .await;
        assert_eq!(revoke.err().unwrap(), words);
    }
}
