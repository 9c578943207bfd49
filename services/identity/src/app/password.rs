//! Passwords: Argon2id, off the asynchronous threads, a few at a time. Which are taken: [`rules`].

pub mod rules;

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use contract::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::IdentityError;

/// How many hashes are computed at once: each takes a core for some tens of milliseconds, and 19 MiB.
const AT_ONCE: usize = 2;
/// How many may wait for that; more are sent away at once.
const WAITING_MAX: usize = 64;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Computes and verifies hashes.
pub struct Passwords {
    permits: Arc<Semaphore>,
    places: Semaphore,
    /// The hash of nobody's password, so that an unknown address takes as long as a known one.
    decoy: String,
}

impl Passwords {
    /// Ready to verify.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when hashing does not work.
    pub async fn new() -> Result<Self, IdentityError> {
        let decoy = hash(super::secret::new(super::secret::SecretKind::AccessToken)).await?;
        Ok(Self {
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            places: Semaphore::new(AT_ONCE + WAITING_MAX),
            decoy,
        })
    }

    /// Whether a password fits a hash. Without a hash it never does, and takes as long to say so.
    ///
    /// # Errors
    /// UNAVAILABLE when too many wait already.
    pub async fn verify(
        &self,
        password: String,
        phc: Option<String>,
    ) -> Result<bool, IdentityError> {
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let permit = self.permit().await?;
        let known = phc.is_some();
        let phc = phc.unwrap_or_else(|| self.decoy.clone());
        let fits = tokio::task::spawn_blocking(move || {
            // Held by the work itself: whoever asked may have gone.
            let _permit = permit;
            Argon2::default()
                .verify_password(password.as_bytes(), phc.as_str())
                .is_ok()
        });
        Ok(fits.await.map_err(IdentityError::internal)? && known)
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// UNAVAILABLE when too many wait already.
    pub async fn hash(&self, password: String) -> Result<String, IdentityError> {
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let permit = self.permit().await?;
        hash_with(password, Some(permit)).await
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, IdentityError> {
        tokio::time::timeout(PATIENCE, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| busy())?
            .map_err(IdentityError::internal)
    }
}

fn busy() -> IdentityError {
    IdentityError::Refused(Problem::unavailable("too many logins at once"))
}

/// Argon2id with the library's parameters (19 MiB, two passes), in the PHC format.
///
/// # Errors
/// [`IdentityError::Internal`] when it does not work.
pub async fn hash(password: String) -> Result<String, IdentityError> {
    hash_with(password, None).await
}

async fn hash_with(
    password: String,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<String, IdentityError> {
    let hashed = tokio::task::spawn_blocking(move || {
        // Held by the work itself, as above.
        let _permit = permit;
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
    });
    hashed
        .await
        .map_err(IdentityError::internal)?
        .map_err(IdentityError::internal)
}
