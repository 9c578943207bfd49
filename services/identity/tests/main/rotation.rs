//! The keys that sign are rotated: what was given before is given again to whoever repeats, for as long as one of the keys
//! in the file is the one of then.

use contract::ProblemKind;
use contract::identity::{ApiKeyCreate, EnrollmentTokenCreate, KeyKind, Refresh, Tokens};
use domain::access::Role;
use nkeys::KeyPair;

use crate::world::{EMAIL, PASSWORD, World, kind};

/// What `dashfleet-bootstrap rotate-jwt` does: the next key is in use, a new one is the next, and the one before stays.
fn rotate(world: &World) {
    let path = world.nats.keys("identity").join("jwt.nk");
    let text = std::fs::read_to_string(&path).unwrap();
    let seeds: Vec<&str> = text.lines().collect();
    let new = KeyPair::new_user().seed().unwrap();
    std::fs::write(&path, [seeds[1], new.as_str(), seeds[0]].join("\n")).unwrap();
}

fn key() -> ApiKeyCreate {
    ApiKeyCreate {
        name: "ci".into(),
        kind: KeyKind::Api,
        role: Some(Role::Viewer),
        scopes: None,
        networks: None,
        machine_cap: None,
        expires_at: None,
        idempotency_key: Some("once".into()),
    }
}

fn token() -> EnrollmentTokenCreate {
    EnrollmentTokenCreate {
        name: "rack 4".into(),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        uses: Some(1),
        hourly_cap: None,
        expires_at: None,
        idempotency_key: Some("once".into()),
    }
}

#[tokio::test]
async fn a_repetition_gives_the_same_after_a_rotation_and_an_error_after_two() {
    let (world, replica) = World::start().await;
    let owner = world.owner().await;
    let made = world.ask_as(&owner, key()).await.unwrap();
    let given = world.ask_as(&owner, token()).await.unwrap();
    let tokens = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let refresh = async || -> Result<Tokens, contract::Problem> {
        let refresh_token = tokens.refresh_token.clone();
        world.ask(Refresh { refresh_token }).await
    };
    let first = refresh().await.unwrap();
    replica.stop().await;
    rotate(&world);
    let replica = world.replica().await;

    let again = world.ask_as(&owner, key()).await.unwrap();
    assert_eq!(
        (again.key, again.api_key.id),
        (made.key.clone(), made.api_key.id)
    );
    let again = world.ask_as(&owner, token()).await.unwrap();
    assert_eq!(
        (again.token, again.enrollment_token.id),
        (given.token, given.enrollment_token.id)
    );
    // Its answer was lost: that ends no session because of a rotation.
    let repeated = refresh().await.unwrap();
    assert_eq!(
        (repeated.access_token, repeated.refresh_token),
        (first.access_token.clone(), first.refresh_token)
    );
    assert!(world.exchange(&first.access_token).await.is_ok());
    replica.stop().await;
    rotate(&world);
    rotate(&world);
    let _replica = world.replica().await;
    // None of the keys is the one of then: it is said, and no other secret is made up.
    let gone = world.ask_as(&owner, key()).await;
    let words = gone.as_ref().err().map(|gone| gone.detail.clone());
    assert_eq!(kind(gone), ProblemKind::Conflict);
    assert!(words.unwrap().contains("no longer be shown"));
    assert!(world.exchange(&made.key).await.is_ok(), "it works on");
}
