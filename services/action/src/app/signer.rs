//! Signing what agents obey, and the ends of the audit's chains. Two keys: the current one, and the next, which agents know
//! from their enrolment on. What keys before them signed of the audit is still believed, by a file beside them.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::audit::{Head, HeadSignature};
use contract::identity::ActionKeysPut;
use contract::order::{ORDER_PREFIX, Order, PAGE_PREFIX, Signed, SyncPage, Task, Verb};
use domain::{DeploymentId, MachineId, OrgId, Timestamp};
use nkeys::KeyPair;
use runtime::ConfigError;
use serde::Serialize;

use crate::app::App;
use crate::error::ActionError;

/// How long identity may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often identity is asked until it takes the keys.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is told again: an identity restored from a backup learns them anew.
const REPEAT: Duration = Duration::from_secs(60);

/// The list of public keys that ever signed.
const KNOWN: &str = "signing-known.pub";
/// More than an installation ever rotates through, and few enough for one message.
const KNOWN_MAX: usize = 1_000;
/// How much of a line that is no key an error shows: should it be a seed, little of it.
const SHOWN_MAX_CHARS: usize = 8;

/// The signing keys, and the installation that orders are given for.
pub struct Signer {
    current: KeyPair,
    public: Vec<String>,
    known: Vec<String>,
    deployment: OnceLock<DeploymentId>,
}

impl Signer {
    /// Reads `signing.nk`, `signing-next.nk`, and `signing-known.pub`, which may be absent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let wrong = |name: &str, reason: String| ConfigError {
            variable: "DASHFLEET_KEYS".into(),
            reason: format!("{name}: {reason}"),
        };
        let key = |name: &str| {
            let seed = runtime::keys::read_seed(folder, name)?;
            KeyPair::from_seed(&seed).map_err(|error| wrong(name, error.to_string()))
        };
        let (current, next) = (key("signing.nk")?, key("signing-next.nk")?);
        let public = vec![current.public_key(), next.public_key()];
        let mut known = public.clone();
        for text in runtime::keys::read_lines(folder, KNOWN)? {
            if nkeys::from_public_key(&text).is_err() {
                let shown: String = text.chars().take(SHOWN_MAX_CHARS).collect();
                return Err(wrong(KNOWN, format!("`{shown}` is no public key")));
            }
            if !known.contains(&text) {
                known.push(text);
            }
        }
        if known.len() > KNOWN_MAX {
            return Err(wrong(KNOWN, format!("has more than {KNOWN_MAX} keys")));
        }
        Ok(Self {
            current,
            public,
            known,
            deployment: OnceLock::new(),
        })
    }

    /// Whether these are the keys that agents should obey.
    #[must_use]
    pub fn is_pinned(&self, keys: &[String]) -> bool {
        keys.len() == self.public.len() && self.public.iter().all(|key| keys.contains(key))
    }

    /// Whether the installation is known, so that orders can be signed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.deployment.get().is_some()
    }

    /// The installation.
    ///
    /// # Errors
    /// UNAVAILABLE until identity has said it.
    pub fn deployment(&self) -> Result<DeploymentId, ActionError> {
        self.deployment.get().copied().ok_or_else(|| {
            contract::Problem::unavailable("identity has not taken the signing keys yet").into()
        })
    }

    /// An order to one machine.
    ///
    /// # Errors
    /// UNAVAILABLE before identity has said which installation this is.
    pub fn order(
        &self,
        org: OrgId,
        machine: MachineId,
        fingerprint: &str,
        verb: Verb,
        task: Option<Task>,
    ) -> Result<Vec<u8>, ActionError> {
        let keys = (verb == Verb::Keys).then(|| self.public.clone());
        let order = Order {
            deployment: self.deployment()?,
            org,
            machine,
            fingerprint: fingerprint.to_owned(),
            verb,
            issued_at: Timestamp::now(),
            task,
            keys,
        };
        encode(&self.sign(ORDER_PREFIX, &order)?)
    }

    /// A page that answers `sync`.
    ///
    /// # Errors
    /// [`ActionError::Bug`] when it cannot be encoded.
    pub fn page(&self, page: &SyncPage) -> Result<Signed, ActionError> {
        self.sign(PAGE_PREFIX, page)
    }

    /// The end of an audit's chain, signed now. Its prefix is no order's and no page's: no agent takes it for one.
    ///
    /// # Errors
    /// [`ActionError::Bug`] when the key cannot sign.
    pub fn head(&self, head: Head) -> Result<HeadSignature, ActionError> {
        HeadSignature::sign(head, Timestamp::now(), &self.current)
            .map_err(|error| ActionError::Bug(error.to_string()))
    }

    /// The public keys, the signing one first.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.public
    }

    /// The public keys whose signatures of the audit are believed: those, and the ones before them. From files alone.
    #[must_use]
    pub fn known_keys(&self) -> &[String] {
        &self.known
    }

    fn sign<T: Serialize>(&self, prefix: &[u8], body: &T) -> Result<Signed, ActionError> {
        Signed::sign(prefix, encode(body)?, &self.current)
            .map_err(|error| ActionError::Bug(error.to_string()))
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ActionError> {
    serde_json::to_vec(value).map_err(|error| ActionError::Bug(error.to_string()))
}

/// Tells identity the public keys, which it gives to agents at enrolment, and learns the installation's id.
pub async fn announce(app: Arc<App>) {
    loop {
        let request = ActionKeysPut {
            keys: app.signer.public.clone(),
        };
        match app.bus.service_call(&request, None, CALL_TIMEOUT).await {
            Ok(reply) => {
                let known = *app.signer.deployment.get_or_init(|| reply.deployment_id);
                if known != reply.deployment_id {
                    tracing::error!(%known, said = %reply.deployment_id, "identity speaks for another installation; orders stay with the first");
                }
                tokio::time::sleep(REPEAT).await;
            }
            Err(problem) => {
                tracing::debug!(%problem, "identity does not take the keys yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_signed_before_is_believed_and_signs_no_more() {
        let folder =
            std::env::temp_dir().join(format!("dashfleet-signer-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let [current, next, old] = [(); 3].map(|()| KeyPair::new_user());
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).expect("a file");
        };
        write("signing.nk", &current.seed().expect("a seed"));
        write("signing-next.nk", &next.seed().expect("a seed"));
        let read = || Signer::read(&folder);
        let keys = [&current, &next, &old].map(|key| key.public_key());
        assert_eq!(
            read().expect("keys").known_keys(),
            &keys[..2],
            "no list yet"
        );
        let listed = format!("{}\n\n{}\n", keys[2], keys[0]);
        write(KNOWN, &listed);
        let signer = read().expect("keys");
        assert_eq!(signer.keys(), &keys[..2]);
        assert_eq!(signer.known_keys(), &keys[..]);
        write(KNOWN, &format!("{listed}nonsense"));
        let refused = read().err().expect("refused").reason;
        assert!(
            refused.contains("signing-known.pub: `nonsense` is no public key"),
            "{refused}"
        );
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
