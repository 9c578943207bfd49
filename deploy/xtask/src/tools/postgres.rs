//! PostgreSQL's binaries: from `DASHFLEET_POSTGRES_BIN`, the system's packages or `PATH`; installed when there are none
//! and we may.

use std::fs;
use std::path::{Path, PathBuf};

use super::{apt, in_path, version_text};
use crate::error::{Error, Result};

/// The oldest major version that the product works with.
pub const OLDEST: u32 = 15;

/// A folder with `initdb` and `postgres` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The folder.
    pub folder: PathBuf,
    /// The major version.
    pub version: u32,
}

/// Finds the binaries, or installs the system's package. A cluster that exists needs its own major version.
pub fn ensure(needed: Option<u32>) -> Result<Binaries> {
    if let Some(found) = choose(candidates(), needed) {
        return Ok(found);
    }
    if let Some(version) = needed {
        let reason = format!("the cluster in this data folder was made by PostgreSQL {version}");
        apt::install(&[&format!("postgresql-{version}")], &reason)?;
    } else {
        apt::install(
            &["postgresql"],
            &format!("PostgreSQL {OLDEST} or newer is missing"),
        )?;
    }
    choose(candidates(), needed).ok_or_else(|| {
        let found: Vec<String> = candidates()
            .iter()
            .map(|one| one.version.to_string())
            .collect();
        let found = if found.is_empty() {
            "none".to_owned()
        } else {
            found.join(", ")
        };
        let wanted = needed.map_or(format!("{OLDEST} or newer"), |version| version.to_string());
        Error::failed(format!(
            "PostgreSQL {wanted} is needed and this system's packages give {found}; \
             install it from the PostgreSQL project's own packages (PGDG), or name its folder in DASHFLEET_POSTGRES_BIN"
        ))
    })
}

/// The newest of the candidates that may serve.
pub fn choose(candidates: Vec<Binaries>, needed: Option<u32>) -> Option<Binaries> {
    let named = std::env::var_os("DASHFLEET_POSTGRES_BIN").map(PathBuf::from);
    let named = named.and_then(|folder| folder.canonicalize().ok());
    candidates
        .into_iter()
        .filter(|one| needed.map_or(one.version >= OLDEST, |version| one.version == version))
        .max_by_key(|one| (Some(&one.folder) == named.as_ref(), one.version))
}

fn candidates() -> Vec<Binaries> {
    let named = std::env::var_os("DASHFLEET_POSTGRES_BIN").map(PathBuf::from);
    let debian = subfolders(Path::new("/usr/lib/postgresql"));
    let path = in_path("postgres").and_then(|program| Some(program.parent()?.to_owned()));
    named
        .into_iter()
        .chain(debian)
        .chain(path)
        .filter_map(examine)
        .collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect()
}

fn examine(folder: PathBuf) -> Option<Binaries> {
    // `PATH` often holds links into the real folder, which has the other programs too.
    let folder = folder
        .join("postgres")
        .canonicalize()
        .ok()?
        .parent()?
        .to_owned();
    let text = version_text(&folder.join("postgres"))?;
    folder.join("initdb").is_file().then_some(())?;
    Some(Binaries {
        version: version_of(&text)?,
        folder,
    })
}

/// The major version in `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
pub fn version_of(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("(PostgreSQL) ")?;
    rest.split(|letter: char| !letter.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}
