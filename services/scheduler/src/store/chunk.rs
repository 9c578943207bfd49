//! What handlers log, as it comes: the last 64 KiB of each execution stay, and one chunk before them.

use contract::run::LogChunk;
use database::{DatabaseError, Tx};
use domain::execution::LOG_MAX_BYTES;
use uuid::Uuid;

// Who may: the attempt that runs, or that ran last and has ended by a finish. The same again changes nothing. `lines` travels as
// JSON, since arrays of arrays must be rectangular. The answers are joined in full, as in a claim.
const INSERT: &str = "
    WITH input AS (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::bigint[], $6::jsonb[])
        WITH ORDINALITY AS input(org_id, id, attempt, token, first, lines, place)
    ), meant AS (
        SELECT input.* FROM input
        LEFT JOIN LATERAL (
            SELECT r.attempt, r.token FROM scheduler.running AS r
            WHERE r.org_id = input.org_id AND r.id BETWEEN input.id AND input.id ORDER BY r.id LIMIT 1
        ) AS r ON true
        LEFT JOIN LATERAL (
            SELECT e.attempt, e.token FROM scheduler.ended AS e
            WHERE e.org_id = input.org_id AND e.id BETWEEN input.id AND input.id ORDER BY e.id LIMIT 1
        ) AS e ON true
        LEFT JOIN LATERAL (
            SELECT w.attempt, w.token FROM scheduler.waiting AS w
            WHERE w.org_id = input.org_id AND w.id BETWEEN input.id AND input.id ORDER BY w.id LIMIT 1
        ) AS w ON true
        WHERE r.attempt = input.attempt AND r.token = input.token OR e.attempt = input.attempt AND e.token = input.token
            OR w.attempt = input.attempt AND w.token = input.token
    ), kept AS (
        INSERT INTO scheduler.log_chunks (org_id, execution_id, attempt, first, lines, bytes)
        SELECT org_id, id, attempt, first, ARRAY(SELECT jsonb_array_elements_text(lines)), octet_length(lines::text) FROM meant
        ON CONFLICT ON CONSTRAINT log_chunks_pkey DO NOTHING
        RETURNING org_id, execution_id, attempt, first
    )
    SELECT meant.place IS NOT NULL AS meant, kept.first IS NOT NULL AS fresh
    FROM input FULL JOIN meant ON meant.place = input.place
    FULL JOIN kept ON kept.org_id = input.org_id AND kept.execution_id = input.id AND kept.attempt = input.attempt
        AND kept.first = input.first
    ORDER BY input.place";

// A chunk goes when those after it fill the bound by themselves, even without the one that follows it: so of a log that was cut there
// is always one left that is not shown, which tells that there was more (whole attempts may have gone, and the next begins at 0). Each
// execution is looked up by itself, and what goes is deleted by its place. (What is asked twice makes the planner take it for little:
// for much it would read all partitions.)
const TRIM: &str = "
    WITH old AS MATERIALIZED (
        SELECT c.* FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[])) AS given (org_id, execution_id)
        CROSS JOIN LATERAL (
            SELECT c.ctid AS tid, c.org_id, c.execution_id,
                sum(c.bytes) OVER (
                    ORDER BY c.attempt DESC, c.first DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING
                ) AS after
            FROM scheduler.log_chunks AS c WHERE c.org_id = given.org_id AND c.execution_id = given.execution_id
        ) AS c
        WHERE c.after >= $3 AND c.org_id = given.org_id AND c.execution_id = given.execution_id
        ORDER BY c.org_id, c.execution_id
    )
    DELETE FROM scheduler.log_chunks AS c USING old
    WHERE c.ctid = old.tid AND c.execution_id = old.execution_id AND c.org_id = old.org_id";

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
