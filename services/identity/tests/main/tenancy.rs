//! Row-level security: a transaction of one organisation sees and writes nothing of another's, in any table.

use contract::ProblemKind;
use contract::identity::{EnrollmentTokenCreate, MachineRevoke, MemberInvite};
use domain::access::Role;
use nkeys::KeyPair;
use sqlx::AssertSqlSafe;
use testkit::eventually;

use crate::audit::Countersigner;
use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, World, bootstrap};

const OTHER_EMAIL: &str = "other@example.org";
const OTHER_KEY: &str = "dfk_other-organisation-0123456789";
const OTHER_TOKEN: &str = "dfe_other-organisation-0123456789";

/// Tables without org_id, each with its reason in the migration.
const GLOBAL: [&str; 3] = ["action_keys", "deployment", "users"];

#[tokio::test]
async fn a_tenant_transaction_sees_only_its_own_rows_of_every_table() {
    let (world, _replica) = World::start().await;
    let other = bootstrap(
        &world.database,
        "other",
        OTHER_EMAIL,
        Some(OTHER_KEY),
        Some(OTHER_TOKEN),
    )
    .await;
    let other = other.unwrap();
    world.machine().await;
    world
        .enroll(&KeyPair::new_user(), OTHER_TOKEN)
        .await
        .unwrap();
    world.login(EMAIL, PASSWORD, "a").await.unwrap();
    world.login(OTHER_EMAIL, PASSWORD, "a").await.unwrap();
    for email in [EMAIL, OTHER_EMAIL] {
        let tokens = world.login(email, PASSWORD, "a").await.unwrap();
        let invite = MemberInvite {
            email: "guest@example.org".into(),
            role: Role::Viewer,
        };
        world.ask_as(&tokens.access_token, invite).await.unwrap();
        let create = EnrollmentTokenCreate {
            name: "rack".into(),
            labels: domain::labels::Labels::new(),
            uses: None,
            hourly_cap: None,
            expires_at: None,
            idempotency_key: Some("k".into()),
        };
        world.ask_as(&tokens.access_token, create).await.unwrap();
    }

    // Both have a chain in the audit, and its ends are signed.
    eventually("both logins are in the audit", PATIENCE, || async {
        let chains =
            "SELECT count(DISTINCT org_id) FROM identity.audit_events WHERE call = 'auth.login'";
        (world.count(chains).await == 2).then_some(())
    })
    .await;
    Countersigner::start(&world).await.sign(&world).await;

    let pools = world.database.pools("identity");
    let tables: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT relname::text, relrowsecurity AND relforcerowsecurity,
             has_any_column_privilege('df_identity', oid, 'SELECT')
         FROM pg_class WHERE relnamespace = 'identity'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')",
    )
    .fetch_all(pools.system())
    .await
    .unwrap();
    assert!(tables.len() >= 10, "{tables:?}");
    let mut read = 0;
    for (table, forced, readable) in &tables {
        assert!(forced, "{table} has no forced row-level security");
        if !readable {
            continue;
        }
        read += 1;
        let column = if GLOBAL.contains(&table.as_str()) {
            "id"
        } else {
            "org_id"
        };
        let sql = format!("SELECT {column} FROM identity.{table}");
        let mut seen = Vec::new();
        for org in [world.org, other] {
            let mut tx = pools.tenant_tx(org).await.unwrap();
            let rows: Vec<uuid::Uuid> = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
                .fetch_all(&mut *tx)
                .await
                .unwrap();
            assert!(!rows.is_empty(), "{table} shows {org} its own rows");
            if column == "org_id" {
                assert!(
                    rows.iter().all(|row| *row == org.0),
                    "{table} shows {org} another's rows"
                );
            }
            seen.push(rows);
        }
        assert!(
            seen[0].iter().all(|row| !seen[1].contains(row)),
            "{table} shows both the same"
        );
        let mut nobody = pools.tenant_tx(domain::OrgId::new()).await.unwrap();
        let rows: Vec<uuid::Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut *nobody)
            .await
            .unwrap();
        assert!(
            rows.is_empty(),
            "{table} shows rows to an organisation that has none"
        );
    }
    assert!(read >= 7, "{read}");
}

#[tokio::test]
async fn a_tenant_transaction_writes_nothing_into_another_organisation() {
    let (world, _replica) = World::start().await;
    let other = bootstrap(
        &world.database,
        "other",
        OTHER_EMAIL,
        None,
        Some(OTHER_TOKEN),
    )
    .await
    .unwrap();
    let foreign = world
        .enroll(&KeyPair::new_user(), OTHER_TOKEN)
        .await
        .unwrap();
    world.login(OTHER_EMAIL, PASSWORD, "a").await.unwrap();
    let pools = world.database.pools("identity");
    for sql in [
        "UPDATE identity.machines SET revoked_at = now()".to_owned(),
        "UPDATE identity.sessions SET revoked_at = now()".to_owned(),
    ] {
        let mut tx = pools.tenant_tx(world.org).await.unwrap();
        let done = sqlx::query(AssertSqlSafe(sql.clone()))
            .execute(&mut *tx)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 0, "{sql}");
    }
    for sql in [
        format!(
            "INSERT INTO identity.outbox (id, org_id, noun, verb, subject_id, version, at, data)
             VALUES (gen_random_uuid(), '{other}', 'key', 'revoked', gen_random_uuid(), 1, now(), '{{}}')"
        ),
        "SELECT password_hash FROM identity.users".to_owned(),
        "SELECT hash FROM identity.api_keys".to_owned(),
        "SELECT access_hash FROM identity.sessions".to_owned(),
        "UPDATE identity.machines SET public_key = 'x'".to_owned(),
        "DELETE FROM identity.machines".to_owned(),
        "SELECT hash FROM identity.invitations".to_owned(),
        "SELECT * FROM identity.password_resets".to_owned(),
        "UPDATE identity.users SET platform_admin = true".to_owned(),
        "UPDATE identity.api_keys SET role = 'OWNER'".to_owned(),
    ] {
        let mut tx = pools.tenant_tx(world.org).await.unwrap();
        let refused = sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut *tx).await;
        assert!(refused.is_err(), "{sql}");
    }
    let words = world
        .ask_as(
            API_KEY,
            MachineRevoke {
                machine_id: foreign.machine_id,
            },
        )
        .await
        .err();
    let words = words.unwrap();
    assert_eq!(words.kind, ProblemKind::NotFound);
    let nowhere = MachineRevoke {
        machine_id: domain::MachineId::new(),
    };
    assert_eq!(world.ask_as(API_KEY, nowhere).await.err().unwrap(), words);
    assert_eq!(
        world
            .count("SELECT count(revoked_at) FROM identity.machines")
            .await,
        0
    );
}

#[tokio::test]
async fn a_key_of_another_organisation_cannot_be_enrolled_here() {
    let (world, _replica) = World::start().await;
    bootstrap(
        &world.database,
        "other",
        OTHER_EMAIL,
        None,
        Some(OTHER_TOKEN),
    )
    .await
    .unwrap();
    let (key, _) = world.machine().await;
    let refused = world.enroll(&key, OTHER_TOKEN).await.err().unwrap();
    assert_eq!(refused.kind, ProblemKind::Conflict);
    assert_eq!(
        world.count("SELECT count(*) FROM identity.machines").await,
        1
    );
}
