//! Private files.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use launcher::files;
use launcher::secrets::Secrets;

use crate::Scratch;

#[test]
fn a_replaced_file_is_private_and_never_seen_in_part() {
    let scratch = Scratch::new();
    let path = scratch.join("dev.json");
    let (short, long) = ("a".repeat(10), "b".repeat(100_000));
    files::replace_private(&path, short.as_bytes()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text == short || text == long, "{} bytes", text.len());
            }
        });
        for _ in 0..50 {
            files::replace_private(&path, long.as_bytes()).unwrap();
            files::replace_private(&path, short.as_bytes()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        std::fs::read_dir(&scratch.path).unwrap().count(),
        1,
        "a temporary file is left"
    );
}

#[test]
fn a_public_file_becomes_private_when_it_is_replaced() {
    let scratch = Scratch::new();
    let path = scratch.join("dev.json");
    std::fs::write(&path, "old").unwrap();
    files::replace_private(&path, b"new").unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn secrets_are_made_once_and_differ_between_products() {
    let scratch = Scratch::new();
    let first = Secrets::load_or_make(&scratch.join("one")).unwrap();
    assert_eq!(Secrets::load_or_make(&scratch.join("one")).unwrap(), first);
    let second = Secrets::load_or_make(&scratch.join("two")).unwrap();
    assert_ne!(second.api_key, first.api_key);
    assert_ne!(second.admin_password, first.admin_password);
    assert!(first.legacy_api_key.starts_with("dfl_"));
}

#[test]
fn a_secret_that_is_newer_than_its_file_is_added_to_it() {
    let scratch = Scratch::new();
    let path = scratch.join("secrets.json");
    let made = Secrets::load_or_make(&path).unwrap();
    let mut older = files::read_json::<serde_json::Value>(&path)
        .unwrap()
        .unwrap();
    older.as_object_mut().unwrap().remove("legacyApiKey");
    files::replace_json(&path, &older).unwrap();
    let added = Secrets::load_or_make(&path).unwrap();
    assert!(added.legacy_api_key.starts_with("dfl_"));
    assert_eq!(added.api_key, made.api_key);
    assert_eq!(Secrets::load_or_make(&path).unwrap(), added);
}

#[test]
fn the_tail_of_a_log_is_its_last_lines() {
    let scratch = Scratch::new();
    let path = scratch.join("x.log");
    let lines: Vec<String> = (0..10_000).map(|line| format!("line {line}")).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    assert_eq!(files::tail(&path, 2), "line 9998\nline 9999");
    assert_eq!(files::tail(&scratch.join("none.log"), 2), "");
}

#[test]
fn a_damaged_file_is_named() {
    let scratch = Scratch::new();
    let path = scratch.join("ports.json");
    std::fs::write(&path, "{").unwrap();
    let error = files::read_json::<serde_json::Value>(&path).unwrap_err();
    assert!(
        error.to_string().contains("ports.json is damaged"),
        "{error}"
    );
}
