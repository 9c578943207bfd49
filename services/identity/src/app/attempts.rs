//! Limits of guessing: failures by address and account, a few at once in this process, and so many a minute together with
//! all other replicas. Accounts that are not there count like those that are.

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
    /// Begins an attempt. It counts here until [`App::attempt_end`], so that many at once count too.
    ///
    /// # Errors
    /// RATE_LIMITED with the time to wait; UNAVAILABLE.
    pub(crate) async fn attempt_begin(&self, who: &Hash) -> Result<(), IdentityError> {
        self.login_failures
            .take(who, Instant::now())
            .map_err(limited)?;
        let level = store::login_failure::level(self.pools.system(), who, per_second()).await;
        let refused = match level {
            Ok(level) => {
                let above = level - f64::from(PER_MINUTE - 1);
                if above <= 0.0 {
                    return Ok(());
                }
                limited(Duration::from_secs_f64(above / per_second()))
            }
            Err(error) => error.into(),
        };
        self.login_failures.give_back(who);
        Err(refused)
    }

    /// Ends an attempt. Only a failure is written.
    pub(crate) async fn attempt_end(&self, who: &Hash, failed: bool) {
        if !failed {
            self.login_failures.give_back(who);
            return;
        }
        let counted = store::login_failure::count(self.pools.system(), who, per_second()).await;
        if let Err(error) = counted {
            // It counts in this process all the same.
            tracing::warn!(%error, "a failed attempt is not known to the other replicas");
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
