//! Limits of guessing: failures by address and account, so many a minute at all replicas together. An attempt is counted
//! before the password is looked at, and given back when it was none: so of many at once no more are looked at than that.
//! This process counts besides, so that whoever is held back does not ask the database each time. Accounts that are not
//! there count like those that are.

use std::time::{Duration, Instant};

use contract::{Problem, ProblemKind};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::app::buckets::Buckets;
use crate::error::IdentityError;
use crate::store;
use crate::store::Hash;

/// Failures that an address may have for one account at once, and in a minute.
const PER_MINUTE: u32 = 10;
/// Who is refused waits at least for this part of an attempt.
const WAIT_LEAST: f64 = 0.1;
/// How many pairs of address and account are remembered here.
const REMEMBERED: usize = 65_536;
/// The longest network address that is told from others.
const ADDRESS_MAX_CHARS: usize = 64;

fn per_second() -> f64 {
    f64::from(PER_MINUTE) / 60.0
}

/// Failures by address and account.
#[must_use]
pub fn failures() -> Buckets<Hash> {
    Buckets::new(PER_MINUTE, per_second(), REMEMBERED)
}

/// How long after its last failure a row counts nothing any more, in seconds.
#[must_use]
pub fn empty_seconds() -> f64 {
    f64::from(PER_MINUTE) / per_second()
}

/// Address and account as they are counted. Addresses of strangers' accounts are nobody's business, so it is a hash.
#[must_use]
pub fn who(what: &str, address: &str, account: &str) -> Hash {
    let address: String = address.chars().take(ADDRESS_MAX_CHARS).collect();
    Sha256::digest(format!("{what}\0{address}\0{account}").as_bytes()).into()
}

fn limited(wait: Duration) -> IdentityError {
    Problem {
        retry_after_ms: u64::try_from(wait.as_millis()).ok(),
        ..Problem::new(
            ProblemKind::RateLimited,
            "too many failed attempts for this account from this address; wait a minute",
        )
    }
    .into()
}

impl App {
    /// Begins an attempt. It counts until [`App::attempt_end`] says that it was none.
    ///
    /// # Errors
    /// RATE_LIMITED with the time to wait; UNAVAILABLE.
    pub(crate) async fn attempt_begin(&self, who: &Hash) -> Result<(), IdentityError> {
        self.login_failures
            .take(who, Instant::now())
            .map_err(limited)?;
        let taken = self.attempt_take(who).await;
        if taken.is_err() {
            self.login_failures.give_back(who);
        }
        taken
    }

    async fn attempt_take(&self, who: &Hash) -> Result<(), IdentityError> {
        let (system, most) = (self.pools.system(), f64::from(PER_MINUTE - 1));
        if store::login_failure::take(system, who, per_second(), most).await? {
            return Ok(());
        }
        let level = store::login_failure::level(system, who, per_second()).await?;
        // There may be room by now; who was refused waits all the same.
        let above = (level - most).max(WAIT_LEAST);
        Err(limited(Duration::from_secs_f64(above / per_second())))
    }

    /// Ends an attempt: one that did not fail is given back.
    pub(crate) async fn attempt_end(&self, who: &Hash, failed: bool) {
        if failed {
            return;
        }
        self.login_failures.give_back(who);
        let given = store::login_failure::give_back(self.pools.system(), who).await;
        if let Err(error) = given {
            tracing::warn!(%error, "an attempt that did not fail counts as one that did, for a minute");
        }
    }
}

/// Whether a result is one of guessing wrong.
pub(crate) fn guessed_wrong<T>(result: &Result<T, IdentityError>) -> bool {
    matches!(
        result,
        Err(IdentityError::Refused(problem)) if problem.kind == ProblemKind::Unauthenticated
    )
}
