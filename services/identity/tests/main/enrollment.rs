//! Enrolment: who is let in, who is not, and in which words.

use base64::{Engine, engine::general_purpose::STANDARD};
use contract::ProblemKind;
use contract::identity::{
    Challenge, Enroll, KeyStanding, MachineChanges, MachineQuarantine, StandingGet,
    standing_message,
};
use domain::labels::Labels;
use futures::future::join_all;
use nkeys::KeyPair;

use crate::world::{PATIENCE, TOKEN, World, sign};

const USES_LEFT: &str = "SELECT uses_left::bigint FROM identity.enrollment_tokens";
const MACHINES: &str = "SELECT count(*) FROM identity.machines";

#[tokio::test]
async fn a_machine_learns_its_place_and_services_learn_of_it() {
    let (world, _replica) = World::start().await;
    let keys = world.put_action_keys().await;
    let (key, enrolled) = world.machine().await;
    assert_eq!(enrolled.organization_id, world.org);
    assert_eq!(
        (enrolled.nats_urls, enrolled.nats_ca),
        (vec![world.nats.url()], None)
    );
    assert_eq!(enrolled.action_keys, keys);
    let changes = MachineChanges {
        after: 0,
        limit: 10,
    };
    let page = world
        .action
        .service_call(&changes, None, PATIENCE)
        .await
        .unwrap();
    assert_eq!((page.items.len(), page.more), (1, false));
    let machine = &page.items[0];
    assert_eq!(
        (machine.org, machine.machine_id),
        (world.org, enrolled.machine_id)
    );
    assert_eq!(
        (machine.hostname.as_str(), &machine.public_key),
        ("web-1", &key.public_key())
    );
    assert_eq!(machine.labels.get("env").map(String::as_str), Some("prod"));
    assert_eq!(machine.inventory.os, "Debian");
    assert_eq!(
        (machine.revoked_at, machine.quarantined_at, machine.releases),
        (None, None, 0)
    );
    assert_eq!(world.count(USES_LEFT).await, 9_999);
}

/// Spoils a good request. It is signed again afterwards where `true` stands beside it.
type Spoil = (fn(&mut Enroll), bool);

#[tokio::test]
async fn every_malformed_field_is_named() {
    let (world, _replica) = World::start().await;
    let cases: [(&str, Spoil); 14] = [
        ("hostname", (|r| r.hostname.clear(), false)),
        ("hostname", (|r| r.hostname = " ".into(), false)),
        ("hostname", (|r| r.hostname = "x".repeat(254), false)),
        ("hostname", (|r| r.hostname = "a\0b".into(), false)),
        (
            "labels.env",
            (|r| r.labels = labels("env", "not a value"), false),
        ),
        (
            "labels",
            (
                |r| r.labels = (0..65).map(|i| (format!("k{i}"), "v".into())).collect(),
                false,
            ),
        ),
        (
            "inventory.cpuModel",
            (|r| r.inventory.cpu_model = "x".repeat(300), false),
        ),
        ("inventory.os", (|r| r.inventory.os = "\u{0}".into(), false)),
        ("publicKey", (|r| r.public_key = "UNOTAKEY".into(), true)),
        (
            "publicKey",
            (|r| r.public_key = KeyPair::new_account().public_key(), true),
        ),
        ("signature", (|r| r.signature = "no base64 !".into(), false)),
        ("challenge", (|r| r.challenge = "made-up".into(), true)),
        ("challenge", (|r| r.challenge.clear(), true)),
        (
            "challenge",
            (|r| r.challenge = r.challenge.chars().rev().collect(), true),
        ),
    ];
    for (path, (spoil, resign)) in cases {
        let key = KeyPair::new_user();
        let mut request = world.enroll_request(&key, TOKEN).await;
        spoil(&mut request);
        if resign {
            sign(&mut request, &key);
        }
        let refused = world.ask(request).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Invalid, "{path}: {refused}");
        assert_eq!(refused.errors[0].path, path, "{refused}");
    }
    assert_eq!(
        (world.count(USES_LEFT).await, world.count(MACHINES).await),
        (10_000, 0)
    );
}

fn labels(key: &str, value: &str) -> Labels {
    [(key.to_owned(), value.to_owned())].into()
}

#[tokio::test]
async fn every_bad_token_is_refused_in_words_that_a_person_understands() {
    let (world, _replica) = World::start().await;
    for (alteration, token, words) in [
        (
            None,
            "dfe_0000000000000000000000000000",
            "is not known here",
        ),
        (None, "dfk_0123456789abcdefghijklmnop", "begins with `dfe_`"),
        (None, "", "begins with `dfe_`"),
        (Some("uses_left = 0"), TOKEN, "is used up"),
        (
            Some("uses_left = 1, expires_at = now() - interval '1 h'"),
            TOKEN,
            "expired at 20",
        ),
        (
            Some("expires_at = now() + interval '1 h', revoked_at = now()"),
            TOKEN,
            "was revoked",
        ),
    ] {
        if let Some(alteration) = alteration {
            world
                .alter(&format!(
                    "UPDATE identity.enrollment_tokens SET {alteration}"
                ))
                .await;
        }
        let refused = world
            .enroll(&KeyPair::new_user(), token)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.kind, ProblemKind::Forbidden, "{refused}");
        assert!(refused.detail.contains(words), "{refused}");
    }
    assert_eq!(world.count(MACHINES).await, 0);
}

#[tokio::test]
async fn only_who_holds_the_key_can_enrol_it() {
    let (world, _replica) = World::start().await;
    let (victim, thief) = (KeyPair::new_user(), KeyPair::new_user());
    let mut forged = world.enroll_request(&victim, TOKEN).await;
    sign(&mut forged, &thief);
    let mut other_token = world.enroll_request(&victim, TOKEN).await;
    other_token.token.push('x');
    let mut other_challenge = world.enroll_request(&victim, TOKEN).await;
    other_challenge.challenge = world.ask(Challenge {}).await.unwrap().challenge;
    for request in [forged, other_token, other_challenge] {
        let refused = world.ask(request).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Forbidden, "{refused}");
        assert!(
            refused.detail.contains("does not hold this public key"),
            "{refused}"
        );
    }
    assert_eq!(
        (world.count(USES_LEFT).await, world.count(MACHINES).await),
        (10_000, 0)
    );
}

#[tokio::test]
async fn a_repetition_after_a_lost_answer_gives_the_same_machine_and_takes_no_second_use() {
    let (world, _replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    assert_eq!(world.enroll(&key, TOKEN).await.unwrap(), enrolled);
    // Also when nothing is left of the token by then.
    world
        .alter("UPDATE identity.enrollment_tokens SET uses_left = 0, revoked_at = now()")
        .await;
    assert_eq!(world.enroll(&key, TOKEN).await.unwrap(), enrolled);
    assert_eq!(
        (world.count(USES_LEFT).await, world.count(MACHINES).await),
        (0, 1)
    );
}

#[tokio::test]
async fn the_same_request_many_times_at_once_makes_one_machine() {
    let (world, _one) = World::start().await;
    let _two = world.replica().await;
    let key = KeyPair::new_user();
    let request = world.enroll_request(&key, TOKEN).await;
    let answers = join_all((0..16).map(|_| world.ask(request.clone()))).await;
    let first = answers[0].clone().unwrap();
    for answer in answers {
        assert_eq!(answer.unwrap(), first);
    }
    assert_eq!(
        (world.count(USES_LEFT).await, world.count(MACHINES).await),
        (9_999, 1)
    );
}

#[tokio::test]
async fn the_last_use_of_a_token_goes_to_one_machine() {
    let (world, _one) = World::start().await;
    world
        .alter("UPDATE identity.enrollment_tokens SET uses_left = 3")
        .await;
    let keys: Vec<KeyPair> = (0..12).map(|_| KeyPair::new_user()).collect();
    let answers = join_all(keys.iter().map(|key| world.enroll(key, TOKEN))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert_eq!(
        (world.count(USES_LEFT).await, world.count(MACHINES).await),
        (0, 3)
    );
}

#[tokio::test]
async fn a_key_enrolled_otherwise_is_a_conflict_and_a_revoked_one_is_refused_for_ever() {
    let (world, _replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    let second = "dfe_another-token-of-the-organisation";
    world
        .alter(&format!(
            "INSERT INTO identity.enrollment_tokens (org_id, id, name, hash, expires_at, uses_left)
             SELECT org_id, gen_random_uuid(), 'x', sha256('{second}'), expires_at, 5
             FROM identity.enrollment_tokens"
        ))
        .await;
    for token in [second, "dfe_0000000000000000000000000000"] {
        let refused = world.enroll(&key, token).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Conflict, "{refused}");
        assert!(refused.detail.contains("enrolled already"), "{refused}");
    }
    world.revoke(enrolled.machine_id).await.unwrap();
    for token in [TOKEN, second] {
        let refused = world.enroll(&key, token).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Forbidden, "{refused}");
        assert!(refused.detail.contains("was revoked"), "{refused}");
    }
    assert_eq!(world.count(MACHINES).await, 1);
    assert_eq!(
        world
            .count("SELECT min(uses_left)::bigint FROM identity.enrollment_tokens")
            .await,
        5
    );
}

#[tokio::test]
async fn until_action_gave_its_keys_nobody_enrols_and_no_use_is_lost() {
    let world = World::empty().await;
    let _replica = world.replica().await;
    let key = KeyPair::new_user();
    let refused = world.enroll(&key, TOKEN).await.err().unwrap();
    assert_eq!(refused.kind, ProblemKind::Unavailable);
    assert_eq!(world.count(USES_LEFT).await, 10_000);
    world.put_action_keys().await;
    assert!(world.enroll(&key, TOKEN).await.is_ok());
}

#[tokio::test]
async fn whoever_holds_a_key_learns_what_it_is_worth_and_nobody_else_does() {
    let (world, _replica) = World::start().await;
    let (key, enrolled) = world.machine().await;
    let stranger = KeyPair::new_user();
    let (org, machine_id) = (enrolled.organization_id, enrolled.machine_id);
    assert_eq!(standing(&world, &stranger).await, KeyStanding::Unknown);
    assert_eq!(standing(&world, &key).await, KeyStanding::Enrolled);
    let quarantine = MachineQuarantine {
        org,
        machine_id,
        reason: "a copy".into(),
    };
    world
        .action
        .service_call(&quarantine, None, PATIENCE)
        .await
        .unwrap();
    assert_eq!(standing(&world, &key).await, KeyStanding::Quarantined);
    world.revoke(machine_id).await.unwrap();
    assert_eq!(standing(&world, &key).await, KeyStanding::Revoked);

    let good = standing_request(&world, &key).await;
    let forged = standing_request(&world, &stranger).await.signature;
    let other = standing_request(&world, &key).await.challenge;
    for (request, kind) in [
        (
            StandingGet {
                signature: forged,
                ..good.clone()
            },
            ProblemKind::Forbidden,
        ),
        (
            StandingGet {
                challenge: other,
                ..good.clone()
            },
            ProblemKind::Forbidden,
        ),
        (
            StandingGet {
                challenge: "made-up".into(),
                ..good.clone()
            },
            ProblemKind::Invalid,
        ),
        (
            StandingGet {
                public_key: "x".into(),
                ..good.clone()
            },
            ProblemKind::Invalid,
        ),
    ] {
        assert_eq!(world.ask(request).await.err().unwrap().kind, kind);
    }
    // What was signed for an enrolment answers no such question, and the other way round.
    let enrolment = world.enroll_request(&key, TOKEN).await;
    let reused = StandingGet {
        challenge: enrolment.challenge,
        public_key: enrolment.public_key,
        signature: enrolment.signature,
    };
    assert_eq!(
        world.ask(reused).await.err().unwrap().kind,
        ProblemKind::Forbidden
    );
}

async fn standing_request(world: &World, key: &KeyPair) -> StandingGet {
    let challenge = world.ask(Challenge {}).await.unwrap().challenge;
    let signed = standing_message(&challenge, &key.public_key());
    let signature = STANDARD.encode(key.sign(&signed).unwrap());
    StandingGet {
        challenge,
        public_key: key.public_key(),
        signature,
    }
}

async fn standing(world: &World, key: &KeyPair) -> KeyStanding {
    let request = standing_request(world, key).await;
    world.ask(request).await.unwrap().standing
}
