//! Tenancy as the database's own catalogue shows it (DESIGN §10): what no service can get around, however it errs.

use std::collections::BTreeMap;

use domain::{MachineId, OrgId};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use testkit::{Postgres, TestDatabase};

/// Schemas of the services that own data.
const SCHEMAS: [&str; 3] = ["identity", "action", "metrics"];

/// The condition of every tenant policy, as PostgreSQL prints it.
const TENANT: &str =
    "(org_id = ( SELECT (NULLIF(current_setting('df.org'::text, true), ''::text))::uuid AS \"nullif\"))";

/// Tables that belong to no organisation, and why that is right.
const NO_ORGANISATION: [(&str, &str); 6] = [
    ("identity.deployment", "one row: which installation this is"),
    ("identity.action_keys", "public keys, the same for everybody"),
    ("identity.users", "a person can be a member of several; the tenant policy goes through memberships"),
    ("action.cursors", "how far a feed of all organisations was read"),
    ("metrics.cursors", "likewise"),
    ("metrics.servers", "the bus' own servers"),
];

/// Unique and foreign keys that do not begin with the organisation, and why that is right.
const NO_PREFIX: [(&str, &str); 17] = [
    ("identity.outbox.outbox_pkey", "the order in which all rows leave"),
    ("action.outbox.outbox_pkey", "likewise"),
    ("metrics.outbox.outbox_pkey", "likewise"),
    ("identity.deployment.deployment_pkey", "no organisation"),
    ("identity.action_keys.action_keys_pkey", "no organisation"),
    ("identity.action_keys.action_keys_public_key_key", "no organisation"),
    ("identity.users.users_pkey", "an id: a person can be in several organisations"),
    ("identity.users.users_email_key", "whoever logs in has said no organisation yet"),
    ("identity.memberships.memberships_user_id_fkey", "points to a person"),
    ("identity.sessions.sessions_access_hash_key", "the hash of a credential that says no organisation"),
    ("identity.sessions.sessions_refresh_hash_key", "likewise"),
    ("identity.sessions.sessions_previous_refresh_hash_key", "likewise"),
    ("identity.api_keys.api_keys_hash_key", "likewise"),
    ("identity.enrollment_tokens.enrollment_tokens_hash_key", "likewise"),
    ("identity.machines.machines_public_key_key", "one key is one machine, everywhere and for ever"),
    ("identity.machines.machines_change_key", "one order of all machines"),
    ("action.cursors.cursors_pkey", "no organisation"),
];

/// What a tenant's transaction may not even select.
const SECRETS: [(&str, &str); 6] = [
    ("identity.users", "password_hash"),
    ("identity.sessions", "access_hash"),
    ("identity.sessions", "refresh_hash"),
    ("identity.sessions", "previous_refresh_hash"),
    ("identity.api_keys", "hash"),
    ("identity.enrollment_tokens", "hash"),
];

/// The catalogue, as the owner sees it.
struct Catalogue {
    connection: PgConnection,
    wrong: Vec<String>,
    looked_at: BTreeMap<&'static str, usize>,
}

impl Catalogue {
    async fn of(database: &TestDatabase) -> Self {
        let connection = PgConnection::connect(&database.url("df_owner")).await.unwrap();
        Self { connection, wrong: Vec::new(), looked_at: BTreeMap::new() }
    }

    /// One text column. `$schemas` stands for the services' schemas.
    async fn list(&mut self, sql: &str) -> Vec<String> {
        let schemas = SCHEMAS.map(|schema| format!("'{schema}'")).join(", ");
        let sql = sql.replace("$schemas", &schemas);
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await.unwrap()
    }

    /// Each row that a query finds is wrong.
    async fn none(&mut self, what: &str, sql: &str) {
        let found = self.list(sql).await;
        self.wrong.extend(found.into_iter().map(|found| format!("{found}: {what}")));
    }

    async fn check(mut self) -> (Vec<String>, BTreeMap<&'static str, usize>) {
        self.tables().await;
        self.policies().await;
        self.keys().await;
        self.roles().await;
        self.grants().await;
        self.functions().await;
        self.wrong.sort();
        (self.wrong, self.looked_at)
    }

    async fn tables(&mut self) {
        let tables = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname IN ($schemas) AND c.relkind IN ('r', 'p')";
        let all = self.list(&format!("SELECT c.oid::regclass::text {tables} ORDER BY 1")).await;
        self.looked_at.insert("tables", all.len());
        let without = self
            .list(&format!(
                "SELECT c.oid::regclass::text {tables} AND NOT EXISTS (SELECT FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attname = 'org_id' AND a.atttypid = 'uuid'::regtype AND a.attnotnull)"
            ))
            .await;
        for table in &without {
            if !NO_ORGANISATION.iter().any(|(known, _)| known == table) {
                self.wrong.push(format!("{table}: has no org_id, and no reason for it"));
            }
        }
        let gone = NO_ORGANISATION.iter().filter(|(table, _)| !without.iter().any(|known| known == table));
        self.wrong.extend(gone.map(|(table, _)| format!("{table}: needs no reason any more")));
        // A table that no tenant role is granted anything on needs no policies; every other does.
        self.none(
            "row-level security is not enabled and forced",
            &format!(
                "SELECT c.oid::regclass::text {tables} AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
                 AND (EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id')
                     OR has_any_column_privilege('df_' || n.nspname, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))"
            ),
        )
        .await;
        self.none(
            "a view that is not security_invoker",
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname IN ($schemas, 'public') AND c.relkind IN ('v', 'm')
             AND NOT coalesce(c.reloptions::text[] && ARRAY['security_invoker=true', 'security_invoker=on'], false)",
        )
        .await;
        self.none(
            "has a DEFAULT partition",
            "SELECT partrelid::regclass::text FROM pg_partitioned_table WHERE partdefid <> 0",
        )
        .await;
    }

    async fn policies(&mut self) {
        let policies = "FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN LATERAL (SELECT array_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE r::regrole::text END) AS roles
                 FROM unnest(p.polroles) AS r) AS who";
        let name = "c.oid::regclass::text || '.' || p.polname";
        let count = self.list(&format!("SELECT {name} {policies}")).await.len();
        self.looked_at.insert("policies", count);
        self.none(
            "is neither the tenant's policy nor the system's",
            &format!(
                "SELECT {name} {policies} WHERE NOT (p.polpermissive AND p.polcmd = '*' AND (
                 p.polname = 'tenant' AND who.roles = ARRAY['df_' || n.nspname]
                 OR p.polname = 'system' AND who.roles = ARRAY['df_' || n.nspname || '_system']))"
            ),
        )
        .await;
        let condition = "pg_get_expr(p.polqual, p.polrelid) IS DISTINCT FROM";
        self.none(
            "the tenant policy has another condition",
            &format!(
                "SELECT {name} {policies} WHERE p.polname = 'tenant' AND c.oid <> 'identity.users'::regclass
                 AND ({condition} $tenant${TENANT}$tenant$ OR p.polwithcheck IS NOT NULL)"
            ),
        )
        .await;
        self.none(
            "the system policy has another condition",
            &format!("SELECT {name} {policies} WHERE p.polname = 'system' AND ({condition} 'true' OR p.polwithcheck IS NOT NULL)"),
        )
        .await;
        // A partition is never named in a statement: without policies it shows nothing to anybody.
        for policy in ["tenant", "system"] {
            self.none(
                &format!("has no {policy} policy"),
                &format!(
                    "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname IN ($schemas) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                     AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id')
                     AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = '{policy}')"
                ),
            )
            .await;
        }
    }

    async fn keys(&mut self) {
        let unique = self
            .list(
                "SELECT i.indrelid::regclass || '.' || x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                 JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                 LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
                 WHERE n.nspname IN ($schemas) AND i.indisunique AND a.attname IS DISTINCT FROM 'org_id'",
            )
            .await;
        let foreign = self
            .list(
                "SELECT c.oid::regclass || '.' || k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
                 JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
                 WHERE k.contype = 'f' AND (a.attname <> 'org_id' OR f.attname <> 'org_id')",
            )
            .await;
        let all = self
            .list(
                "SELECT conname::text FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
                 WHERE n.nspname IN ($schemas) AND k.contype IN ('p', 'u', 'f')",
            )
            .await;
        self.looked_at.insert("keys", all.len());
        let found = [unique, foreign].concat();
        let no_table = |key: &str| NO_ORGANISATION.iter().any(|(table, _)| key.starts_with(&format!("{table}.")));
        for key in &found {
            if !NO_PREFIX.iter().any(|(known, _)| known == key) && !no_table(key) {
                self.wrong.push(format!("{key}: does not begin with org_id, and has no reason for it"));
            }
        }
        let gone = NO_PREFIX.iter().filter(|(key, _)| !found.iter().any(|known| known == key));
        self.wrong.extend(gone.map(|(key, _)| format!("{key}: needs no reason any more")));
    }

    async fn roles(&mut self) {
        let roles = self.list("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'df\\_%' ORDER BY 1").await;
        self.looked_at.insert("roles", roles.len());
        let mut expected = database::setup::roles();
        expected.sort();
        if roles != expected {
            self.wrong.push(format!("{roles:?}: are other roles than {expected:?}"));
        }
        self.none(
            "may do more than log in",
            "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'df\\_%'
             AND (rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication)",
        )
        .await;
        self.none(
            "is a member of another role",
            "SELECT member::regrole::text FROM pg_auth_members WHERE member::regrole::text LIKE 'df\\_%'",
        )
        .await;
        for (catalogue, owner, name) in [
            ("pg_class", "relowner", "oid::regclass::text"),
            ("pg_proc", "proowner", "oid::regprocedure::text"),
            ("pg_namespace", "nspowner", "nspname::text"),
            ("pg_type", "typowner", "oid::regtype::text"),
        ] {
            self.none(
                "belongs to a role of a service",
                &format!("SELECT {name} FROM {catalogue} WHERE {owner}::regrole::text LIKE 'df\\_%' AND {owner}::regrole::text <> 'df_owner'"),
            )
            .await;
        }
        self.none(
            "does not belong to df_owner",
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname IN ($schemas) AND c.relowner::regrole::text <> 'df_owner'
             UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname IN ($schemas) AND nspowner::regrole::text <> 'df_owner'",
        )
        .await;
        let runtime = "FROM pg_roles r WHERE r.rolname LIKE 'df\\_%' AND r.rolname <> 'df_owner'";
        self.none(
            "may create in the database",
            &format!("SELECT r.rolname::text {runtime} AND has_database_privilege(r.oid, current_database(), 'CREATE, TEMPORARY')"),
        )
        .await;
        self.none(
            "may create in a schema",
            &format!(
                "SELECT r.rolname || ' ' || n.nspname FROM pg_namespace n, LATERAL (SELECT r.oid, r.rolname {runtime}) r
                 WHERE n.nspname NOT LIKE 'pg\\_temp%' AND n.nspname NOT LIKE 'pg\\_toast%' AND has_schema_privilege(r.oid, n.oid, 'CREATE')"
            ),
        )
        .await;
        self.none(
            "may look into another service's schema",
            &format!(
                "SELECT r.rolname || ' ' || n.nspname FROM pg_namespace n, LATERAL (SELECT r.oid, r.rolname {runtime}) r
                 WHERE n.nspname IN ($schemas) AND r.rolname NOT IN ('df_' || n.nspname, 'df_' || n.nspname || '_system')
                 AND has_schema_privilege(r.oid, n.oid, 'USAGE')"
            ),
        )
        .await;
    }

    async fn grants(&mut self) {
        let granted = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN LATERAL (
                 SELECT * FROM aclexplode(c.relacl)
                 UNION ALL SELECT g.* FROM pg_attribute a CROSS JOIN LATERAL aclexplode(a.attacl) g WHERE a.attrelid = c.oid
             ) AS acl
             WHERE n.nspname IN ($schemas) AND acl.grantee <> c.relowner";
        let grant = "c.oid::regclass || ' ' || acl.privilege_type || ' ' || CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END";
        let count = self.list(&format!("SELECT {grant} {granted}")).await.len();
        self.looked_at.insert("grants", count);
        self.none(
            "is granted to another than the service",
            &format!(
                "SELECT {grant} {granted} AND (acl.grantee = 0
                 OR acl.grantee::regrole::text NOT IN ('df_' || n.nspname, 'df_' || n.nspname || '_system'))"
            ),
        )
        .await;
        self.none(
            "goes around row-level security, or is no service's business",
            &format!("SELECT {grant} {granted} AND acl.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE')"),
        )
        .await;
        self.none("can be given on", &format!("SELECT {grant} {granted} AND acl.is_grantable")).await;
        self.none("is a grant on a partition", &format!("SELECT {grant} {granted} AND c.relispartition")).await;
        for (table, column) in SECRETS {
            self.none(
                "a tenant's transaction may read it",
                &format!("SELECT '{table}.{column}' WHERE has_column_privilege('df_identity', '{table}', '{column}', 'SELECT')"),
            )
            .await;
        }
    }

    async fn functions(&mut self) {
        let functions = "FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ($schemas, 'public')";
        let count = self.list(&format!("SELECT p.oid::regprocedure::text {functions}")).await.len();
        self.looked_at.insert("functions", count);
        self.none(
            "runs with its owner's rights and whatever search_path its caller sets",
            &format!(
                "SELECT p.oid::regprocedure::text {functions} AND p.prosecdef
                 AND NOT coalesce(p.proconfig && ARRAY['search_path=pg_catalog, pg_temp', 'search_path=\"\"'], false)"
            ),
        )
        .await;
        self.none(
            "may be run by PUBLIC",
            &format!(
                "SELECT p.oid::regprocedure::text {functions} AND EXISTS (
                 SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl WHERE acl.grantee = 0)"
            ),
        )
        .await;
    }
}

/// A database as it is a while after the migrations: partitions exist.
async fn lived_in() -> TestDatabase {
    let database = Postgres::shared().await.database().await;
    let mut system = PgConnection::connect(&database.url("df_metrics_system")).await.unwrap();
    let made: i32 = sqlx::query_scalar("SELECT metrics.sample_partitions_ensure(current_date, current_date + 2)").fetch_one(&mut system).await.unwrap();
    assert_eq!(made, 3);
    database
}

#[tokio::test]
async fn every_table_is_closed_to_other_organisations_and_to_other_services() {
    let (wrong, looked_at) = Catalogue::of(&lived_in().await).await.check().await;
    println!("catalogue: {looked_at:?}");
    assert!(looked_at["tables"] > 20 && looked_at["policies"] > 30 && looked_at["grants"] > 40, "the catalogue was not read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What somebody might do, and what the test above then says.
const MISTAKES: [(&str, &str); 20] = [
    ("CREATE TABLE action.notes (org_id uuid NOT NULL PRIMARY KEY)", "action.notes: row-level security is not enabled"),
    ("CREATE TABLE action.words (word text)", "action.words: has no org_id"),
    ("ALTER TABLE action.actions NO FORCE ROW LEVEL SECURITY", "action.actions: row-level security is not enabled and forced"),
    ("ALTER TABLE action.actions DISABLE ROW LEVEL SECURITY", "action.actions: row-level security is not enabled and forced"),
    ("DROP POLICY tenant ON action.attempts", "action.attempts: has no tenant policy"),
    ("DROP POLICY system ON action.attempts", "action.attempts: has no system policy"),
    ("ALTER POLICY tenant ON action.actions USING (true)", "action.actions.tenant: the tenant policy has another condition"),
    ("ALTER POLICY tenant ON action.actions TO PUBLIC", "action.actions.tenant: is neither"),
    ("CREATE POLICY more ON action.actions TO df_action USING (true)", "action.actions.more: is neither"),
    ("ALTER POLICY system ON action.actions TO df_action, df_action_system", "action.actions.system: is neither"),
    ("CREATE UNIQUE INDEX by_kind ON action.actions (kind)", "action.actions.by_kind: does not begin with org_id"),
    ("GRANT SELECT ON metrics.machines TO df_action", "metrics.machines SELECT df_action: is granted to another"),
    ("GRANT SELECT (payload) ON action.actions TO PUBLIC", "action.actions SELECT PUBLIC: is granted to another"),
    ("GRANT TRUNCATE ON action.actions TO df_action_system", "action.actions TRUNCATE df_action_system: goes around"),
    ("GRANT USAGE ON SCHEMA identity TO df_action", "df_action identity: may look into"),
    ("GRANT CREATE ON SCHEMA action TO df_action", "df_action action: may create in a schema"),
    ("GRANT SELECT ON identity.api_keys TO df_identity", "identity.api_keys.hash: a tenant's transaction may read it"),
    ("CREATE VIEW action.open AS SELECT * FROM action.actions", "action.open: a view that is not security_invoker"),
    ("CREATE FUNCTION action.all() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM action.actions'", "runs with its owner's rights"),
    ("CREATE TABLE metrics.samples_default PARTITION OF metrics.samples DEFAULT", "metrics.samples: has a DEFAULT partition"),
];

#[tokio::test]
async fn each_mistake_is_noticed() {
    let database = lived_in().await;
    for (mistake, expected) in MISTAKES {
        let mut catalogue = Catalogue::of(&database).await;
        // Undone with the connection.
        catalogue.connection.execute("BEGIN").await.unwrap();
        catalogue.connection.execute(AssertSqlSafe(mistake)).await.unwrap();
        let (wrong, _) = catalogue.check().await;
        assert!(wrong.iter().any(|wrong| wrong.contains(expected)), "{mistake}: {wrong:#?}");
    }
}

#[tokio::test]
async fn a_transaction_sees_and_writes_its_own_organisation_and_without_one_nothing() {
    let database = Postgres::shared().await.database().await;
    let pools = database.pools("action");
    let (ours, theirs) = (OrgId::new(), OrgId::new());
    let insert = "INSERT INTO action.machines (org_id, id, fingerprint, change, releases) VALUES ($1, $2, 'f', 1, 0)";
    for org in [ours, theirs] {
        sqlx::query(insert).bind(org.0).bind(MachineId::new().0).execute(pools.system()).await.unwrap();
    }
    let count = "SELECT count(*) FROM action.machines";
    let mut tx = pools.tenant_tx(ours).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut *tx).await.unwrap(), 1);
    let stolen = sqlx::query("UPDATE action.machines SET last_seq = 9 WHERE org_id = $1").bind(theirs.0);
    assert_eq!(stolen.execute(&mut *tx).await.unwrap().rows_affected(), 0);
    let moved = sqlx::query("UPDATE action.machines SET org_id = $1").bind(theirs.0).execute(&mut *tx).await;
    assert!(moved.unwrap_err().to_string().contains("row-level security"));
    drop(tx);
    // The setting ends with its transaction: the same connection, asked without one, shows nothing.
    let mut lone = PgConnection::connect(&database.url("df_action")).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut lone).await.unwrap(), 0);
    lone.execute(AssertSqlSafe(format!("BEGIN; SET LOCAL df.org = '{}'; COMMIT", ours.0))).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut lone).await.unwrap(), 0);
}
