//! Credentials and the grants that they are exchanged for.

use bus::GrantVerifier;
use contract::ProblemKind;
use contract::grant::{LIFETIME_SECONDS, PrincipalKind};
use contract::identity::{JwksGet, Logout, MachineRevoke, Me};
use domain::access::{MACHINES_WRITE, Role};
use domain::{MachineId, Timestamp};
use testkit::eventually;

use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, World};

#[tokio::test]
async fn a_grant_is_verified_by_other_services_and_lives_five_minutes() {
    let (world, _replica) = World::start().await;
    let exchanged = world.exchange(API_KEY).await.unwrap();
    let verifier = GrantVerifier::over(&world.action, "action");
    let grant = verifier.verify(&exchanged.grant).await.unwrap();
    assert_eq!(
        (grant.org, grant.kind, grant.role),
        (world.org, PrincipalKind::ApiKey, Role::Owner)
    );
    assert_eq!(
        grant.aud,
        ["identity", "action", "metrics", "scheduler", "worker"]
    );
    assert_eq!(
        (grant.exp - grant.iat, grant.credential),
        (LIFETIME_SECONDS, exchanged.credential)
    );
    assert_eq!(
        grant.scopes,
        Role::Owner.scopes().without_people_only(),
        "what is for people only no key has"
    );
    assert_eq!(exchanged.expires_at.millis() / 1_000, grant.exp);
    let elsewhere = GrantVerifier::over(&world.action, "billing");
    assert!(
        elsewhere.verify(&exchanged.grant).await.is_err(),
        "not for everybody"
    );
}

#[tokio::test]
async fn a_grant_does_not_outlive_its_credential() {
    let (world, _replica) = World::start().await;
    let tokens = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    world
        .alter("UPDATE identity.sessions SET access_expires_at = now() + interval '20 s'")
        .await;
    let ends = world
        .exchange(&tokens.access_token)
        .await
        .unwrap()
        .expires_at;
    assert!(ends.since(Timestamp::now()) <= chrono::Duration::seconds(20));
    world
        .alter("UPDATE identity.api_keys SET expires_at = now() + interval '20 s'")
        .await;
    let ends = world.exchange(API_KEY).await.unwrap().expires_at;
    assert!(ends.since(Timestamp::now()) <= chrono::Duration::seconds(20));
}

#[tokio::test]
async fn every_bad_credential_is_refused_in_its_own_words() {
    let (world, _replica) = World::start().await;
    for (alteration, words) in [
        ("SELECT", "is not known"),
        (
            "UPDATE identity.api_keys SET revoked_at = now()",
            "was revoked",
        ),
        (
            "UPDATE identity.api_keys SET revoked_at = NULL, expires_at = now()",
            "has expired",
        ),
    ] {
        world.alter(alteration).await;
        let key = if alteration == "SELECT" {
            "dfk_unknown"
        } else {
            API_KEY
        };
        let refused = world.exchange(key).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Unauthenticated, "{words}");
        assert!(refused.detail.contains(words), "{}", refused.detail);
    }
    let huge = format!("dfk_{}", "x".repeat(100_000));
    for text in [
        "",
        "dfe_0123456789abcdefghijklmnop",
        "dfa_",
        "Bearer x",
        "\0",
        huge.as_str(),
    ] {
        let refused = world.exchange(text).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Unauthenticated, "{text:.20}");
    }
    let tokens = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    world
        .alter("ALTER TABLE identity.sessions DROP CONSTRAINT sessions_membership_fkey")
        .await;
    world.alter("DELETE FROM identity.memberships").await;
    let stranger = world.exchange(&tokens.access_token).await.err().unwrap();
    assert!(
        stranger.detail.contains("no longer a member"),
        "{}",
        stranger.detail
    );
}

#[tokio::test]
async fn scopes_narrow_a_key_and_the_empty_scope_denies() {
    let (world, _replica) = World::start().await;
    let revoke = || MachineRevoke {
        machine_id: MachineId::new(),
    };
    let all = world.ask_as(API_KEY, revoke()).await.err().unwrap();
    assert_eq!(all.kind, ProblemKind::NotFound);
    for scopes in ["'{}'", "'{machines:read,actions:write}'"] {
        world
            .alter(&format!("UPDATE identity.api_keys SET scopes = {scopes}"))
            .await;
        let refused = world.ask_as(API_KEY, revoke()).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Forbidden);
        assert!(
            refused.detail.contains(MACHINES_WRITE),
            "{}",
            refused.detail
        );
    }
    // A key has never more than its role.
    world
        .alter("UPDATE identity.api_keys SET role = 'VIEWER', scopes = '{machines:read,machines:write}'")
        .await;
    let me = world.ask_as(API_KEY, Me {}).await.unwrap();
    assert_eq!(me.scopes.names().collect::<Vec<_>>(), ["machines:read"]);
}

#[tokio::test]
async fn without_a_grant_nothing_that_needs_one_is_done() {
    let (world, _replica) = World::start().await;
    let id = MachineId::new();
    for refused in [
        world.ask(Me {}).await.err(),
        world.ask(Logout {}).await.err(),
        world.ask(MachineRevoke { machine_id: id }).await.err(),
        world
            .gateway
            .gateway_call(&Me {}, Some("forged"), PATIENCE)
            .await
            .err(),
    ] {
        assert_eq!(
            refused.map(|problem| problem.kind),
            Some(ProblemKind::Unauthenticated)
        );
    }
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_at_most_once_a_minute() {
    let (world, _replica) = World::start().await;
    let noted = "SELECT count(last_used_at) FROM identity.api_keys";
    assert_eq!(world.count(noted).await, 0);
    let key = world.exchange(API_KEY).await.unwrap();
    eventually("the use is noted", PATIENCE, || async {
        (world.count(noted).await == 1).then_some(())
    })
    .await;
    let earlier = "UPDATE identity.api_keys SET last_used_at = now() - interval '30 s'";
    world.alter(earlier).await;
    assert_eq!(
        world.exchange(API_KEY).await.unwrap().credential,
        key.credential
    );
    let age = "SELECT extract(epoch FROM now() - last_used_at)::bigint FROM identity.api_keys";
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(world.count(age).await >= 29);
    world
        .alter("UPDATE identity.api_keys SET last_used_at = now() - interval '61 s'")
        .await;
    world.exchange(API_KEY).await.unwrap();
    eventually("the use is noted again", PATIENCE, || async {
        (world.count(age).await < 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_replica_gives_the_same_keys() {
    let (world, one) = World::start().await;
    let keys = world.ask(JwksGet {}).await.unwrap();
    one.stop().await;
    let _two = world.replica().await;
    assert_eq!(world.ask(JwksGet {}).await.unwrap(), keys);
    assert_eq!(keys.keys.len(), 2, "the one in use and the next");
}
