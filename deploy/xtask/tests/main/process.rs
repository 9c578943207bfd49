//! Who a process is.

use std::process::Command;
use std::time::Duration;

use launcher::process::{Identity, has_argument, working_in};
use launcher::system::Signal;

use crate::{Scratch, eventually};

#[test]
fn an_identity_holds_until_the_process_ends() {
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let identity = Identity::of(child.id()).unwrap();
    assert!(identity.is_alive());
    assert_eq!(Identity::of(child.id()).as_ref(), Some(&identity));
    assert!(identity.signal(Signal::Terminate));
    // Dead, but not reaped yet: gone all the same.
    assert!(identity.wait_gone(Duration::from_secs(5)));
    child.wait().unwrap();
    assert!(!identity.signal(Signal::Terminate));
    assert!(Identity::of(child.id()).is_none());
}

#[test]
fn another_process_of_the_same_number_is_neither_alive_nor_signalled() {
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let mut identity = Identity::of(child.id()).unwrap();
    identity.start += 1;
    assert!(!identity.is_alive());
    assert!(!identity.signal(Signal::Kill));
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_name_with_spaces_and_brackets_does_not_confuse() {
    let scratch = Scratch::new();
    let odd = scratch.join("a) S 1 (b");
    std::fs::copy("/bin/sleep", &odd).unwrap();
    let mut child = Command::new(&odd).arg("600").spawn().unwrap();
    assert!(Identity::of(child.id()).unwrap().is_alive());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn processes_are_found_by_their_folder_and_name() {
    let scratch = Scratch::new();
    let mut child = Command::new("sleep")
        .arg("600")
        .current_dir(&scratch.path)
        .spawn()
        .unwrap();
    let found = working_in(&scratch.path, "sleep");
    assert_eq!(found, [Identity::of(child.id()).unwrap()]);
    assert!(
        working_in(&scratch.path, "postgres").is_empty(),
        "a shell there is not ours"
    );
    // A program that begins has its name a moment before its arguments.
    eventually("it has its argument", || has_argument(child.id(), "600"));
    assert!(!has_argument(child.id(), "60"));
    child.kill().unwrap();
    child.wait().unwrap();
}
