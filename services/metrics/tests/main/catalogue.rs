//! The catalogue: what the migration promises about every table of this service, partitions included.

use contract::metrics::SERVICE;

use crate::main::world::World;
use dashfleet_metrics::Timing;

async fn offenders(world: &World, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql)
        .fetch_all(world.database.pools(SERVICE).system())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_is_forced_on_every_table() {
    let world = World::with(Timing::default(), 1).await;
    let tables = offenders(&world, "SELECT relname::text FROM pg_class WHERE relnamespace = 'metrics'::regnamespace AND relkind IN ('r', 'p')").await;
    assert!(tables.len() > 15, "partitions are there: {tables:?}");
    let unforced = "SELECT relname::text FROM pg_class WHERE relnamespace = 'metrics'::regnamespace AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity)";
    assert_eq!(offenders(&world, unforced).await, [""; 0]);
    let owned = "SELECT relname::text FROM pg_class WHERE relnamespace = 'metrics'::regnamespace AND relowner <> 'df_owner'::regrole";
    assert_eq!(offenders(&world, owned).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_have_a_policy_on_every_table_with_an_organisation_and_no_grant_on_partitions() {
    let world = World::with(Timing::default(), 1).await;
    let without = "
        SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = 'metrics'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id')
            AND (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname IN ('tenant', 'system')) <> 2";
    assert_eq!(offenders(&world, without).await, [""; 0]);
    let orgless = "
        SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = 'metrics'::regnamespace AND c.relkind IN ('r', 'p')
            AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id') ORDER BY 1";
    assert_eq!(offenders(&world, orgless).await, ["cursors", "servers"]);
    let granted = "SELECT c.relname || ' to ' || g.grantee::regrole FROM pg_class c, aclexplode(c.relacl) g WHERE c.relispartition AND c.relnamespace = 'metrics'::regnamespace AND g.grantee <> c.relowner";
    assert_eq!(offenders(&world, granted).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_begin_with_the_organisation() {
    let world = World::without_metrics(Timing::default()).await;
    let others = "
        SELECT con.conname::text FROM pg_constraint con
        JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = con.conkey[1]
        WHERE con.connamespace = 'metrics'::regnamespace AND con.contype IN ('p', 'u', 'f') AND a.attname <> 'org_id' ORDER BY 1";
    assert_eq!(
        offenders(&world, others).await,
        [
            "audit_outbox_pkey",
            "cursors_pkey",
            "outbox_pkey",
            "servers_pkey"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_closed() {
    let world = World::without_metrics(Timing::default()).await;
    let open = "
        SELECT p.proname::text FROM pg_proc p
        WHERE p.pronamespace = 'metrics'::regnamespace
            AND (NOT p.prosecdef OR p.proowner <> 'df_owner'::regrole OR NOT 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig)
                OR has_function_privilege('df_metrics', p.oid, 'EXECUTE') OR has_function_privilege('df_action_system', p.oid, 'EXECUTE')
                OR NOT has_function_privilege('df_metrics_system', p.oid, 'EXECUTE'))";
    assert_eq!(offenders(&world, open).await, [""; 0]);
    assert_eq!(
        offenders(
            &world,
            "SELECT proname::text FROM pg_proc WHERE pronamespace = 'metrics'::regnamespace"
        )
        .await
        .len(),
        2
    );
}
