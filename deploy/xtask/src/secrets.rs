//! The credentials of one product, made once and kept before anything uses them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;

/// Who the first OWNER is.
const ADMIN_EMAIL: &str = "admin@dashfleet.localhost";

/// Everything secret that the launcher itself makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secrets {
    /// Names this product: a database folder outside `<data>` belongs to it or not.
    pub product: String,
    /// The OWNER's e-mail address.
    pub admin_email: String,
    /// The OWNER's password.
    pub admin_password: String,
    /// The bootstrap API key.
    pub api_key: String,
    /// The bootstrap key for agents and scripts of Dash-Fleet. Empty in a file that is older than they are.
    #[serde(default)]
    pub legacy_api_key: String,
    /// The bootstrap enrolment token.
    pub enrollment_token: String,
    /// The password of PostgreSQL's superuser.
    pub postgres_password: String,
}

impl Secrets {
    /// Reads them, or makes and keeps them.
    pub fn load_or_make(path: &Path) -> Result<Self> {
        if let Some(mut secrets) = files::read_json::<Self>(path)? {
            if secrets.legacy_api_key.is_empty() {
                secrets.legacy_api_key = legacy_api_key()?;
                files::replace_json(path, &secrets)?;
            }
            return Ok(secrets);
        }
        let secrets = Self {
            product: random_hex(8)?,
            admin_email: ADMIN_EMAIL.to_owned(),
            admin_password: random_hex(12)?,
            api_key: format!("dfk_{}", random_hex(32)?),
            legacy_api_key: legacy_api_key()?,
            enrollment_token: format!("dfe_{}", random_hex(32)?),
            postgres_password: random_hex(24)?,
        };
        files::replace_json(path, &secrets)?;
        Ok(secrets)
    }
}

fn legacy_api_key() -> Result<String> {
    Ok(format!("dfl_{}", random_hex(32)?))
}

/// That many random bytes from the kernel, in hex.
pub fn random_hex(bytes: usize) -> Result<String> {
    let source = Path::new("/dev/urandom");
    let mut buffer = vec![0_u8; bytes];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut buffer))
        .map_err(|error| Error::io("cannot read", source, error))?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}
