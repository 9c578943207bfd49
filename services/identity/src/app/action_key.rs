//! The keys whose orders agents obey: `action` says them, enrolment pins them.

use contract::Problem;
use contract::identity::{ActionKeyFingerprints, ActionKeysPut, Deployment};
use contract::order::fingerprint;

use crate::app::App;
use crate::error::IdentityError;
use crate::store;

/// The most keys: the one that signs, the one that will, and room for a rotation under way.
const KEYS_MAX: usize = 4;

impl App {
    /// What the keys look like, the signing one first.
    ///
    /// # Errors
    /// UNAVAILABLE before `action` has said them.
    pub async fn action_keys_get(&self) -> Result<ActionKeyFingerprints, IdentityError> {
        let keys = store::action_key::list(self.pools.system()).await?;
        if keys.is_empty() {
            return Err(Problem::unavailable("no key that signs orders is known yet").into());
        }
        let fingerprints = keys.iter().map(|key| fingerprint(key)).collect();
        Ok(ActionKeyFingerprints { fingerprints })
    }

    /// Keeps the keys, the signing one first, and says which installation this is.
    ///
    /// # Errors
    /// INVALID when a key is none; UNAVAILABLE before the bootstrap job ran.
    pub async fn action_keys_put(
        &self,
        request: &ActionKeysPut,
    ) -> Result<Deployment, IdentityError> {
        let keys = &request.keys;
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(Problem::invalid("keys", format!("takes 1 to {KEYS_MAX}")).into());
        }
        for (index, key) in keys.iter().enumerate() {
            let path = || format!("keys[{index}]");
            nkeys::from_public_key(key)
                .map_err(|_| Problem::invalid(path(), "is no public key"))?;
            if keys.iter().take(index).any(|other| other == key) {
                return Err(Problem::invalid(path(), "is there twice").into());
            }
        }
        let mut tx = self.pools.system_tx().await?;
        if store::action_key::list(&mut *tx).await? != *keys {
            store::action_key::put_in_tx(&mut tx, keys).await?;
            tracing::info!(keys = keys.len(), "action's keys were put");
        }
        // What they sign of the audit stays signed when they are replaced.
        let known = store::audit::head::signers(&mut *tx).await?;
        if keys.iter().any(|key| !known.contains(key)) {
            store::audit::head::signers_add_in_tx(&mut tx, keys).await?;
        }
        let deployment = store::deployment::get(&mut *tx).await?;
        tx.commit().await?;
        let deployment_id = deployment.ok_or_else(not_bootstrapped)?;
        Ok(Deployment { deployment_id })
    }
}

/// Nothing works before the bootstrap job made the installation.
pub(crate) fn not_bootstrapped() -> Problem {
    Problem::unavailable("this installation is not set up yet: run `dashfleet-identity bootstrap`")
}
