//! `Idempotency-Key`: the same key and body make one thing, and give its secret again, which follows from the key.

use contract::{Problem, ProblemKind};
use database::Tx;
use domain::OrgId;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::app::App;
use crate::app::secret::{self, SecretKind};
use crate::error::IdentityError;
use crate::store;
use crate::store::Hash;
use crate::store::idempotency;

/// A caller's key, and the body that it came with.
#[derive(Debug)]
pub struct Key {
    route: &'static str,
    key: String,
    body_hash: Hash,
}

impl Key {
    /// The key of a request by this principal, if it has one: what one made, another does not get the secret of.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when the body cannot be encoded.
    pub fn of<B: Serialize>(
        route: &'static str,
        key: Option<String>,
        principal: Uuid,
        body: &B,
    ) -> Result<Option<Self>, IdentityError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let body = serde_json::to_vec(&(principal, body)).map_err(IdentityError::internal)?;
        Ok(Some(Self {
            route,
            key,
            body_hash: Sha256::digest(&body).into(),
        }))
    }

    fn row(&self) -> idempotency::Key<'_> {
        idempotency::Key {
            route: self.route,
            key: &self.key,
            body_hash: &self.body_hash,
        }
    }

    /// What the secret of a thing follows from.
    fn seed(&self, thing: Uuid) -> String {
        format!("{}\0{thing}\0{}", self.route, self.key)
    }

    /// Takes the key for a thing that this transaction makes. A concurrent request with the same key is waited for: what
    /// it made is given instead.
    ///
    /// # Errors
    /// CONFLICT when it came with another body; UNAVAILABLE.
    pub async fn take_in_tx(
        &self,
        tx: &mut Tx,
        org: OrgId,
        thing: Uuid,
    ) -> Result<Option<Uuid>, IdentityError> {
        if store::idempotency::take_in_tx(tx, org, self.row(), thing).await? {
            return Ok(None);
        }
        let made = store::idempotency::get_in_tx(tx, org, self.row()).await?;
        let made = made.ok_or_else(|| {
            Problem::unavailable("the idempotency key expired just now; try again")
        })?;
        if !made.same_body {
            let text = "this Idempotency-Key was used for another body";
            return Err(Problem::new(ProblemKind::Conflict, text).into());
        }
        Ok(Some(made.made))
    }
}

/// What a repetition gets whose secret cannot be made again: none of the keys that sign now is the one of then.
pub(crate) fn secret_gone() -> IdentityError {
    let text = "this was made before with the same Idempotency-Key, and its secret can no longer be shown; \
                revoke it and make another";
    Problem::new(ProblemKind::Conflict, text).into()
}

impl App {
    /// The secret of a thing that is made: with a key the one that follows from it, else a new one.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when nothing can be signed.
    pub(crate) fn secret_of(
        &self,
        kind: SecretKind,
        thing: Uuid,
        key: Option<&Key>,
    ) -> Result<String, IdentityError> {
        match key {
            None => Ok(secret::new(kind)),
            Some(key) => Ok(self.signer.successors(kind, &key.seed(thing))?.first),
        }
    }

    /// The secrets that a thing may have which was made with this key, with their hashes: whichever of the keys that sign
    /// was in use then.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when nothing can be signed.
    pub(crate) fn secrets_of(
        &self,
        kind: SecretKind,
        thing: Uuid,
        key: &Key,
    ) -> Result<Vec<(String, Hash)>, IdentityError> {
        let made = self.signer.successors(kind, &key.seed(thing))?;
        let all = std::iter::once(made.first).chain(made.others);
        Ok(all
            .map(|secret| {
                let hash = secret::hash(&secret);
                (secret, hash)
            })
            .collect())
    }
}
