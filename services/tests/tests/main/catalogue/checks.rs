//! The questions to the catalogue; each row that one finds is wrong.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::TestDatabase;

use super::reasons::{NO_ORGANISATION, NO_PREFIX, RETENTION, SCHEMAS, SECRETS, TENANT};

/// The catalogue, as the owner sees it.
pub struct Catalogue {
    pub connection: PgConnection,
    wrong: Vec<String>,
    looked_at: BTreeMap<&'static str, usize>,
}

impl Catalogue {
    pub async fn of(database: &TestDatabase) -> Self {
        let connection = PgConnection::connect(&database.url("df_owner"))
            .await
            .unwrap();
        Self {
            connection,
            wrong: Vec::new(),
            looked_at: BTreeMap::new(),
        }
    }

    /// One text column. `$schemas` stands for the services' schemas.
    async fn list(&mut self, sql: &str) -> Vec<String> {
        let schemas = SCHEMAS.map(|schema| format!("'{schema}'")).join(", ");
        let sql = sql.replace("$schemas", &schemas);
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut self.connection)
            .await
            .unwrap()
    }

    /// Each row that a query finds is wrong.
    async fn none(&mut self, what: &str, sql: &str) {
        let found = self.list(sql).await;
        self.wrong
            .extend(found.into_iter().map(|found| format!("{found}: {what}")));
    }

    pub async fn check(mut self) -> (Vec<String>, BTreeMap<&'static str, usize>) {
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
        let all = self
            .list(&format!("SELECT c.oid::regclass::text {tables} ORDER BY 1"))
            .await;
        self.looked_at.insert("tables", all.len());
        let without = self
            .list(&format!(
                "SELECT c.oid::regclass::text {tables} AND NOT EXISTS (SELECT FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attname = 'org_id' AND a.atttypid = 'uuid'::regtype AND a.attnotnull)"
            ))
            .await;
        for table in &without {
            if !NO_ORGANISATION.iter().any(|(known, _)| known == table) {
                self.wrong
                    .push(format!("{table}: has no org_id, and no reason for it"));
            }
        }
        let gone = NO_ORGANISATION
            .iter()
            .filter(|(table, _)| !without.iter().any(|known| known == table));
        self.wrong
            .extend(gone.map(|(table, _)| format!("{table}: needs no reason any more")));
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
        let retention = RETENTION
            .map(|(policy, _)| format!("'{policy}'"))
            .join(", ");
        self.none(
            "is neither the tenant's policy nor the system's",
            &format!(
                "SELECT {name} {policies} WHERE NOT ({name} IN ({retention}) AND who.roles = ARRAY['df_owner'])
                 AND NOT (p.polpermissive AND p.polcmd = '*' AND (
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
        let no_table = |key: &str| {
            NO_ORGANISATION
                .iter()
                .any(|(table, _)| key.starts_with(&format!("{table}.")))
        };
        for key in &found {
            if !NO_PREFIX.iter().any(|(known, _)| known == key) && !no_table(key) {
                self.wrong.push(format!(
                    "{key}: does not begin with org_id, and has no reason for it"
                ));
            }
        }
        let gone = NO_PREFIX
            .iter()
            .filter(|(key, _)| !found.iter().any(|known| known == key));
        self.wrong
            .extend(gone.map(|(key, _)| format!("{key}: needs no reason any more")));
    }

    async fn roles(&mut self) {
        let roles = self
            .list("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'df\\_%' ORDER BY 1")
            .await;
        self.looked_at.insert("roles", roles.len());
        let mut expected = database::setup::roles();
        expected.sort();
        if roles != expected {
            self.wrong
                .push(format!("{roles:?}: are other roles than {expected:?}"));
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
        self.none(
            "can be given on",
            &format!("SELECT {grant} {granted} AND acl.is_grantable"),
        )
        .await;
        self.none(
            "is a grant on a partition",
            &format!("SELECT {grant} {granted} AND c.relispartition"),
        )
        .await;
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
        let count = self
            .list(&format!("SELECT p.oid::regprocedure::text {functions}"))
            .await
            .len();
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
