//! `Idempotency-Key`: the same key and body give the same things, however often and at once it is used.

use contract::{Problem, ProblemKind};
use database::Tx;
use domain::{OrgId, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::SchedulerError;
use crate::store::idempotency;

/// A caller's key, and the body that it came with.
#[derive(Debug)]
pub struct Key {
    route: &'static str,
    key: String,
    body_hash: Vec<u8>,
}

impl Key {
    /// The key of a request, if it has one, filed under `route`.
    ///
    /// # Errors
    /// [`SchedulerError::Bug`] when the body cannot be encoded.
    pub fn of<B: Serialize>(
        route: &'static str,
        key: Option<&str>,
        body: &B,
    ) -> Result<Option<Self>, SchedulerError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let body =
            serde_json::to_vec(body).map_err(|error| SchedulerError::Bug(error.to_string()))?;
        Ok(Some(Self {
            route,
            key: key.to_owned(),
            body_hash: Sha256::digest(&body).to_vec(),
        }))
    }

    /// What the key made before; `None` when it made nothing yet.
    ///
    /// # Errors
    /// CONFLICT when it came with another body; [`SchedulerError::Database`].
    pub async fn made_in_tx(
        &self,
        tx: &mut Tx,
        org: OrgId,
    ) -> Result<Option<Vec<Uuid>>, SchedulerError> {
        match idempotency::key_get_in_tx(tx, org, self.route, &self.key).await? {
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
    ) -> Result<Option<Vec<Uuid>>, SchedulerError> {
        let (route, key, hash) = (self.route, &self.key, &self.body_hash);
        let now = Timestamp::now().utc();
        if idempotency::key_take_in_tx(tx, org, route, key, hash, made, now).await? {
            return Ok(None);
        }
        let made = self.made_in_tx(tx, org).await?;
        made.map(Some).ok_or_else(|| {
            Problem::unavailable("the idempotency key expired just now; try again").into()
        })
    }
}
