//! For whoever is locked out: commands that work straight on the database, for those who can reach it anyway.

use contract::audit::{Actor, AuditEntry, Resource};
use database::{Pools, Tx};
use domain::OrgId;
use uuid::Uuid;

use crate::app::audit;
use crate::app::secret::{self, SecretKind};
use crate::config::AccountConfig;
use crate::error::IdentityError;
use crate::store;
use crate::store::password_reset::Maker;

/// How long the link works, in seconds.
const SECONDS: f64 = 3_600.0;

fn nobody(config: &AccountConfig) -> IdentityError {
    IdentityError::internal(format!(
        "there is no account with the address {}",
        config.email
    ))
}

fn pools(config: &AccountConfig) -> Result<Pools, IdentityError> {
    let database = &config.database;
    Ok(Pools::connect(
        "identity-rescue",
        &database.url,
        &database.system_url,
        1,
    )?)
}

/// Tells the audit of each organisation that the person belongs to what a command did. Who ran it nobody knows here.
async fn note_in_tx(tx: &mut Tx, user: Uuid, call: &str) -> Result<(), IdentityError> {
    let orgs = store::user::organizations_in_tx(tx, user).await?;
    let entry = |org| {
        let actor = Actor::service(contract::identity::SERVICE);
        let entry = AuditEntry::new(OrgId(org), actor, call, Resource::of("user", user));
        entry.because("by a command of somebody who reaches the database")
    };
    audit::note_all_in_tx(tx, orgs.into_iter().map(entry).collect()).await?;
    Ok(())
}

/// A link by which the person of this address sets a new password.
///
/// # Errors
/// [`IdentityError`] when the database is away or there is no such person.
pub async fn password_reset(config: &AccountConfig) -> Result<String, IdentityError> {
    let pools = pools(config)?;
    let secret = secret::new(SecretKind::PasswordReset);
    let mut tx = pools.system_tx().await?;
    let known = store::user::by_email(&mut *tx, &config.email).await?;
    let known = known.ok_or_else(|| nobody(config))?;
    let (email, hash) = (known.email, secret::hash(&secret));
    // By nobody who has an account.
    let maker = Maker {
        by: Uuid::nil(),
        org: None,
    };
    store::password_reset::make_in_tx(&mut tx, &email, &hash, SECONDS, maker, false).await?;
    note_in_tx(&mut tx, known.id, "member.reset").await?;
    tx.commit().await?;
    pools.close().await;
    let base = config.public_url.as_deref().unwrap_or_default();
    Ok(format!("{base}/password-reset#{secret}"))
}

/// The person of this address administers the installation from now on.
///
/// # Errors
/// [`IdentityError`] when the database is away or there is no such person.
pub async fn platform_admin(config: &AccountConfig) -> Result<(), IdentityError> {
    let pools = pools(config)?;
    let mut tx = pools.system_tx().await?;
    let known = store::user::platform_admin_in_tx(&mut tx, &config.email).await?;
    let user = known.ok_or_else(|| nobody(config))?;
    note_in_tx(&mut tx, user, "platform.admin").await?;
    tx.commit().await?;
    pools.close().await;
    Ok(())
}
