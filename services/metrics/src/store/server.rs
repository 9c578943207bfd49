//! The bus' servers: when each last gave a sign of life; and whose turn it is to compare lists.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use database::DatabaseError;
use sqlx::{PgConnection, PgPool};

/// Signs of life. One a second is noted.
const HEARD: &str = "
    INSERT INTO metrics.servers AS s (server_id, name, heard_at)
    SELECT t.server_id, t.name, now() FROM unnest($1::text[], $2::text[]) AS t(server_id, name) ORDER BY t.server_id
    ON CONFLICT (server_id) DO UPDATE SET heard_at = excluded.heard_at
    WHERE s.heard_at < excluded.heard_at - make_interval(secs => 1)";
/// Servers that have been silent for so many seconds.
const SILENT: &str =
    "SELECT server_id FROM metrics.servers WHERE heard_at < now() - make_interval(secs => $1)";
/// Whether a server is one of them.
const IS_SILENT: &str = "SELECT EXISTS (SELECT 1 FROM metrics.servers WHERE server_id = $1 AND heard_at < now() - make_interval(secs => $2))";
/// A server that is gone.
const FORGET: &str = "DELETE FROM metrics.servers WHERE server_id = $1";
/// The database's clock.
const CLOCK: &str = "SELECT clock_timestamp()";
/// Takes the turn, unless somebody took it within so many seconds.
const TAKE_TURN: &str = "
    INSERT INTO metrics.cursors AS c (name, moved_at) VALUES ('reconciliation', now())
    ON CONFLICT (name) DO UPDATE SET moved_at = now(), position = c.position + 1
    WHERE c.moved_at <= now() - make_interval(secs => $1)";

/// Notes signs of life, of servers by id with their names. Under the lock of presence.
///
/// # Errors
/// [`sqlx::Error`], for group commits.
pub async fn heard_in_tx(
    connection: &mut PgConnection,
    servers: &HashMap<&str, &str>,
) -> Result<(), sqlx::Error> {
    let (ids, names): (Vec<&str>, Vec<&str>) = servers.iter().unzip();
    sqlx::query(HEARD)
        .bind(ids)
        .bind(names)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes one server's sign of life.
///
/// # Errors
/// [`DatabaseError`].
pub async fn heard(pool: &PgPool, server_id: &str, name: &str) -> Result<(), DatabaseError> {
    sqlx::query(HEARD)
        .bind(vec![server_id])
        .bind(vec![name])
        .execute(pool)
        .await?;
    Ok(())
}

/// Servers that have been silent for so long.
///
/// # Errors
/// [`DatabaseError`].
pub async fn silent(pool: &PgPool, silence: Duration) -> Result<Vec<String>, DatabaseError> {
    Ok(sqlx::query_scalar(SILENT)
        .bind(silence.as_secs_f64())
        .fetch_all(pool)
        .await?)
}

/// Whether a server is still silent: another replica may have heard it, or found it lost before us.
///
/// # Errors
/// [`DatabaseError`].
pub async fn is_silent_in_tx(
    connection: &mut PgConnection,
    server_id: &str,
    silence: Duration,
) -> Result<bool, DatabaseError> {
    Ok(sqlx::query_scalar(IS_SILENT)
        .bind(server_id)
        .bind(silence.as_secs_f64())
        .fetch_one(connection)
        .await?)
}

/// Forgets a server that is gone, when its last session has ended.
///
/// # Errors
/// [`DatabaseError`].
pub async fn forget_in_tx(
    connection: &mut PgConnection,
    server_id: &str,
) -> Result<(), DatabaseError> {
    sqlx::query(FORGET)
        .bind(server_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// The database's clock, which all replicas share.
///
/// # Errors
/// [`DatabaseError`].
pub async fn clock(pool: &PgPool) -> Result<DateTime<Utc>, DatabaseError> {
    Ok(sqlx::query_scalar(CLOCK).fetch_one(pool).await?)
}

/// Takes the turn to compare with the servers' lists, unless another replica took it within `since`.
///
/// # Errors
/// [`DatabaseError`].
pub async fn take_turn(pool: &PgPool, since: Duration) -> Result<bool, DatabaseError> {
    Ok(sqlx::query(TAKE_TURN)
        .bind(since.as_secs_f64())
        .execute(pool)
        .await?
        .rows_affected()
        > 0)
}
