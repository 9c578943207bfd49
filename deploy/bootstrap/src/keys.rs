//! The keys folder: a subfolder for each service, which gets that one and no other; seeds and passwords 0600.
//!
//! Losing `action/signing*.nk` orphans every agent: they obey no other key. Back the folder up where you keep
//! your other secrets. To rotate, replace `signing.nk` by `signing-next.nk` and make a new next one, after every
//! agent has been told (the `keys` order).

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use contract::permissions::USERS;
use nkeys::{KeyPair, KeyPairType, XKey};
use rand::Rng;

use crate::error::BootstrapError;

/// Keys beside the bus users': file, and what kind of key it holds.
const OTHERS: &[(&str, Kind)] = &[
    (
        "identity/callout-issuer.nk",
        Kind::Nkey(KeyPairType::Account),
    ),
    ("identity/callout-xkey.nk", Kind::Xkey),
    ("identity/jwt.nk", Kind::Nkey(KeyPairType::Service)),
    ("action/signing.nk", Kind::Nkey(KeyPairType::Service)),
    ("action/signing-next.nk", Kind::Nkey(KeyPairType::Service)),
];

enum Kind {
    Nkey(KeyPairType),
    Xkey,
}

/// The file of public keys, for the bus server's environment.
pub const PUBLIC_KEYS: &str = "nats.env";

/// Makes what is missing of the folder.
///
/// # Errors
/// [`BootstrapError::File`], or [`BootstrapError::Key`] when a file is there and holds no key.
pub fn ensure(folder: &Path) -> Result<(), BootstrapError> {
    let mut public = String::new();
    for user in USERS {
        let key = nkey(&folder.join(user.seed_file()), &KeyPairType::User)?;
        let _ = writeln!(public, "{}={}", user.variable(), key);
    }
    for (file, kind) in OTHERS {
        let path = folder.join(file);
        let key = match kind {
            Kind::Nkey(kind) => nkey(&path, kind)?,
            Kind::Xkey => xkey(&path)?,
        };
        match *file {
            "identity/callout-issuer.nk" => _ = writeln!(public, "DASHFLEET_CALLOUT_ISSUER={key}"),
            "identity/callout-xkey.nk" => _ = writeln!(public, "DASHFLEET_CALLOUT_XKEY={key}"),
            _ => {}
        }
    }
    for role in ::database::setup::roles() {
        secret(&password_path(folder, &role), || Ok(random_hex()))?;
    }
    replace(&folder.join(PUBLIC_KEYS), &public)
}

/// Where a database role's password lies.
#[must_use]
pub fn password_path(folder: &Path, role: &str) -> PathBuf {
    folder.join("postgres").join(format!("{role}.password"))
}

/// A random password: 32 hexadecimal digits.
fn random_hex() -> String {
    rand::rng()
        .random::<[u8; 16]>()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn nkey(path: &Path, kind: &KeyPairType) -> Result<String, BootstrapError> {
    let wrong = |reason: String| BootstrapError::Key {
        path: path.to_owned(),
        reason,
    };
    let seed = secret(path, || {
        KeyPair::new(kind.clone())
            .seed()
            .map_err(|error| wrong(error.to_string()))
    })?;
    Ok(KeyPair::from_seed(&seed)
        .map_err(|error| wrong(error.to_string()))?
        .public_key())
}

fn xkey(path: &Path) -> Result<String, BootstrapError> {
    let wrong = |reason: String| BootstrapError::Key {
        path: path.to_owned(),
        reason,
    };
    let seed = secret(path, || {
        XKey::new().seed().map_err(|error| wrong(error.to_string()))
    })?;
    Ok(XKey::from_seed(&seed)
        .map_err(|error| wrong(error.to_string()))?
        .public_key())
}

/// The secret in a file; made when there is none. Made under another name first, so that a file is never half a key.
fn secret(
    path: &Path,
    make: impl FnOnce() -> Result<String, BootstrapError>,
) -> Result<String, BootstrapError> {
    let failed = |source| BootstrapError::File {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // No newline: an orchestrator passes the file's bytes on as they are, into a URL too.
    let secret = make()?;
    replace(path, &secret)?;
    Ok(secret)
}

fn replace(path: &Path, text: &str) -> Result<(), BootstrapError> {
    let failed = |source| BootstrapError::File {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        create_private(folder).map_err(failed)?;
    }
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
}

fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
