//! What handlers log, as it comes: the last 64 KiB of each execution stay.

use contract::run::LogChunk;
use database::{DatabaseError, Tx};
use domain::execution::LOG_MAX_BYTES;
use uuid::Uuid;

// Who may: the attempt that runs, or that ran last and has ended. The same again changes nothing. `lines` travels as JSON, since
// arrays of arrays must be rectangular.
const INSERT: &str = "
    WITH input AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::bigint[], $6::jsonb[])
        WITH ORDINALITY AS input(org_id, id, attempt, token, first, lines, place)
    ), meant AS (
        SELECT input.* FROM input WHERE EXISTS (SELECT FROM scheduler.running AS r WHERE r.org_id = input.org_id
                AND r.id = input.id AND r.attempt = input.attempt AND r.token = input.token)
            OR EXISTS (SELECT FROM scheduler.ended AS e WHERE e.org_id = input.org_id
                AND e.id = input.id AND e.attempt = input.attempt AND e.token = input.token)
            OR EXISTS (SELECT FROM scheduler.waiting AS w WHERE w.org_id = input.org_id
                AND w.id = input.id AND w.attempt = input.attempt AND w.token = input.token)
    ), kept AS (
        INSERT INTO scheduler.log_chunks (org_id, execution_id, attempt, first, lines, bytes)
        SELECT org_id, id, attempt, first, ARRAY(SELECT jsonb_array_elements_text(lines)), octet_length(lines::text) FROM meant
        ON CONFLICT ON CONSTRAINT log_chunks_pkey DO NOTHING
        RETURNING org_id, execution_id, attempt, first
    )
    SELECT meant.place IS NOT NULL AS meant, kept.first IS NOT NULL AS fresh
    FROM input LEFT JOIN meant ON meant.place = input.place
    LEFT JOIN kept ON kept.org_id = input.org_id AND kept.execution_id = input.id AND kept.attempt = input.attempt
        AND kept.first = input.first
    ORDER BY input.place";

// A chunk goes when those after it fill the bound by themselves.
const TRIM: &str = "
    DELETE FROM scheduler.log_chunks AS c USING (
        SELECT org_id, execution_id, attempt, first,
            sum(bytes) OVER (PARTITION BY org_id, execution_id ORDER BY attempt DESC, first DESC) - bytes AS after
        FROM scheduler.log_chunks
        WHERE (org_id, execution_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
    ) AS old
    WHERE old.after >= $3 AND c.org_id = old.org_id AND c.execution_id = old.execution_id AND c.attempt = old.attempt
        AND c.first = old.first";

/// Keeps chunks, of which no two have the same place; of each, whether whoever says it may, and whether it is new.
///
/// # Errors
/// [`DatabaseError`].
pub async fn chunks_keep_in_tx(
    tx: &mut Tx,
    chunks: &[LogChunk],
) -> Result<Vec<(bool, bool)>, DatabaseError> {
    fn column<T>(chunks: &[LogChunk], of: impl Fn(&LogChunk) -> T) -> Vec<T> {
        chunks.iter().map(of).collect()
    }
    let orgs: Vec<Uuid> = column(chunks, |chunk| chunk.place.org.0);
    let ids: Vec<Uuid> = column(chunks, |chunk| chunk.place.id.0);
    let kept = sqlx::query_as(INSERT)
        .bind(&orgs)
        .bind(&ids)
        .bind(column(chunks, |chunk| chunk.place.attempt))
        .bind(column(chunks, |chunk| chunk.place.token))
        .bind(column(chunks, |chunk| chunk.first))
        .bind(column(chunks, |chunk| serde_json::json!(chunk.lines)))
        .fetch_all(&mut **tx)
        .await?;
    sqlx::query(TRIM)
        .bind(&orgs)
        .bind(&ids)
        .bind(LOG_MAX_BYTES as i64)
        .execute(&mut **tx)
        .await?;
    Ok(kept)
}
