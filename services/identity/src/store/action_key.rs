//! The public keys whose orders agents obey.

use sqlx::{PgConnection, PgExecutor};

const SELECT: &str = "SELECT public_key FROM identity.action_keys ORDER BY place";

// Replicas of action say the same at the same time: one after the other.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtext('dashfleet.identity'), hashtext('action_keys'))";

const DELETE: &str = "DELETE FROM identity.action_keys";

const INSERT: &str = "INSERT INTO identity.action_keys (place, public_key)
    SELECT place - 1, public_key FROM unnest($1::text[]) WITH ORDINALITY AS k (public_key, place)";

/// The keys, the signing one first.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn list(connection: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(SELECT).fetch_all(connection).await
}

/// Replaces the keys.
///
/// # Errors
/// [`sqlx::Error`].
pub async fn put_in_tx(tx: &mut PgConnection, keys: &[String]) -> sqlx::Result<()> {
    sqlx::query(LOCK).execute(&mut *tx).await?;
    sqlx::query(DELETE).execute(&mut *tx).await?;
    sqlx::query(INSERT).bind(keys).execute(&mut *tx).await?;
    Ok(())
}
