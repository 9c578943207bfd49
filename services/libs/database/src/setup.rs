//! Roles, the database and its migrations: the bootstrap job, and tests.

use std::collections::BTreeMap;
use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::error::DatabaseError;

/// The one database.
pub const DATABASE: &str = "dashfleet";
/// Owns the schemas; used by migrations only.
pub const OWNER: &str = "df_owner";
/// The services that own data. Each has the roles `df_<service>` and `df_<service>_system`.
pub const SERVICES: [&str; 4] = ["identity", "action", "scheduler", "metrics"];

static MIGRATIONS: Migrator = sqlx::migrate!("../../../migrations");

/// Every login role, the owner first.
#[must_use]
pub fn roles() -> Vec<String> {
    let services = SERVICES
        .iter()
        .flat_map(|service| [format!("df_{service}"), format!("df_{service}_system")]);
    std::iter::once(OWNER.to_owned()).chain(services).collect()
}

/// Makes what is missing of the roles and the database, as a superuser, and sets the roles' passwords.
/// `database` is [`DATABASE`] but in tests.
///
/// # Errors
/// [`DatabaseError`]; a password that is not hexadecimal is refused.
pub async fn ensure_roles(
    admin_url: &str,
    passwords: &BTreeMap<String, String>,
    database: &str,
) -> Result<(), DatabaseError> {
    let mut admin = PgConnection::connect(admin_url).await?;
    for role in roles() {
        let password = passwords
            .get(&role)
            .ok_or_else(|| DatabaseError::Bug(format!("no password for role {role}")))?;
        if password.is_empty() || !password.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(DatabaseError::Data(format!(
                "the password of {role} is not made of letters and digits"
            )));
        }
        // Two bootstrap jobs may run at once: the second finds the role there.
        let create = format!(
            "DO $$ BEGIN
               CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT NOREPLICATION NOBYPASSRLS;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        sqlx::query(AssertSqlSafe(create))
            .execute(&mut admin)
            .await?;
        sqlx::query(AssertSqlSafe(format!(
            "ALTER ROLE {role} PASSWORD '{password}'"
        )))
        .execute(&mut admin)
        .await?;
    }
    let exists: Option<i32> = sqlx::query_scalar("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(database)
        .fetch_optional(&mut admin)
        .await?;
    if exists.is_none() {
        let made = sqlx::query(AssertSqlSafe(format!(
            "CREATE DATABASE {database} OWNER {OWNER} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
        )))
        .execute(&mut admin)
        .await;
        match made.map_err(DatabaseError::from) {
            Ok(_) | Err(DatabaseError::Constraint(_)) => {}
            // 42P04: another bootstrap job made it in the meantime.
            Err(DatabaseError::Bug(text)) if text.starts_with("42P04") => {}
            Err(error) => return Err(error),
        }
    }
    sqlx::query(AssertSqlSafe(format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC"
    )))
    .execute(&mut admin)
    .await?;
    let all = roles().join(", ");
    sqlx::query(AssertSqlSafe(format!(
        "GRANT CONNECT ON DATABASE {database} TO {all}"
    )))
    .execute(&mut admin)
    .await?;
    admin.close().await?;
    Ok(())
}

/// Runs the migrations that are missing, as the owner, under sqlx's advisory lock.
///
/// # Errors
/// [`DatabaseError::Bug`] naming the migration that failed.
pub async fn migrate(owner_url: &str) -> Result<(), DatabaseError> {
    let options = PgConnectOptions::from_str(owner_url)
        .map_err(|_| DatabaseError::Bug("the owner's URL cannot be parsed".into()))?
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await?;
    let done = MIGRATIONS
        .run(&pool)
        .await
        .map_err(|error| DatabaseError::Bug(format!("migrations: {error}")));
    pool.close().await;
    done
}

/// The URL of another role and database on the server of `url`, which may be an IPv6 address or a socket's folder.
///
/// # Errors
/// [`DatabaseError::Bug`] when `url` cannot be parsed; the text has no password.
pub fn url_of(
    url: &str,
    role: &str,
    password: &str,
    database: &str,
) -> Result<String, DatabaseError> {
    let unparsable = || DatabaseError::Bug("the database URL cannot be parsed".into());
    let options = PgConnectOptions::from_str(url).map_err(|_| unparsable())?;
    let (_, rest) = url.split_once("://").ok_or_else(unparsable)?;
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    // Kept as it is written: brackets and percent signs mean something.
    let server = match authority.rsplit('@').next() {
        Some(server) if !server.is_empty() => server.to_owned(),
        // A host among the parameters overrules this one; without any it is the driver's choice, maybe a folder.
        _ if query.is_some_and(|query| query.contains("host")) => "localhost".to_owned(),
        _ => format!(
            "{}:{}",
            options.get_host().replace('/', "%2F"),
            options.get_port()
        ),
    };
    // What the URL says before these parameters would be overruled by them.
    let query: Vec<&str> = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|parameter| {
            let name = parameter.split('=').next().unwrap_or_default();
            !matches!(name, "user" | "password" | "dbname")
        })
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(format!(
        "postgres://{role}:{password}@{server}/{database}{mark}{}",
        query.join("&")
    ))
}

/// Copies a database that nobody is using: how tests get theirs.
///
/// # Errors
/// [`DatabaseError`].
pub async fn clone_database(
    admin_url: &str,
    template: &str,
    name: &str,
) -> Result<(), DatabaseError> {
    let mut admin = PgConnection::connect(admin_url).await?;
    sqlx::query(AssertSqlSafe(format!(
        "CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER} STRATEGY file_copy"
    )))
    .execute(&mut admin)
    .await?;
    sqlx::query(AssertSqlSafe(format!(
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC"
    )))
    .execute(&mut admin)
    .await?;
    let all = roles().join(", ");
    sqlx::query(AssertSqlSafe(format!(
        "GRANT CONNECT ON DATABASE {name} TO {all}"
    )))
    .execute(&mut admin)
    .await?;
    admin.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_role_of_the_same_server_whatever_its_url_looks_like() {
        for url in [
            "postgres://postgres:secret@db.example.org:5433/postgres?sslmode=verify-full",
            "postgres://postgres@db.example.org/postgres",
            "postgresql://postgres:p%40ss@[2001:db8::1]:5433/postgres?sslmode=require&user=postgres",
            "postgres://postgres@%2Fvar%2Frun%2Fpostgresql/postgres",
            "postgres:///postgres?host=/var/run/postgresql&user=postgres&dbname=postgres",
            "postgres:///postgres?host=/var/run/postgresql&port=5433&password=secret",
        ] {
            let made = url_of(url, "df_owner", "abc", DATABASE).expect(url);
            let made = PgConnectOptions::from_str(&made).expect(url);
            let given = PgConnectOptions::from_str(url).expect(url);
            // Beside a socket a host says nothing; its default is the folder of a socket that is there by chance.
            if given.get_socket().is_none() {
                assert_eq!(made.get_host(), given.get_host(), "{url}");
            }
            assert_eq!(made.get_port(), given.get_port(), "{url}");
            assert_eq!(made.get_socket(), given.get_socket(), "{url}");
            let mode = |options: &PgConnectOptions| format!("{:?}", options.get_ssl_mode());
            assert_eq!(mode(&made), mode(&given), "{url}");
            assert_eq!(made.get_username(), "df_owner", "{url}");
            assert_eq!(made.get_database(), Some(DATABASE), "{url}");
        }
    }
}
