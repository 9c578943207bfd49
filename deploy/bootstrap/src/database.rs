//! Roles, database and migrations.

use std::collections::BTreeMap;
use std::path::Path;

use ::database::setup;
use runtime::Reader;

use crate::error::BootstrapError;
use crate::keys::password_path;

/// Makes roles and database as the superuser of `DASHFLEET_DATABASE_ADMIN_URL`, with the passwords of the keys
/// folder, then migrates as the owner.
///
/// # Errors
/// [`BootstrapError`].
pub async fn ensure(reader: &mut Reader, keys: &Path) -> Result<(), BootstrapError> {
    let admin_url = reader.secret("DASHFLEET_DATABASE_ADMIN_URL")?;
    let mut passwords = BTreeMap::new();
    for role in setup::roles() {
        let path = password_path(keys, &role);
        let password = std::fs::read_to_string(&path)
            .map_err(|source| BootstrapError::File { path, source })?;
        passwords.insert(role, password.trim().to_owned());
    }
    setup::ensure_roles(&admin_url, &passwords, setup::DATABASE).await?;
    let password = passwords.get(setup::OWNER).map_or("", String::as_str);
    setup::migrate(&setup::url_of(
        &admin_url,
        setup::OWNER,
        password,
        setup::DATABASE,
    )?)
    .await?;
    Ok(())
}

/// Migrates as the owner of `DASHFLEET_DATABASE_OWNER_URL`.
///
/// # Errors
/// [`BootstrapError`].
pub async fn migrate(reader: &mut Reader) -> Result<(), BootstrapError> {
    let owner_url = reader.secret("DASHFLEET_DATABASE_OWNER_URL")?;
    setup::migrate(&owner_url).await?;
    Ok(())
}
