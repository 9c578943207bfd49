//! The files of the repository, and what their text says.

use std::path::{Path, PathBuf};
use std::process::Command;

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file that is in the repository, or would be after the next commit.
pub fn tracked() -> Vec<String> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(repository())
        .output()
        .expect("git");
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut paths: Vec<String> = listed
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(ToOwned::to_owned)
        .collect();
    // Deleted and not yet committed.
    paths.retain(|path| repository().join(path).is_file());
    paths.sort();
    paths.dedup();
    paths
}

pub fn rust() -> Vec<String> {
    let mut paths = tracked();
    paths.retain(|path| path.ends_with(".rs"));
    assert!(
        paths.len() > 100,
        "{} files: this is not the repository",
        paths.len()
    );
    paths
}

pub fn read(path: &str) -> String {
    text(path).unwrap_or_else(|| panic!("{path} cannot be read"))
}

/// The text of a file; `None` for one that is no text.
pub fn text(path: &str) -> Option<String> {
    String::from_utf8(std::fs::read(repository().join(path)).ok()?)
        .ok()
        .filter(|text| !text.contains('\0'))
}

/// A file's lines without those that are comments.
pub fn code(path: &str) -> String {
    let text = read(path);
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines
        .map(|line| line.split(" // ").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether a file is of a service's own code.
pub fn is_service(path: &str) -> bool {
    let mut parts = path.split('/');
    let service = parts.next() == Some("services")
        && parts
            .next()
            .is_some_and(|name| !["libs", "tests"].contains(&name));
    service && parts.next() == Some("src")
}

/// The module that a file of a crate is: `src/app/sync.rs` is `[app, sync]`; `None` for the wiring.
pub fn module(path: &str) -> Option<Vec<String>> {
    let inside = path.split_once("src/")?.1.strip_suffix(".rs")?;
    (!["lib", "main"].contains(&inside)).then(|| inside.split('/').map(ToOwned::to_owned).collect())
}

/// The first names after `crate::` (or as many `super::` as lead there), in the order of the text.
pub fn rooms_used(code: &str, depth: usize) -> Vec<String> {
    let up = "super::".repeat(depth);
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("::") {
        let (before, after) = (&code[..at + 2], &code[at + 2..]);
        let is_root =
            before.ends_with("crate::") || before.ends_with(&up) && !after.starts_with("super::");
        let inner = before
            .trim_end_matches("crate::")
            .trim_end_matches("super::");
        let names_more = inner.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if is_root && !names_more {
            rooms.extend(first_names(after));
        }
    }
    rooms
}

fn name(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// `a::b` is `a`; `{a::b, c::{d}}` is `a` and `c`.
fn first_names(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        return name(text).into_iter().collect();
    };
    let mut names = Vec::new();
    let (mut depth, mut begins) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if c.is_whitespace() => {}
            _ if begins => {
                begins = false;
                names.extend(name(&group[at..]));
            }
            _ => {}
        }
    }
    names
}

/// Whether a line has this, not as a part of a longer word.
pub fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let begins = !word.starts_with(part_of_word) || !before.is_some_and(part_of_word);
        begins && (!word.ends_with(part_of_word) || !after.is_some_and(part_of_word))
    })
}
