//! The command `bootstrap`, also as a process.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use contract::identity::{Me, PasswordReset};
use domain::access::{PLATFORM_ADMIN, Role};
use testkit::{Postgres, TestDatabase};

use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, TOKEN, World, bootstrap, secret_of};

#[tokio::test]
async fn it_can_run_again_and_changes_nothing_but_an_expired_token() {
    let world = World::empty().await;
    let _replica = world.replica().await;
    let rows = "SELECT (SELECT count(*) FROM identity.organizations) * 10000
        + (SELECT count(*) FROM identity.users) * 1000 + (SELECT count(*) FROM identity.memberships) * 100
        + (SELECT count(*) FROM identity.api_keys) * 10 + (SELECT count(*) FROM identity.enrollment_tokens)";
    assert_eq!(world.count(rows).await, 11_111);
    let again = async || {
        bootstrap(
            &world.database,
            "default",
            EMAIL,
            Some(API_KEY),
            Some(TOKEN),
        )
        .await
    };
    world
        .alter("UPDATE identity.enrollment_tokens SET uses_left = 7")
        .await;
    let results = tokio::join!(again(), again(), again());
    assert_eq!(results, (Ok(world.org), Ok(world.org), Ok(world.org)));
    assert_eq!(world.count(rows).await, 11_111);
    let uses = "SELECT uses_left::bigint FROM identity.enrollment_tokens";
    let days =
        "SELECT extract(day FROM expires_at - now())::bigint FROM identity.enrollment_tokens";
    assert_eq!(world.count(uses).await, 7);
    world
        .alter("UPDATE identity.enrollment_tokens SET expires_at = now()")
        .await;
    assert_eq!(again().await, Ok(world.org));
    assert_eq!(
        (world.count(uses).await, world.count(days).await),
        (10_000, 29)
    );
    world
        .alter("UPDATE identity.enrollment_tokens SET expires_at = now(), revoked_at = now()")
        .await;
    assert_eq!(again().await, Ok(world.org));
    assert_eq!(
        world
            .count("SELECT count(revoked_at) FROM identity.enrollment_tokens")
            .await,
        1
    );
    assert!(world.login(EMAIL, PASSWORD, "a").await.is_ok());
}

#[tokio::test]
async fn a_secret_of_another_organisation_is_not_taken_over() {
    let database = Postgres::shared().await.database().await;
    bootstrap(&database, "one", EMAIL, Some(API_KEY), Some(TOKEN))
        .await
        .unwrap();
    for (key, token, variable) in [
        (Some(API_KEY), None, "API_KEY"),
        (None, Some(TOKEN), "ENROLLMENT_TOKEN"),
    ] {
        let refused = bootstrap(&database, "two", "two@example.org", key, token).await;
        assert!(
            refused.as_ref().is_err_and(|text| text.contains(variable)),
            "{refused:?}"
        );
    }
    // One person, two organisations.
    assert!(bootstrap(&database, "two", EMAIL, None, None).await.is_ok());
}

/// Its code, and what it said to whom.
fn ended(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Runs a command for one account.
fn rescue(database: &TestDatabase, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dashfleet-identity"))
        .args(arguments)
        .env_clear()
        .env("DASHFLEET_DATABASE_URL", database.url("df_identity"))
        .env(
            "DASHFLEET_DATABASE_SYSTEM_URL",
            database.url("df_identity_system"),
        )
        .env("DASHFLEET_PUBLIC_URL", "https://fleet.example.org")
        .output()
        .unwrap();
    ended(&output)
}

#[tokio::test]
async fn whoever_is_locked_out_gets_a_link_and_whoever_is_needed_administers() {
    let (world, _replica) = World::start().await;
    let (code, link, err) = rescue(&world.database, &["password-reset", "Owner@example.org"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        link.starts_with("https://fleet.example.org/password-reset#dfp_"),
        "{link}"
    );
    let reset = PasswordReset {
        token: secret_of(link.trim()),
        password: "a new and better password".into(),
    };
    world.ask(reset).await.unwrap();
    let login = world.login(EMAIL, "a new and better password", "a").await;
    let owner = login.unwrap().access_token;
    assert!(world.login(EMAIL, PASSWORD, "a").await.is_err());

    let (_, ann) = world.join(&owner, "ann@example.org", Role::Viewer).await;
    let administers = async |credential: &str| {
        let me = world.ask_as(credential, Me {}).await.unwrap();
        me.scopes.allows(PLATFORM_ADMIN)
    };
    assert!(administers(&owner).await && !administers(&ann).await);
    let (code, _, err) = rescue(&world.database, &["platform-admin", "ann@example.org"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(administers(&ann).await);
    // Both are told of where those people are members.
    testkit::eventually("the commands are told of", PATIENCE, || async {
        let told = "SELECT count(*) FROM identity.audit_events
            WHERE actor_kind = 'SERVICE' AND call IN ('member.reset', 'platform.admin') AND reason LIKE '%reaches the database'";
        (world.count(told).await == 2).then_some(())
    })
    .await;
    for command in ["password-reset", "platform-admin"] {
        let (code, _, err) = rescue(&world.database, &[command, "nobody@example.org"]);
        assert!(code == Some(1) && err.contains("no account"), "{err}");
        let (code, _, err) = rescue(&world.database, &[command]);
        assert!(code == Some(64) && err.contains("ADDRESS"), "{err}");
    }
}

#[tokio::test]
async fn only_the_first_admin_of_all_is_platform_administrator() {
    let world = World::empty().await;
    bootstrap(&world.database, "two", "two@example.org", None, None)
        .await
        .unwrap();
    let _replica = world.replica().await;
    for (email, expected) in [(EMAIL, true), ("two@example.org", false)] {
        let tokens = world.login(email, PASSWORD, "a").await.unwrap();
        let me = world.ask_as(&tokens.access_token, Me {}).await.unwrap();
        assert_eq!(me.scopes.allows(PLATFORM_ADMIN), expected, "{email}");
    }
}

fn command(database: &TestDatabase, change: Option<(&str, &str)>) -> (Option<i32>, String, String) {
    let mut environment: BTreeMap<&str, String> = [
        ("DASHFLEET_DATABASE_URL", database.url("df_identity")),
        (
            "DASHFLEET_DATABASE_SYSTEM_URL",
            database.url("df_identity_system"),
        ),
        ("DASHFLEET_BOOTSTRAP_ADMIN_EMAIL", EMAIL.to_owned()),
        ("DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD", PASSWORD.to_owned()),
        ("DASHFLEET_BOOTSTRAP_API_KEY", API_KEY.to_owned()),
        ("DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN", TOKEN.to_owned()),
    ]
    .into();
    if let Some((name, value)) = change {
        environment.insert(name, value.to_owned());
    }
    let output = Command::new(env!("CARGO_BIN_EXE_dashfleet-identity"))
        .arg("bootstrap")
        .env_clear()
        .envs(environment)
        .output()
        .unwrap();
    ended(&output)
}

#[tokio::test]
async fn the_process_prints_the_organisation_and_names_a_bad_variable() {
    let database = Postgres::shared().await.database().await;
    let (code, out, err) = command(&database, None);
    assert_eq!(code, Some(0), "{err}");
    let printed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(
        printed["organizationId"]
            .as_str()
            .unwrap()
            .parse::<domain::OrgId>()
            .is_ok()
    );
    assert_eq!(command(&database, None).1, out);
    for (name, value) in [
        ("DASHFLEET_BOOTSTRAP_ADMIN_EMAIL", "nobody"),
        ("DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD", "short"),
        ("DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD", "password1234"),
        (
            "DASHFLEET_BOOTSTRAP_API_KEY",
            "dfe_0123456789abcdefghijklmnop",
        ),
        ("DASHFLEET_BOOTSTRAP_API_KEY", "dfk_short"),
        (
            "DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN",
            "0123456789abcdefghijklmnop",
        ),
        ("DASHFLEET_DATABASE_URL", ""),
    ] {
        let (code, _, err) = command(&database, Some((name, value)));
        assert_eq!(code, Some(64), "{err}");
        assert!(err.contains(name), "{err}");
        assert!(
            value.len() < 10 || !err.contains(value),
            "a secret is shown: {err}"
        );
    }
    let (code, _, err) = command(
        &database,
        Some((
            "DASHFLEET_DATABASE_SYSTEM_URL",
            "postgres://df_identity_system:test@127.0.0.1:1/x",
        )),
    );
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("database"), "{err}");
}
