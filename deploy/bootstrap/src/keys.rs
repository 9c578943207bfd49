//! The keys folder: a subfolder for each service, which gets that one and no other; seeds and passwords 0600.
//!
//! Losing `action/signing*.nk` orphans every agent: they obey no other key. Back the folder up where you keep
//! your other secrets. To rotate, replace `signing.nk` by `signing-next.nk` and make a new next one, after every
//! agent has been told (the `keys` order).
//!
//! `action/signing-known.pub` lists the public halves of all that were ever there: what one of them signed of the audit is
//! believed for as long as it stands there, and no key that stands only in a database is. [`ensure`] adds to it, so run it
//! after a rotation too, and give the file to action beside the seeds.
//!
//! `identity/jwt.nk` and `identity/data.keys` hold several keys, one in each line, the first in use: [`rotate_jwt`] and
//! [`rotate_data`] put another one there. Losing `data.keys` loses what was sealed with it.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use contract::permissions::users;
use domain::job::is_pool;
use nkeys::{KeyPair, KeyPairType, XKey};
use rand::Rng;
use seal::KeyRing;

use crate::error::BootstrapError;

/// Keys beside the bus users': file, and what kind of key it holds.
const OTHERS: &[(&str, Kind)] = &[
    (
        "identity/callout-issuer.nk",
        Kind::Nkey(KeyPairType::Account),
    ),
    ("identity/callout-xkey.nk", Kind::Xkey),
    (JWT, Kind::Jwt),
    (DATA, Kind::Data),
    ("action/signing.nk", Kind::Nkey(KeyPairType::Service)),
    ("action/signing-next.nk", Kind::Nkey(KeyPairType::Service)),
];

/// The keys that sign grants: the one in use, the next, the one before.
const JWT: &str = "identity/jwt.nk";
/// The keys that seal secrets at rest.
const DATA: &str = "identity/data.keys";
/// The public keys that sign what agents obey and the ends of the audit's chains, and those that did.
const SIGNED: &str = "action/signing-known.pub";
/// How many keys for grants are published. The one before still verifies what it signed, at most five minutes old.
const JWT_KEYS: usize = 3;

enum Kind {
    Nkey(KeyPairType),
    Xkey,
    /// nkeys, of which there are two or more: the second is known before it is used.
    Jwt,
    /// Keys of AES-256.
    Data,
}

/// The file of public keys, for the bus server's environment.
pub const PUBLIC_KEYS: &str = "nats.env";

/// Makes what is missing of the folder, with a seed for the workers of each of these pools.
///
/// # Errors
/// [`BootstrapError::File`], or [`BootstrapError::Key`] when a file is there and holds no key.
pub fn ensure(folder: &Path, pools: &[String]) -> Result<(), BootstrapError> {
    let (mut public, mut signing) = (String::new(), Vec::new());
    // A pool that is off the list keeps its key: a server whose configuration still names it would not start without.
    let mut known = seeded(folder)?;
    known.retain(|pool| !pools.contains(pool));
    for user in users(&[pools, &known].concat()) {
        let key = nkey(&folder.join(user.seed_file()), &KeyPairType::User)?;
        let _ = writeln!(public, "{}={}", user.variable(), key);
    }
    for (file, kind) in OTHERS {
        let path = folder.join(file);
        let key = match kind {
            Kind::Nkey(kind) => nkey(&path, kind)?,
            Kind::Xkey => xkey(&path)?,
            Kind::Jwt => {
                if let [_] = jwt_seeds(&path)?.as_slice() {
                    rotated(&path, |seeds| Ok([seeds, vec![new_jwt(&path)?]].concat()))?;
                }
                continue;
            }
            Kind::Data => {
                let lines = secret(&path, || new_data(&path))?;
                KeyRing::from_text(&lines).map_err(wrong(&path))?;
                continue;
            }
        };
        match *file {
            "identity/callout-issuer.nk" => _ = writeln!(public, "DASHFLEET_CALLOUT_ISSUER={key}"),
            "identity/callout-xkey.nk" => _ = writeln!(public, "DASHFLEET_CALLOUT_XKEY={key}"),
            "action/signing.nk" | "action/signing-next.nk" => signing.push(key),
            _ => {}
        }
    }
    remember(&folder.join(SIGNED), signing)?;
    for role in ::database::setup::roles() {
        secret(&password_path(folder, &role), || Ok(random_hex()))?;
    }
    replace(&folder.join(PUBLIC_KEYS), &public)
}

/// The pools that have a seed already.
fn seeded(folder: &Path) -> Result<Vec<String>, BootstrapError> {
    let path = folder.join("worker");
    let wrong = |source| BootstrapError::File {
        path: path.clone(),
        source,
    };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(wrong(source)),
    };
    let mut pools = Vec::new();
    for entry in entries {
        let name = entry.map_err(wrong)?.file_name();
        let pool = name.to_str().and_then(|name| {
            let name = name.strip_prefix("nats-")?;
            name.strip_suffix(".nk")
        });
        pools.extend(pool.filter(|pool| is_pool(pool)).map(ToOwned::to_owned));
    }
    pools.sort();
    Ok(pools)
}

/// Adds public keys to a list of them, one in each line. None ever goes.
fn remember(path: &Path, keys: Vec<String>) -> Result<(), BootstrapError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(BootstrapError::File {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut lines: Vec<&str> = text.lines().collect();
    let known = lines.len();
    for key in &keys {
        if !lines.contains(&key.as_str()) {
            lines.push(key);
        }
    }
    if lines.len() == known {
        return Ok(());
    }
    replace(path, &lines.join("\n"))
}

/// Puts the next key for grants into use and makes a new next one; the one that was in use still verifies. Identity's
/// replicas may be restarted one by one afterwards: each key that one of them signs with, all of them publish.
///
/// Twice within the five minutes that a grant lives would refuse grants that are still good; nothing else is lost.
///
/// # Errors
/// [`BootstrapError::File`], [`BootstrapError::Key`].
pub fn rotate_jwt(folder: &Path) -> Result<(), BootstrapError> {
    let path = folder.join(JWT);
    rotated(&path, |seeds| {
        let mut seeds = seeds.into_iter();
        let before = seeds.next();
        let now = match seeds.next() {
            Some(next) => next,
            None => new_jwt(&path)?,
        };
        let seeds = [Some(now), Some(new_jwt(&path)?), before];
        Ok(seeds.into_iter().flatten().take(JWT_KEYS).collect())
    })
}

/// Puts a new key before the others; what is sealed from then on is sealed with it.
///
/// # Errors
/// [`BootstrapError::File`], [`BootstrapError::Key`].
pub fn rotate_data(folder: &Path) -> Result<(), BootstrapError> {
    let path = folder.join(DATA);
    let lines = secret(&path, || new_data(&path))?;
    let lines = format!("{}\n{lines}", new_data(&path)?);
    KeyRing::from_text(&lines).map_err(wrong(&path))?;
    replace(&path, &lines)
}

fn wrong<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> BootstrapError + use<'_, E> {
    |error| BootstrapError::Key {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn new_data(path: &Path) -> Result<String, BootstrapError> {
    KeyRing::new_line().map_err(wrong(path))
}

fn new_jwt(path: &Path) -> Result<String, BootstrapError> {
    KeyPair::new(KeyPairType::Service)
        .seed()
        .map_err(wrong(path))
}

fn jwt_seeds(path: &Path) -> Result<Vec<String>, BootstrapError> {
    let text = secret(path, || new_jwt(path))?;
    let seeds: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    for seed in &seeds {
        KeyPair::from_seed(seed).map_err(wrong(path))?;
    }
    Ok(seeds)
}

fn rotated(
    path: &Path,
    change: impl FnOnce(Vec<String>) -> Result<Vec<String>, BootstrapError>,
) -> Result<(), BootstrapError> {
    replace(path, &change(jwt_seeds(path)?)?.join("\n"))
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
    let seed = secret(path, || {
        KeyPair::new(kind.clone()).seed().map_err(wrong(path))
    })?;
    Ok(KeyPair::from_seed(&seed).map_err(wrong(path))?.public_key())
}

fn xkey(path: &Path) -> Result<String, BootstrapError> {
    let seed = secret(path, || XKey::new().seed().map_err(wrong(path)))?;
    Ok(XKey::from_seed(&seed).map_err(wrong(path))?.public_key())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::indexing_slicing)]

    use super::*;

    fn lines(folder: &Path, file: &str) -> Vec<String> {
        let text = fs::read_to_string(folder.join(file)).expect("a file");
        text.lines().map(ToOwned::to_owned).collect()
    }

    fn one_pool() -> Vec<String> {
        vec!["default".to_owned()]
    }

    #[test]
    fn each_user_has_a_seed_in_its_services_folder_and_a_public_key_in_the_servers() {
        let folder = std::env::temp_dir().join(format!("dashfleet-keys-{}", random_hex()));
        ensure(&folder, &one_pool()).expect("a folder of keys");
        let public = lines(&folder, PUBLIC_KEYS);
        for user in users(&one_pool()) {
            let seed = lines(&folder, &user.seed_file());
            let key = KeyPair::from_seed(&seed[0]).expect("a seed").public_key();
            let line = format!("{}={key}", user.variable());
            assert!(public.contains(&line), "{line}");
        }
        // A service gets its own folder and no other: a worker's has a seed for its pool, and nothing besides.
        for (service, files) in [("scheduler", "nats.nk"), ("worker", "nats-default.nk")] {
            let there = fs::read_dir(folder.join(service)).expect("a folder");
            let names: Vec<_> = there
                .map(|entry| entry.expect("a file").file_name())
                .collect();
            assert_eq!(names, [files]);
        }
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_pool_that_is_added_gets_a_seed_it_keeps_and_nothing_of_the_others_changes() {
        let folder = std::env::temp_dir().join(format!("dashfleet-keys-{}", random_hex()));
        ensure(&folder, &one_pool()).expect("a folder of keys");
        let (before, seed) = (
            lines(&folder, PUBLIC_KEYS),
            lines(&folder, "worker/nats-default.nk"),
        );
        let pools = domain::job::pools("default,gpu-2").expect("pools");
        for _ in 0..2 {
            ensure(&folder, &pools).expect("a folder of keys");
            let mut public = lines(&folder, PUBLIC_KEYS);
            let own = lines(&folder, "worker/nats-gpu-2.nk");
            assert_ne!(own, seed);
            let key = KeyPair::from_seed(&own[0]).expect("a seed").public_key();
            let line = format!("DASHFLEET_NKEY_WORKER_GPU_2={key}");
            let known = public.len();
            public.retain(|other| *other != line);
            assert_eq!((known, public), (before.len() + 1, before.clone()));
            assert_eq!(lines(&folder, "worker/nats-default.nk"), seed);
        }
        // Off the list again: a bus server that still has its user needs its key to start.
        let public = lines(&folder, PUBLIC_KEYS);
        ensure(&folder, &one_pool()).expect("a folder of keys");
        assert_eq!(lines(&folder, PUBLIC_KEYS), public);
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_after() {
        let folder = std::env::temp_dir().join(format!("dashfleet-keys-{}", random_hex()));
        // From before there were several in the file.
        let old = new_jwt(&folder).expect("a seed");
        replace(&folder.join(JWT), &old).expect("a file");
        ensure(&folder, &one_pool()).expect("a folder of keys");
        let first = lines(&folder, JWT);
        assert_eq!((first.len(), &first[0]), (2, &old));
        ensure(&folder, &one_pool()).expect("again");
        assert_eq!(lines(&folder, JWT), first, "nothing changes by itself");

        rotate_jwt(&folder).expect("rotated");
        let second = lines(&folder, JWT);
        assert_eq!([&second[0], &second[2]], [&first[1], &first[0]]);
        rotate_jwt(&folder).expect("rotated");
        let third = lines(&folder, JWT);
        assert_eq!([&third[0], &third[2]], [&second[1], &second[0]]);
        assert_eq!(third.len(), JWT_KEYS);

        let data = lines(&folder, DATA);
        rotate_data(&folder).expect("rotated");
        let both = lines(&folder, DATA);
        assert_eq!(both[1..], data[..]);
        ensure(&folder, &one_pool()).expect("again");
        assert_eq!(lines(&folder, DATA), both);

        // What signed once stays known, in the order in which it came.
        let known = lines(&folder, SIGNED);
        assert_eq!(known.len(), 2);
        let next = folder.join("action/signing-next.nk");
        fs::rename(&next, folder.join("action/signing.nk")).expect("rotated");
        ensure(&folder, &one_pool()).expect("again");
        let since = lines(&folder, SIGNED);
        assert_eq!((since.len(), &since[..2]), (3, &known[..]));
        let current = nkey(&folder.join("action/signing.nk"), &KeyPairType::Service);
        assert_eq!(current.expect("a key"), known[1]);

        replace(&folder.join(JWT), "nonsense").expect("a file");
        let error = rotate_jwt(&folder).expect_err("no key").to_string();
        assert!(error.contains("jwt.nk"), "{error}");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
