//! `Idempotency-Key`: the same key and body give the same things, however often and at once it is used.

use contract::{Problem, ProblemKind};
use database::Tx;
use domain::{OrgId, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::OwnerError;

/// Where a service keeps keys: statements on the table of its own schema.
#[derive(Debug)]
pub struct Keys {
    /// Takes a key, unless it is taken. Parameters: organisation, route, key, hash of the body, ids, now.
    pub take: &'static str,
    /// Hash of the body, and ids, of a key. Parameters: organisation, route, key.
    pub get: &'static str,
}

/// A caller's key, and the body that it came with.
#[derive(Debug)]
pub struct Key {
    keys: &'static Keys,
    route: &'static str,
    key: String,
    body_hash: Vec<u8>,
}

impl Key {
    /// The key of a request, if it has one, filed under `route`.
    ///
    /// # Errors
    /// [`OwnerError::Bug`] when the body cannot be encoded.
    pub fn of<B: Serialize>(
        keys: &'static Keys,
        route: &'static str,
        key: Option<&str>,
        body: &B,
    ) -> Result<Option<Self>, OwnerError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let body = serde_json::to_vec(body).map_err(|error| OwnerError::Bug(error.to_string()))?;
        Ok(Some(Self {
            keys,
            route,
            key: key.to_owned(),
            body_hash: Sha256::digest(&body).to_vec(),
        }))
    }

    /// What the key made before; `None` when it made nothing yet.
    ///
    /// # Errors
    /// CONFLICT when it came with another body; [`OwnerError::Database`].
    pub async fn made_in_tx(
        &self,
        tx: &mut Tx,
        org: OrgId,
    ) -> Result<Option<Vec<Uuid>>, OwnerError> {
        let found: Option<(Vec<u8>, Vec<Uuid>)> = sqlx::query_as(self.keys.get)
            .bind(org.0)
            .bind(self.route)
            .bind(self.key.as_str())
            .fetch_optional(&mut **tx)
            .await?;
        match found {
            Some((hash, _)) if hash != self.body_hash => Err(Problem::new(
                ProblemKind::Conflict,
                "this Idempotency-Key was used for another body",
            )
            .into()),
            Some((_, made)) => Ok(Some(made)),
            None => Ok(None),
        }
    }

    /// Takes the key for what this transaction makes. A concurrent request with the same key is waited for: what it made is
    /// given instead, and then this transaction must make nothing.
    ///
    /// # Errors
    /// As [`Key::made_in_tx`]; UNAVAILABLE when the key was forgotten in the same moment.
    pub async fn take_in_tx(
        &self,
        tx: &mut Tx,
        org: OrgId,
        made: &[Uuid],
    ) -> Result<Option<Vec<Uuid>>, OwnerError> {
        let taken = sqlx::query(self.keys.take)
            .bind(org.0)
            .bind(self.route)
            .bind(self.key.as_str())
            .bind(self.body_hash.as_slice())
            .bind(made)
            .bind(Timestamp::now().utc())
            .execute(&mut **tx)
            .await?;
        if taken.rows_affected() == 1 {
            return Ok(None);
        }
        let made = self.made_in_tx(tx, org).await?;
        made.map(Some).ok_or_else(|| {
            Problem::unavailable("the idempotency key expired just now; try again").into()
        })
    }
}
