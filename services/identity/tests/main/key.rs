//! API keys: what they can have, whose they are, and what a repetition gives.

use contract::identity::{
    ApiKeyCreate, ApiKeyEdit, ApiKeyGet, ApiKeyList, ApiKeyRevoke, KeyKind, Me, MemberEdit,
    OrganizationEdit,
};
use contract::{Problem, ProblemKind};
use domain::access::{PEOPLE_ONLY, Role};
use domain::{CredentialId, Timestamp};

use crate::world::{API_KEY, World, kind};

fn create(role: Role) -> ApiKeyCreate {
    ApiKeyCreate {
        name: "ci".into(),
        kind: KeyKind::Api,
        role: Some(role),
        scopes: None,
        networks: None,
        machine_cap: None,
        expires_at: None,
        idempotency_key: None,
    }
}

fn legacy() -> ApiKeyCreate {
    ApiKeyCreate {
        kind: KeyKind::Legacy,
        role: None,
        scopes: Some(vec!["legacy:agent".into(), "legacy:operator".into()]),
        machine_cap: Some(3),
        ..create(Role::Viewer)
    }
}

fn list() -> ApiKeyList {
    ApiKeyList {
        limit: 50,
        cursor: None,
    }
}

async fn scopes(world: &World, credential: &str) -> Vec<String> {
    let me = world.ask_as(credential, Me {}).await.unwrap();
    me.scopes.names().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_key_is_made_shown_once_renamed_and_revoked() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let made = world
        .ask_as(
            &owner,
            ApiKeyCreate {
                scopes: Some(vec!["machines:read".into()]),
                networks: Some(vec!["10.0.0.0/8".into(), "::1".into()]),
                expires_at: Some(Timestamp::now().plus(chrono::Duration::hours(1))),
                ..create(Role::Operator)
            },
        )
        .await
        .unwrap();
    assert!(made.key.starts_with("dfk_"));
    let id = made.api_key.id;
    let exchanged = world.exchange(&made.key).await.unwrap();
    assert_eq!(exchanged.credential, id);
    assert_eq!(exchanged.networks.unwrap(), ["10.0.0.0/8", "::1"]);
    assert_eq!(scopes(&world, &made.key).await, ["machines:read"]);
    let shown = world
        .ask_as(API_KEY, ApiKeyGet { key_id: id })
        .await
        .unwrap();
    assert!(!serde_json::to_string(&shown).unwrap().contains(&made.key));
    assert_eq!(
        (shown.role, shown.machine_cap),
        (Some(Role::Operator), None)
    );
    let page = world.ask_as(API_KEY, list()).await.unwrap();
    let names: Vec<_> = page.items.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["ci", "bootstrap"], "the newest first");
    assert_eq!(page.items[1].created_by, None);
    let rename = ApiKeyEdit {
        key_id: id,
        name: "cd".into(),
    };
    assert_eq!(world.ask_as(&owner, rename).await.unwrap().name, "cd");
    for _ in 0..2 {
        world
            .ask_as(&owner, ApiKeyRevoke { key_id: id })
            .await
            .unwrap();
    }
    assert!(
        world
            .exchange(&made.key)
            .await
            .err()
            .unwrap()
            .detail
            .contains("was revoked")
    );
    let revoked = world
        .ask_as(&owner, ApiKeyGet { key_id: id })
        .await
        .unwrap();
    assert!(revoked.revoked_at.is_some());
}

#[tokio::test]
async fn what_a_key_cannot_have_is_refused_by_its_field() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let scoped = |scope: &str| ApiKeyCreate {
        scopes: Some(vec!["machines:read".into(), scope.into()]),
        ..create(Role::Operator)
    };
    let past = Timestamp::now().plus(-chrono::Duration::seconds(1));
    let mut cases: Vec<(ApiKeyCreate, &str)> = vec![
        (
            ApiKeyCreate {
                name: " x".into(),
                ..create(Role::Viewer)
            },
            "name",
        ),
        (
            ApiKeyCreate {
                role: None,
                ..create(Role::Viewer)
            },
            "role",
        ),
        (
            ApiKeyCreate {
                machine_cap: Some(1),
                ..create(Role::Viewer)
            },
            "machineCap",
        ),
        (
            ApiKeyCreate {
                networks: Some(vec![]),
                ..create(Role::Viewer)
            },
            "networks",
        ),
        (
            ApiKeyCreate {
                networks: Some(vec!["ten".into()]),
                ..create(Role::Viewer)
            },
            "networks[0]",
        ),
        (
            ApiKeyCreate {
                expires_at: Some(past),
                ..create(Role::Viewer)
            },
            "expiresAt",
        ),
        (scoped("machines:fly"), "scopes[1]"),
        (scoped("machines:write"), "scopes[1]"),
        (scoped("legacy:agent"), "scopes[1]"),
        (
            ApiKeyCreate {
                role: Some(Role::Owner),
                ..legacy()
            },
            "role",
        ),
        (
            ApiKeyCreate {
                machine_cap: None,
                ..legacy()
            },
            "machineCap",
        ),
        (
            ApiKeyCreate {
                machine_cap: Some(0),
                ..legacy()
            },
            "machineCap",
        ),
        (
            ApiKeyCreate {
                scopes: None,
                ..legacy()
            },
            "scopes",
        ),
        (
            ApiKeyCreate {
                scopes: Some(vec!["machines:read".into()]),
                ..legacy()
            },
            "scopes[0]",
        ),
    ];
    cases.extend(PEOPLE_ONLY.map(|scope| {
        let request = ApiKeyCreate {
            role: Some(Role::Owner),
            ..scoped(scope)
        };
        (request, "scopes[1]")
    }));
    for (request, path) in cases {
        let refused = world.ask_as(&owner, request.clone()).await.err().unwrap();
        assert_eq!(refused.kind, ProblemKind::Invalid, "{request:?}");
        assert_eq!(refused.errors[0].path, path, "{request:?}");
    }
    // The empty scope is taken, and denies.
    let nothing = ApiKeyCreate {
        scopes: Some(vec![]),
        ..create(Role::Owner)
    };
    let made = world.ask_as(&owner, nothing).await.unwrap();
    assert_eq!(scopes(&world, &made.key).await, [""; 0]);
}

#[tokio::test]
async fn keys_make_no_keys_and_nobody_makes_one_above_themselves() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (_, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let (_, operator) = world.join(&owner, "op@example.org", Role::Operator).await;
    for (credential, role) in [
        (API_KEY, Role::Viewer),
        (admin.as_str(), Role::Owner),
        (operator.as_str(), Role::Viewer),
    ] {
        let refused = world.ask_as(credential, create(role)).await;
        assert_eq!(kind(refused), ProblemKind::Forbidden, "{role}");
    }
    let made = world.ask_as(&owner, create(Role::Owner)).await.unwrap();
    let has = scopes(&world, &made.key).await;
    for scope in PEOPLE_ONLY {
        assert!(!has.iter().any(|has| has == scope), "{scope}");
    }
    let refused = world.ask_as(&made.key, create(Role::Viewer)).await;
    assert_eq!(kind(refused), ProblemKind::Forbidden);
    let revoke = ApiKeyRevoke {
        key_id: made.api_key.id,
    };
    assert_eq!(
        kind(world.ask_as(&made.key, revoke).await),
        ProblemKind::Forbidden
    );
}

#[tokio::test]
async fn a_key_has_never_more_than_its_maker_has_now() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, admin) = world.join(&owner, "ann@example.org", Role::Admin).await;
    let key = world.ask_as(&admin, create(Role::Admin)).await.unwrap().key;
    let old = world.ask_as(&admin, legacy()).await.unwrap().key;
    let enable = OrganizationEdit {
        organization_id: world.org,
        name: None,
        legacy_enabled: Some(true),
    };
    world.ask_as(&owner, enable).await.unwrap();
    assert_eq!(
        scopes(&world, &old).await,
        ["legacy:agent", "legacy:operator"]
    );
    for (role, old_scopes) in [
        (Role::Operator, vec!["legacy:agent", "legacy:operator"]),
        (Role::Viewer, vec!["legacy:agent"]),
        (Role::Admin, vec!["legacy:agent", "legacy:operator"]),
    ] {
        let edit = MemberEdit { user_id: ann, role };
        world.ask_as(&owner, edit).await.unwrap();
        let me = world.ask_as(&key, Me {}).await.unwrap();
        assert_eq!(me.scopes, role.scopes().without_people_only(), "{role}");
        assert_eq!(me.role, role);
        assert_eq!(scopes(&world, &old).await, old_scopes, "{role}");
    }
    world
        .alter("UPDATE identity.users SET disabled_at = now() WHERE email = 'ann@example.org'")
        .await;
    assert_eq!(
        kind(world.exchange(&key).await),
        ProblemKind::Unauthenticated
    );
}

#[tokio::test]
async fn a_repetition_gives_the_same_key_and_no_second_one() {
    let (world, _one) = World::start().await;
    let _two = world.replica().await;
    let owner = world.owner().await;
    let (_, admin) = world.join(&owner, "admin@example.org", Role::Admin).await;
    let request = || ApiKeyCreate {
        idempotency_key: Some("k-1".into()),
        ..create(Role::Viewer)
    };
    let (a, b, c) = tokio::join!(
        world.ask_as(&owner, request()),
        world.ask_as(&owner, request()),
        world.ask_as(&owner, request()),
    );
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    assert!(a.key == b.key && b.key == c.key);
    assert!(a.api_key.id == b.api_key.id && b.api_key.id == c.api_key.id);
    assert!(world.exchange(&a.key).await.is_ok());
    let keys = "SELECT count(*) FROM identity.api_keys WHERE created_by IS NOT NULL";
    assert_eq!(world.count(keys).await, 1);
    let other = ApiKeyCreate {
        name: "other".into(),
        ..request()
    };
    assert_eq!(
        kind(world.ask_as(&owner, other).await),
        ProblemKind::Conflict
    );
    // Somebody else with the same key is no repetition: the secret is not theirs.
    assert_eq!(
        kind(world.ask_as(&admin, request()).await),
        ProblemKind::Conflict
    );
    world
        .alter("UPDATE identity.api_keys SET hash = sha256('x') WHERE name = 'ci'")
        .await;
    let gone = world.ask_as(&owner, request()).await.err().unwrap();
    assert!(
        gone.detail.contains("no longer be shown"),
        "{}",
        gone.detail
    );
}

#[tokio::test]
async fn another_organisations_keys_are_nowhere() {
    let (world, _replica) = World::start().await;
    let (_, there) = world.organization("second").await;
    let mine = world.exchange(API_KEY).await.unwrap().credential;
    for key_id in [mine, CredentialId::new()] {
        let words = Problem::not_found("API key");
        let rename = ApiKeyEdit {
            key_id,
            name: "x".into(),
        };
        assert_eq!(
            world
                .ask_as(&there, ApiKeyGet { key_id })
                .await
                .err()
                .unwrap(),
            words
        );
        assert_eq!(world.ask_as(&there, rename).await.err().unwrap(), words);
        assert_eq!(
            world
                .ask_as(&there, ApiKeyRevoke { key_id })
                .await
                .err()
                .unwrap(),
            words
        );
    }
    assert!(world.ask_as(&there, list()).await.unwrap().items.is_empty());
    assert!(world.exchange(API_KEY).await.is_ok());
}
