//! The locks of a data folder.

use std::sync::mpsc;
use std::time::Duration;

use launcher::folder::Folder;

use crate::Scratch;

#[test]
fn a_second_launcher_waits_for_the_first() {
    let scratch = Scratch::new();
    let folder = Folder::make(&scratch.join("data")).unwrap();
    let first = folder.lock_up().unwrap();
    let (sender, receiver) = mpsc::channel();
    let second = folder.clone();
    let waiting = std::thread::spawn(move || {
        let lock = second.lock_up().unwrap();
        sender.send(()).unwrap();
        drop(lock);
    });
    assert!(
        receiver.recv_timeout(Duration::from_millis(300)).is_err(),
        "it did not wait"
    );
    drop(first);
    receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    waiting.join().unwrap();
}

#[test]
fn there_is_one_supervisor_and_everybody_can_see_who() {
    let scratch = Scratch::new();
    let folder = Folder::make(&scratch.join("data")).unwrap();
    assert!(folder.supervisor().unwrap().is_none());
    let lock = folder.become_supervisor().unwrap();
    assert_eq!(
        folder.supervisor().unwrap().unwrap().pid,
        std::process::id()
    );
    assert!(folder.become_supervisor().is_err());
    drop(lock);
    assert!(
        folder.supervisor().unwrap().is_none(),
        "a dead one is taken for alive"
    );
}
