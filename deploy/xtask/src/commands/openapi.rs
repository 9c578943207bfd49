//! `openapi`: writes the document that the gateway's code describes, or checks that the committed one is it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::terminal;
use crate::workspace::Workspace;

/// The committed document, below the clone's top.
const DOCUMENT: &str = "openapi/openapi.json";

/// Writes or checks the document.
pub fn run(check: bool) -> Result<()> {
    let workspace = Workspace::find()?;
    workspace.build(false)?;
    let gateway = workspace.binaries(false).join("dashfleet-gateway");
    let output = Command::new(&gateway)
        .arg("--print-openapi")
        .output()
        .map_err(|source| Error::io("cannot run", &gateway, source))?;
    let valid = serde_json::from_slice::<serde_json::Value>(&output.stdout)
        .is_ok_and(|document| document.get("openapi").is_some());
    if !output.status.success() || !valid {
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        return Err(Error::failed(format!(
            "the gateway printed no document ({status}): {said}"
        )));
    }
    let path = workspace.root.join(DOCUMENT);
    let committed = fs::read(&path).unwrap_or_default();
    if committed == output.stdout {
        terminal::progress("openapi", &format!("{DOCUMENT} is what the code says"));
        return Ok(());
    }
    if check {
        let difference = first_difference(&committed, &output.stdout);
        return Err(Error::failed(format!(
            "{DOCUMENT} is not what the code says ({difference}); \
             run `cargo xtask openapi` and commit the result"
        )));
    }
    write(&path, &output.stdout)?;
    terminal::progress("openapi", &format!("wrote {DOCUMENT}"));
    Ok(())
}

/// The document is public, so it gets a file's usual mode.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("json.tmp");
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| Error::io("cannot write", path, source))
}

/// Where two texts begin to differ, for a hint.
pub fn first_difference(old: &[u8], new: &[u8]) -> String {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let (mut old, mut new) = (old.lines(), new.lines());
    let mut number = 1;
    loop {
        match (old.next(), new.next()) {
            (Some(before), Some(after)) if before == after => number += 1,
            (None, None) => return "only line ends differ".to_owned(),
            (before, after) => {
                let cut = |line: Option<&str>| -> String {
                    line.map_or("nothing".to_owned(), |line| {
                        format!("`{}`", line.trim().chars().take(60).collect::<String>())
                    })
                };
                return format!("line {number}: {} became {}", cut(before), cut(after));
            }
        }
    }
}
