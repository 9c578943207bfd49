//! Logs stay below a bound.

use std::io::Write;

use launcher::files;
use launcher::supervisor::rotation::{previous, rotate};

use crate::Scratch;

#[test]
fn a_log_over_the_bound_is_moved_and_its_writer_goes_on_at_the_new_beginning() {
    let scratch = Scratch::new();
    let log = scratch.join("action.log");
    let mut writer = files::open_log(&log).unwrap();
    writer.write_all(&[b'x'; 1000]).unwrap();
    assert!(!rotate(&log, 1000).unwrap());
    writer.write_all(b"y").unwrap();
    assert!(rotate(&log, 1000).unwrap());
    writer.write_all(b"new").unwrap();
    assert_eq!(std::fs::read(&log).unwrap(), b"new");
    assert_eq!(std::fs::metadata(previous(&log)).unwrap().len(), 1001);
    assert!(!rotate(&scratch.join("none.log"), 0).unwrap());
}
