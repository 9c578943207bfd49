//! `Idempotency-Key`: the same key and body give the same actions, however often and at once it is used.

use contract::{Problem, ProblemKind};
use database::Tx;
use domain::{OrgId, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::ActionError;
use crate::store::idempotency;

/// What the keys are filed under: one call for whoever gives them, whether it creates one action or many.
const ROUTE: &str = "actions.create";

/// A caller's key, and the body that it came with.
#[derive(Debug)]
pub struct Key {
    key: String,
    body_hash: Vec<u8>,
}

impl Key {
    /// The key of a request, if it has one.
    ///
    /// # Errors
    /// [`ActionError::Bug`] when the body cannot be encoded.
    pub fn of<B: Serialize>(key: Option<&str>, body: &B) -> Result<Option<Self>, ActionError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let body = serde_json::to_vec(body).map_err(|error| ActionError::Bug(error.to_string()))?;
        Ok(Some(Self {
            key: key.to_owned(),
            body_hash: Sha256::digest(&body).to_vec(),
        }))
    }

    /// The actions that the key made before; `None` when it made nothing yet.
    ///
    /// # Errors
    /// CONFLICT when it came with another body; [`ActionError::Database`].
    pub async fn made_in_tx(
        &self,
        tx: &mut Tx,
        org: OrgId,
    ) -> Result<Option<Vec<Uuid>>, ActionError> {
        match idempotency::key_get_in_tx(tx, org, ROUTE, &self.key).await? {
            Some((hash, _)) if hash != self.body_hash => Err(Problem::new(
                ProblemKind::Conflict,
                "this Idempotency-Key was used for another body",
            )
            .into()),
            Some((_, actions)) => Ok(Some(actions)),
            None => Ok(None),
        }
    }

    /// Takes the key for actions that this transaction creates. A concurrent request with the same key is waited for:
    /// what it made is given instead.
    ///
    /// # Errors
    /// As [`Key::made_in_tx`]; UNAVAILABLE when the key was forgotten in the same moment.
    pub async fn take_in_tx(
        &self,
        tx: &mut Tx,
        org: OrgId,
        actions: &[Uuid],
        now: Timestamp,
    ) -> Result<Option<Vec<Uuid>>, ActionError> {
        let (key, hash) = (&self.key, &self.body_hash);
        if idempotency::key_take_in_tx(tx, org, ROUTE, key, hash, actions, now.utc()).await? {
            return Ok(None);
        }
        let made = self.made_in_tx(tx, org).await?;
        made.map(Some).ok_or_else(|| {
            Problem::unavailable("the idempotency key expired just now; try again").into()
        })
    }
}
