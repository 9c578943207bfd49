//! The keys that action puts.

use contract::ProblemKind;
use contract::identity::{ActionKeysPut, Challenge};
use contract::order::fingerprint;
use futures::future::join_all;
use nkeys::KeyPair;

use crate::world::{PATIENCE, World};

#[tokio::test]
async fn replicas_of_action_may_say_the_same_at_once_and_a_rotation_replaces() {
    let (world, _replica) = World::start().await;
    let keys: Vec<String> = (0..2).map(|_| KeyPair::new_user().public_key()).collect();
    let put = ActionKeysPut { keys: keys.clone() };
    let puts = (0..8).map(|_| world.action.service_call(&put, None, PATIENCE));
    let answers: Vec<_> = join_all(puts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "one installation"
    );
    assert_eq!(world.machine().await.1.action_keys, keys);
    assert_eq!(
        world.machine().await.1.deployment_id,
        answers[0].deployment_id
    );
    let rotated = vec![keys[1].clone(), KeyPair::new_user().public_key()];
    let put = ActionKeysPut {
        keys: rotated.clone(),
    };
    world
        .action
        .service_call(&put, None, PATIENCE)
        .await
        .unwrap();
    assert_eq!(world.machine().await.1.action_keys, rotated);
    // Whoever enrols sees them first, in the same order: no token is used for keys that nobody expected.
    let seen: Vec<String> = rotated.iter().map(|key| fingerprint(key)).collect();
    assert_eq!(world.ask(Challenge {}).await.unwrap().action_keys, seen);
}

#[tokio::test]
async fn what_is_no_key_is_refused_by_place() {
    let (world, _replica) = World::start().await;
    let good = KeyPair::new_user().public_key();
    for (keys, path) in [
        (vec![], "keys"),
        (vec![good.clone(); 5], "keys"),
        (vec![good.clone(), "x".into()], "keys[1]"),
        (vec![good.clone(), good.clone()], "keys[1]"),
    ] {
        let put = ActionKeysPut { keys };
        let refused = world
            .action
            .service_call(&put, None, PATIENCE)
            .await
            .err()
            .unwrap();
        assert_eq!(
            (refused.kind, refused.errors[0].path.as_str()),
            (ProblemKind::Invalid, path)
        );
    }
}
