//! Wrapping anew what lies sealed in a table, after the key that seals was rotated (crate `seal`).
//!
//! Rows are read in pages, in the order of the primary key. Each that another key sealed is opened, sealed with the key in
//! use, and written back only where it still is what was read: whoever wrote meanwhile wins. Each row is a transaction of
//! its own, so a run that dies at any point is simply begun again, and finds what it did as done. A row that does not open
//! is counted and named, and the others go on.

use domain::OrgId;
use seal::{KeyRing, Place};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::error::DatabaseError;
use crate::pools::answered;

/// How many rows are read at once.
const PAGE: i64 = 100;
/// The longest sealed secret that is wrapped anew; a page of them is what a run needs of memory.
const SEALED_MAX_BYTES: i64 = 256 * 1024;
/// How many rows that could not be wrapped a run names; it counts all.
const FAILURES_MAX: usize = 100;

/// A column in which secrets lie sealed. The names are those of a migration, in lower case and without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedColumn {
    /// The table with its schema, as the [`Place`] of its secrets has it: `scheduler.module_secrets`.
    pub table: &'static str,
    /// The column, `bytea`, likewise. NULL is no secret.
    pub column: &'static str,
    /// The column of the organisation, `uuid`, with which the primary key begins; absent in a table of the installation's.
    pub org: Option<&'static str>,
    /// The column of the row's id, `uuid`: the rest of the primary key.
    pub row: &'static str,
}

/// A row whose secret could not be wrapped anew: it stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWrapped {
    /// Its organisation.
    pub org: Option<OrgId>,
    /// Its id.
    pub row: Uuid,
    /// Why, in words that show nothing of the secret.
    pub reason: String,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// How many secrets are sealed with the key in use since.
    pub wrapped: u64,
    /// How many were before.
    pub already: u64,
    /// How many somebody else wrote or removed meanwhile: perhaps with an older key, so another run looks at them.
    pub overtaken: u64,
    /// How many could not be wrapped.
    pub failed: u64,
    /// The first hundred of those, in the order of the primary key.
    pub failures: Vec<NotWrapped>,
}

impl Rewrapped {
    /// Whether every secret that the run saw is sealed with the key in use, so that older keys may go once nobody seals
    /// with them any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.overtaken == 0 && self.failed == 0
    }

    fn failed(&mut self, org: Option<Uuid>, row: Uuid, reason: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_MAX {
            let org = org.map(OrgId);
            self.failures.push(NotWrapped { org, row, reason });
        }
    }
}

/// A place in the order of the primary key.
type Position = (Option<Uuid>, Uuid);
/// Organisation and id, how long what is sealed is, and what it is, unless it is too long.
type Row = (Option<Uuid>, Uuid, i64, Option<Vec<u8>>);

impl SealedColumn {
    /// Wraps anew what another key sealed than the first of the ring. What is inserted behind the last row of the
    /// beginning is not looked at: whoever inserts seals with the key in use by then. `pool` is that of the role for work
    /// across organisations.
    ///
    /// # Errors
    /// [`DatabaseError`]: what was done is done, and another run does the rest. [`DatabaseError::Bug`] when a name is none,
    /// or the table has no such column.
    pub async fn rewrap(&self, pool: &PgPool, keys: &KeyRing) -> Result<Rewrapped, DatabaseError> {
        self.check()?;
        let mut done = Rewrapped::default();
        let last = sqlx::query_as(AssertSqlSafe(self.last_sql()));
        let last: Option<Position> = answered(last.fetch_optional(pool)).await?;
        let Some(last) = last else {
            return Ok(done);
        };
        let mut from = (self.org.map(|_| Uuid::nil()), Uuid::nil());
        // No id is smaller than the nil one.
        let mut sql = self.page_sql(">=");
        loop {
            let page = sqlx::query_as(AssertSqlSafe(sql))
                .bind(from.0)
                .bind(from.1)
                .bind(last.0)
                .bind(last.1);
            let page: Vec<Row> = answered(page.fetch_all(pool)).await?;
            let Some(end) = page.last() else {
                return Ok(done);
            };
            from = (end.0, end.1);
            sql = self.page_sql(">");
            for row in page {
                self.rewrap_row(pool, keys, row, &mut done).await?;
            }
        }
    }

    async fn rewrap_row(
        &self,
        pool: &PgPool,
        keys: &KeyRing,
        (org, row, bytes, sealed): Row,
        done: &mut Rewrapped,
    ) -> Result<(), DatabaseError> {
        let Some(sealed) = sealed else {
            let reason = format!("it has {bytes} bytes; at most {SEALED_MAX_BYTES} are wrapped");
            done.failed(org, row, reason);
            return Ok(());
        };
        let place = Place {
            table: self.table,
            column: self.column,
            org: org.map(OrgId),
            row,
        };
        let new = match keys.rewrap(&place, &sealed) {
            Ok(Some(new)) => new,
            Ok(None) => {
                done.already += 1;
                return Ok(());
            }
            Err(error) => {
                done.failed(org, row, error.to_string());
                return Ok(());
            }
        };
        let update = sqlx::query(AssertSqlSafe(self.update_sql()))
            .bind(new)
            .bind(row)
            .bind(sealed)
            .bind(org);
        match answered(update.execute(pool)).await?.rows_affected() {
            0 => done.overtaken += 1,
            _ => done.wrapped += 1,
        }
        Ok(())
    }

    /// The names go into statements as they are.
    fn check(&self) -> Result<(), DatabaseError> {
        let (schema, table) = self.table.split_once('.').unwrap_or_default();
        let names = [schema, table, self.column, self.row];
        match names
            .into_iter()
            .chain(self.org)
            .find(|name| !is_name(name))
        {
            None => Ok(()),
            Some(name) => Err(DatabaseError::Bug(format!(
                "`{name}` of `{}` is no name",
                self.table
            ))),
        }
    }

    fn last_sql(&self) -> String {
        let Self { table, row, .. } = self;
        match self.org {
            Some(org) => {
                format!("SELECT {org}, {row} FROM {table} ORDER BY {org} DESC, {row} DESC LIMIT 1")
            }
            None => format!("SELECT NULL::uuid, {row} FROM {table} ORDER BY {row} DESC LIMIT 1"),
        }
    }

    /// The next rows: behind a place ($1, $2) and up to another one ($3, $4).
    fn page_sql(&self, behind: &str) -> String {
        let Self {
            table, column, row, ..
        } = self;
        let what = format!(
            "octet_length({column})::bigint, CASE WHEN octet_length({column}) <= {SEALED_MAX_BYTES} THEN {column} END
            FROM {table} WHERE {column} IS NOT NULL"
        );
        match self.org {
            Some(org) => format!(
                "SELECT {org}, {row}, {what} AND ({org}, {row}) {behind} ($1::uuid, $2::uuid)
                AND ({org}, {row}) <= ($3::uuid, $4::uuid) ORDER BY {org}, {row} LIMIT {PAGE}"
            ),
            None => format!(
                "SELECT NULL::uuid, {row}, {what} AND $1::uuid IS NULL AND {row} {behind} $2::uuid
                AND $3::uuid IS NULL AND {row} <= $4::uuid ORDER BY {row} LIMIT {PAGE}"
            ),
        }
    }

    /// One row, where it still is what was read.
    fn update_sql(&self) -> String {
        let Self {
            table, column, row, ..
        } = self;
        let org = self.org.map_or_else(
            || "$4::uuid IS NULL".to_owned(),
            |org| format!("{org} = $4::uuid"),
        );
        format!(
            "UPDATE {table} SET {column} = $1::bytea WHERE {row} = $2::uuid AND {column} = $3::bytea AND {org}"
        )
    }
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.bytes().all(plain)
}
