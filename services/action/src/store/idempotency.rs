//! `Idempotency-Key`s: which body each stands for, and which actions it made.

use owner::idempotency::Keys;

const TAKE: &str = "
    INSERT INTO action.idempotency_keys (org_id, route, key, body_hash, action_ids, created_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING";

const GET: &str = "
    SELECT body_hash, action_ids FROM action.idempotency_keys WHERE org_id = $1 AND route = $2 AND key = $3";

/// Where this service keeps them.
pub static KEYS: Keys = Keys {
    take: TAKE,
    get: GET,
};
