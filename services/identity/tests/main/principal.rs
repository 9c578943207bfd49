//! Grants for principals who are not there: what they may do now, and nothing once they may nothing.

use bus::GrantVerifier;
use contract::grant::{Grant, PrincipalKind};
use contract::identity::{
    ApiKeyCreate, ApiKeyRevoke, KeyKind, Me, MemberEdit, MemberRemove, OrganizationClose,
    PrincipalGrant, PrincipalGranted,
};
use contract::{Problem, ProblemKind};
use domain::access::Role;
use domain::{CredentialId, OrgId, Timestamp};
use uuid::Uuid;

use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, World, kind};

fn of(org: OrgId, kind: PrincipalKind, id: Uuid) -> PrincipalGrant {
    PrincipalGrant {
        org,
        kind,
        id,
        credential: CredentialId(id),
    }
}

/// Asks as one of the services.
async fn ask_from(
    world: &World,
    service: &str,
    request: &PrincipalGrant,
) -> Result<PrincipalGranted, Problem> {
    let bus = world.nats.bus(service).await;
    bus.service_call(request, None, PATIENCE).await
}

async fn ask(world: &World, request: &PrincipalGrant) -> Result<PrincipalGranted, Problem> {
    ask_from(world, "scheduler", request).await
}

/// The grant, as the action service reads it.
async fn granted(world: &World, request: &PrincipalGrant) -> Grant {
    let granted = ask(world, request).await.unwrap();
    let verifier = GrantVerifier::over(&world.action, "action");
    let grant = verifier.verify(&granted.grant).await.unwrap();
    assert_eq!(grant.exp, granted.expires_at.millis() / 1_000);
    for elsewhere in ["identity", "scheduler", "metrics"] {
        let verifier = GrantVerifier::over(&world.action, elsewhere);
        assert!(verifier.verify(&granted.grant).await.is_err());
    }
    grant
}

/// Why there is no right.
async fn refusal(world: &World, request: &PrincipalGrant) -> String {
    let refused = ask(world, request).await.err().unwrap();
    assert_eq!(refused.kind, ProblemKind::Forbidden, "{refused}");
    refused.detail
}

#[tokio::test]
async fn a_person_has_the_role_of_now_and_nothing_when_gone() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, token) = world.join(&owner, "ann@example.org", Role::Operator).await;
    let session = world.exchange(&token).await.unwrap().credential;
    let request = PrincipalGrant {
        credential: session,
        ..of(world.org, PrincipalKind::User, ann.0)
    };
    let grant = granted(&world, &request).await;
    assert_eq!(
        (grant.org, grant.sub, grant.kind, grant.credential),
        (world.org, ann.0, PrincipalKind::User, session)
    );
    assert_eq!(
        (grant.exp - grant.iat, &grant.aud[..]),
        (60, &["action".to_owned()][..])
    );
    assert_eq!(grant.scopes, Role::Operator.scopes());

    let edit = MemberEdit {
        user_id: ann,
        role: Role::Viewer,
    };
    world.ask_as(&owner, edit).await.unwrap();
    // What was begun goes on when the session ends.
    world
        .alter("UPDATE identity.sessions SET revoked_at = now()")
        .await;
    let grant = granted(&world, &request).await;
    assert_eq!(
        (grant.role, grant.scopes),
        (Role::Viewer, Role::Viewer.scopes())
    );

    world
        .alter("UPDATE identity.users SET disabled_at = now() WHERE email = 'ann@example.org'")
        .await;
    assert!(refusal(&world, &request).await.contains("disabled"));
    world
        .alter("UPDATE identity.users SET disabled_at = NULL")
        .await;
    let owner = world.owner().await;
    let remove = MemberRemove { user_id: ann };
    world.ask_as(&owner, remove).await.unwrap();
    assert!(
        refusal(&world, &request)
            .await
            .contains("no longer a member")
    );
}

#[tokio::test]
async fn an_administrator_of_the_platform_has_the_role_alone() {
    let (world, _replica) = World::start().await;
    let me = world.ask_as(&world.owner().await, Me {}).await.unwrap();
    assert_eq!(me.email.as_deref(), Some(EMAIL));
    let request = of(world.org, PrincipalKind::User, me.id);
    assert_eq!(granted(&world, &request).await.scopes, Role::Owner.scopes());
}

#[tokio::test]
async fn a_key_has_what_it_has_now_and_nothing_when_it_is_no_longer_good() {
    let (world, _replica) = World::start().await;
    let owner = world.owner().await;
    let (ann, token) = world.join(&owner, "ann@example.org", Role::Admin).await;
    let create = ApiKeyCreate {
        name: "ci".into(),
        kind: KeyKind::Api,
        role: Some(Role::Admin),
        scopes: Some(vec!["actions:write".into(), "machines:write".into()]),
        networks: None,
        machine_cap: None,
        expires_at: None,
        idempotency_key: None,
    };
    let made = world.ask_as(&token, create).await.unwrap();
    let id = made.api_key.id;
    let request = PrincipalGrant {
        // Not believed: a key is its own credential.
        credential: CredentialId::new(),
        ..of(world.org, PrincipalKind::ApiKey, id.0)
    };
    let grant = granted(&world, &request).await;
    assert_eq!(
        (grant.sub, grant.kind, grant.credential),
        (id.0, PrincipalKind::ApiKey, id)
    );
    let exchanged = world.exchange(&made.key).await.unwrap();
    let verifier = GrantVerifier::over(&world.action, "action");
    let shown = verifier.verify(&exchanged.grant).await.unwrap();
    assert_eq!((grant.role, &grant.scopes), (shown.role, &shown.scopes));

    // Never more than its creator has now.
    let edit = MemberEdit {
        user_id: ann,
        role: Role::Operator,
    };
    world.ask_as(&owner, edit).await.unwrap();
    let grant = granted(&world, &request).await;
    assert_eq!(grant.scopes.names().collect::<Vec<_>>(), ["actions:write"]);

    // Never for longer than the key.
    world
        .alter(
            "UPDATE identity.api_keys SET expires_at = now() + interval '20 s' WHERE name = 'ci'",
        )
        .await;
    let ends = ask(&world, &request).await.unwrap().expires_at;
    assert!(ends.since(Timestamp::now()) <= chrono::Duration::seconds(20));
    for (alteration, words) in [
        ("expires_at = now()", "has expired"),
        (
            "expires_at = NULL, kind = 'LEGACY', machine_cap = 1, scopes = '{legacy:operator}'",
            "Dash-Fleet",
        ),
    ] {
        let alteration = format!("UPDATE identity.api_keys SET {alteration} WHERE name = 'ci'");
        world.alter(&alteration).await;
        assert!(refusal(&world, &request).await.contains(words), "{words}");
    }
    world
        .alter("UPDATE identity.api_keys SET kind = 'API', machine_cap = NULL, scopes = NULL WHERE name = 'ci'")
        .await;
    granted(&world, &request).await;
    world
        .alter("UPDATE identity.users SET disabled_at = now() WHERE email = 'ann@example.org'")
        .await;
    assert!(
        refusal(&world, &request)
            .await
            .contains("whoever made this API key")
    );
    world
        .alter("UPDATE identity.users SET disabled_at = NULL")
        .await;
    world
        .ask_as(&owner, ApiKeyRevoke { key_id: id })
        .await
        .unwrap();
    assert!(refusal(&world, &request).await.contains("was revoked"));
}

#[tokio::test]
async fn what_is_elsewhere_closed_or_nothing_at_all_has_no_right() {
    let (world, _replica) = World::start().await;
    let key = world.exchange(API_KEY).await.unwrap().credential;
    let me = world.ask_as(&world.owner().await, Me {}).await.unwrap();
    let (other, token) = world.organization("other").await;
    let of_key = of(world.org, PrincipalKind::ApiKey, key.0);
    granted(&world, &of_key).await;
    for request in [
        PrincipalGrant {
            org: other,
            ..of_key
        },
        of(OrgId::new(), PrincipalKind::User, me.id),
        of(world.org, PrincipalKind::User, Uuid::now_v7()),
        of(world.org, PrincipalKind::User, key.0),
        of(world.org, PrincipalKind::ApiKey, me.id),
    ] {
        refusal(&world, &request).await;
    }
    for nobody in [PrincipalKind::Service, PrincipalKind::Module] {
        let refused = ask(&world, &of(world.org, nobody, key.0)).await;
        assert_eq!(kind(refused), ProblemKind::Invalid);
    }
    let there = of(other, PrincipalKind::User, me.id);
    granted(&world, &there).await;
    let close = OrganizationClose {
        organization_id: other,
    };
    world.ask_as(&token, close).await.unwrap();
    assert!(refusal(&world, &there).await.contains("closed"));
}

#[tokio::test]
async fn only_the_scheduler_may_ask() {
    let (world, _replica) = World::start().await;
    let key = world.exchange(API_KEY).await.unwrap().credential;
    let request = of(world.org, PrincipalKind::ApiKey, key.0);
    for service in ["action", "metrics"] {
        let refused = ask_from(&world, service, &request).await;
        assert_eq!(kind(refused), ProblemKind::Forbidden, "{service}");
    }
    // The gateway's subject for it has nobody behind it, whatever right is shown.
    let tokens = world.login(EMAIL, PASSWORD, "a").await.unwrap();
    let unheard = world.ask_as(&tokens.access_token, request).await;
    assert_eq!(kind(unheard), ProblemKind::Unavailable);
}
