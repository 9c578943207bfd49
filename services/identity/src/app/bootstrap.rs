//! The first organisation and its OWNER, so that somebody can log in. It can run again and again.

use database::Pools;
use domain::access::{LEGACY_SCOPES, Role};
use domain::{OrgId, UserId};

use crate::app::{password, secret};
use crate::config::BootstrapConfig;
use crate::error::IdentityError;
use crate::store;
use crate::store::api_key::NewLegacyKey;

/// Name of the key and of the token.
const NAME: &str = "bootstrap";
/// How long the enrolment token lives, in days, and for how many machines.
const TOKEN_LIFE: (i32, i32) = (30, 10_000);
/// How many machines may be bound to the legacy key: Dash-Fleet kept its fleet in one file, and few had more than dozens.
const LEGACY_MACHINES_MAX: i32 = 1_000;

/// Ensures installation, organisation, OWNER, key and token. The first OWNER of all is platform administrator.
///
/// # Errors
/// [`IdentityError`] when the database is away, or a secret is already another organisation's.
pub async fn ensure(config: &BootstrapConfig) -> Result<OrgId, IdentityError> {
    let database = &config.database;
    let pools = Pools::connect("identity-bootstrap", &database.url, &database.system_url, 1)?;
    let result = ensure_with(&pools, config).await;
    pools.close().await;
    result
}

async fn ensure_with(pools: &Pools, config: &BootstrapConfig) -> Result<OrgId, IdentityError> {
    let mut tx = pools.system_tx().await?;
    store::organization::bootstrap_lock_in_tx(&mut tx).await?;
    store::deployment::ensure_in_tx(&mut tx).await?;
    let org = store::organization::ensure_in_tx(&mut tx, &config.organization).await?;
    let user = match store::user::id(&mut *tx, &config.admin_email).await? {
        // The password is the person's own by now.
        Some(user) => user,
        None => {
            let hash = password::hash(config.admin_password.clone()).await?;
            let user = UserId::new();
            let email = &config.admin_email;
            let name = email.split('@').next().unwrap_or(email);
            store::user::insert_in_tx(&mut tx, user, email, name, &hash).await?;
            user
        }
    };
    store::user::first_platform_admin_in_tx(&mut tx, user).await?;
    store::user::membership_ensure_in_tx(&mut tx, org, user, Role::Owner).await?;
    if let Some(key) = &config.api_key {
        let hash = secret::hash(key);
        let owner = store::api_key::ensure_in_tx(&mut tx, org, NAME, &hash, Role::Owner).await?;
        own(org, owner, "DASHFLEET_BOOTSTRAP_API_KEY")?;
    }
    if let Some(key) = &config.legacy_api_key {
        let hash = secret::hash(key);
        let key = NewLegacyKey {
            name: NAME,
            scopes: &LEGACY_SCOPES,
            networks: config.legacy_networks.as_deref(),
            machine_cap: LEGACY_MACHINES_MAX,
        };
        let owner = store::api_key::ensure_legacy_in_tx(&mut tx, org, &hash, &key).await?;
        own(org, owner, "DASHFLEET_BOOTSTRAP_LEGACY_API_KEY")?;
        store::organization::legacy_enable_in_tx(&mut tx, org).await?;
    }
    if let Some(token) = &config.enrollment_token {
        let hash = secret::hash(token);
        let owner =
            store::enrollment_token::ensure_in_tx(&mut tx, org, NAME, &hash, TOKEN_LIFE).await?;
        own(org, owner, "DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN")?;
    }
    tx.commit().await?;
    Ok(org)
}

fn own(org: OrgId, owner: OrgId, variable: &str) -> Result<(), IdentityError> {
    if org == owner {
        return Ok(());
    }
    Err(IdentityError::internal(format!(
        "{variable} already belongs to another organisation"
    )))
}
