//! The journal on a real disk: torn, full, altered, written anew.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashfleet_agent::journal::file::JournalFile;
use dashfleet_agent::journal::frame::HEADER_BYTES;
use dashfleet_agent::journal::record::Ended;
use dashfleet_agent::journal::{
    ANSWERS, Batch, Class, Head, Journal, JournalEvent, Limits, Record,
};
use dashfleet_agent::state::files::Named;
use domain::ActionId;
use domain::action::{ActionKind, Outcome};
use testkit::Folder;
use tokio::sync::mpsc::{Receiver, channel};

use super::task::{task, time};

const SMALL: Limits = Limits {
    step: 4_096,
    reserve: 4_096,
    ceiling: 1024 * 1024,
};

fn accepted(seq: i64) -> Record {
    Record::Accepted {
        task: task(seq, ActionKind::Message),
        at: time(seq),
        issued: time(seq),
    }
}

fn ended(seq: i64) -> Record {
    Record::Ended(Arc::new(Ended {
        action: ActionId::new(),
        attempt: 1,
        seq,
        kind: ActionKind::Ping,
        not_after: time(seq),
        idempotent: false,
        outcome: Outcome::Failed,
        result: None,
        error: None,
        accepted_at: None,
        started_at: None,
        finished_at: time(seq),
        traceparent: None,
        reported: false,
    }))
}

/// The records of a file, without its beginning.
fn read(path: &Path) -> (JournalFile, Vec<Record>) {
    let mut records = Vec::new();
    let file = JournalFile::open(path, SMALL, |record| records.push(record)).unwrap();
    records.retain(|record| !matches!(record, Record::Begin { .. }));
    (file, records)
}

fn append(file: &mut JournalFile, records: &[Record]) {
    let payloads: Vec<_> = records
        .iter()
        .map(|record| JournalFile::payload(record).unwrap())
        .collect();
    let bytes: usize = payloads
        .iter()
        .map(|payload| payload.len() + HEADER_BYTES)
        .sum();
    file.grow(bytes as u64).unwrap();
    file.write(&payloads).unwrap();
    file.sync().unwrap();
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_what_was_torn() {
    let folder = Folder::new("journal");
    let path = folder.path().join("journal.log");
    let (mut file, _) = read(&path);
    let begin = file.used();
    let mut ends = vec![begin];
    let records: Vec<_> = (1..=3)
        .map(|seq| if seq == 2 { ended(seq) } else { accepted(seq) })
        .collect();
    for record in &records {
        append(&mut file, std::slice::from_ref(record));
        ends.push(file.used());
    }
    let id = file.head().journal;
    drop(file);
    let whole = std::fs::read(&path).unwrap();
    for cut in begin..=ends[3] {
        let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
        let cut = usize::try_from(cut).unwrap();
        let garbage = || {
            let mut bytes = whole.clone();
            // Not all of it: disks write in pieces.
            for (i, byte) in bytes.iter_mut().enumerate().skip(cut).take(90) {
                *byte ^= 0x5a | u8::try_from(i % 7).unwrap();
            }
            bytes
        };
        let zeros = || [&whole[..cut], &vec![0; whole.len() - cut]].concat();
        for (how, bytes) in [
            ("cut off", whole[..cut].to_vec()),
            ("zeros", zeros()),
            ("garbage", garbage()),
        ] {
            if how == "garbage" && cut as u64 == ends[3] {
                continue;
            }
            std::fs::write(&path, bytes).unwrap();
            let (mut file, found) = read(&path);
            assert_eq!(found, records[..kept], "{how} at {cut}");
            assert_eq!(file.head().journal, id);
            assert_eq!(file.head().entries, 1 + kept as i64);
            // It goes on from there, and what was torn does not come back.
            append(&mut file, &[ended(9)]);
            drop(file);
            let (_, found) = read(&path);
            assert_eq!(found.len(), kept + 1, "{how} at {cut}");
        }
    }
}

#[test]
fn an_altered_entry_breaks_the_chain_behind_it() {
    let folder = Folder::new("journal");
    let path = folder.path().join("journal.log");
    let (mut file, _) = read(&path);
    let begin = usize::try_from(file.used()).unwrap();
    append(&mut file, &[ended(1), ended(2), ended(3)]);
    let before = file.head();
    drop(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = begin
        + HEADER_BYTES
        + bytes[begin + HEADER_BYTES..]
            .windows(6)
            .position(|w| w == b"FAILED")
            .unwrap();
    bytes[at] = b'f';
    std::fs::write(&path, bytes).unwrap();
    let (file, found) = read(&path);
    assert!(found.is_empty());
    assert!(
        file.head().entries < before.entries,
        "the server sees that entries are missing"
    );
}

#[test]
fn a_file_that_is_no_journal_is_put_aside_and_a_new_journal_has_a_new_id() {
    let folder = Folder::new("journal");
    let path = folder.path().join("journal.log");
    let first = read(&path).0.head().journal;
    for nonsense in [
        Vec::new(),
        vec![0; 9_000],
        b"hello".to_vec(),
        vec![0xff; 9_000],
    ] {
        std::fs::write(&path, &nonsense).unwrap();
        assert_ne!(read(&path).0.head().journal, first);
    }
    let kept = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(kept, 5, "each is kept for whoever wants to look");
}

#[test]
fn entries_of_a_newer_agent_are_not_passed_over() {
    let folder = Folder::new("journal");
    let path = folder.path().join("journal.log");
    let (mut file, _) = read(&path);
    file.write(&[br#"{"r":"somethingNew"}"#.to_vec()]).unwrap();
    drop(file);
    let error = JournalFile::open(&path, SMALL, |_| {}).unwrap_err();
    assert!(error.to_string().contains("newer agent"), "{error}");
    assert_eq!(error.code(), 69);
}

#[test]
fn written_anew_the_chain_goes_on() {
    let folder = Folder::new("journal");
    let path = folder.path().join("journal.log");
    let (mut file, _) = read(&path);
    for seq in 1..200 {
        append(&mut file, &[accepted(seq)]);
    }
    let (before, long) = (file.head(), file.used());
    let kept = [ended(7), accepted(8)];
    file.compact(&kept).unwrap();
    assert!(file.used() < long / 10);
    let after = file.head();
    assert_eq!(after.journal, before.journal);
    assert_eq!(
        after.entries,
        before.entries + 3,
        "a beginning and two that are kept"
    );
    append(&mut file, &[ended(9)]);
    let last = file.head();
    drop(file);
    // A crash in the middle of the next one leaves a half file beside it: it is nobody's journal.
    std::fs::write(path.with_extension("new"), b"half").unwrap();
    let (file, found) = read(&path);
    assert_eq!(file.head(), last);
    assert_eq!(found[..2], kept);
    assert_eq!(found.len(), 3);
}

#[test]
fn a_folder_that_cannot_be_opened_leaves_the_old_file_in_its_place() {
    // In a thread of its own, which gives up root's rights for itself alone.
    std::thread::spawn(|| {
        let folder = Folder::new("journal");
        let below = folder.path().join("below");
        std::fs::create_dir(&below).unwrap();
        if super::policy::is_root() {
            let nobody = 65_534;
            std::os::unix::fs::chown(&below, Some(nobody), Some(nobody)).unwrap();
            std::fs::set_permissions(
                folder.path(),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )
            .unwrap();
            become_for_files(nobody);
        }
        let path = below.join("journal.log");
        let (mut file, _) = read(&path);
        append(&mut file, &[accepted(1)]);
        let mode = |mode| {
            std::fs::set_permissions(&below, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .unwrap();
        };
        // Files can be made and renamed in it; the folder itself cannot be opened.
        mode(0o300);
        let (named, error) = file.compact(&[ended(1)]).unwrap_err();
        assert_eq!(named, Named::Old, "{error}");
        assert!(!path.with_extension("new").exists(), "no rest is left");
        append(&mut file, &[accepted(2)]);
        file.sync().unwrap();
        let head = file.head();
        drop(file);
        mode(0o700);
        let (file, found) = read(&path);
        assert_eq!(
            file.head(),
            head,
            "what was written is in the file that has the name"
        );
        assert_eq!(found.len(), 2);
        if super::policy::is_root() {
            become_for_files(0);
        }
    })
    .join()
    .unwrap();
}

/// Sets the user by which the calling thread reaches files.
#[allow(unsafe_code)]
fn become_for_files(user: u32) {
    // SAFETY: the call takes a number and changes this thread only.
    unsafe { libc::syscall(libc::SYS_setfsuid, user) };
}

struct Open {
    journal: Journal,
    events: Receiver<JournalEvent>,
    next: u64,
}

impl Open {
    fn new(path: &Path, limits: Limits) -> (Self, Head, Vec<Record>) {
        let (sender, events) = channel(ANSWERS);
        let mut records = Vec::new();
        let (journal, head) =
            Journal::open(path, limits, |record| records.push(record), sender).unwrap();
        (
            Self {
                journal,
                events,
                next: 1,
            },
            head,
            records,
        )
    }

    fn next_event(&mut self) -> JournalEvent {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match self.events.try_recv() {
                Ok(event) => return event,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether a batch became durable.
    fn append(&mut self, class: Class, record: Record) -> bool {
        let id = self.next;
        self.next += 1;
        self.journal.append(Batch {
            id,
            class,
            records: vec![record],
        });
        match self.next_event() {
            JournalEvent::Durable { batch, .. } if batch == id => true,
            JournalEvent::Rejected { batch } if batch == id => false,
            other => panic!("{other:?}"),
        }
    }

    fn head(&mut self) -> Head {
        self.journal.ask_head();
        match self.next_event() {
            JournalEvent::Head(head) => head,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn entries_and_head_only_grow_and_are_those_on_the_disk() {
    let folder = Folder::new("journal");
    let path = folder.path().join("journal.log");
    let mut seen: Option<Head> = None;
    for life in 0..4 {
        let (mut open, head, _) = Open::new(&path, SMALL);
        if let Some(before) = &seen {
            assert_eq!(
                &head, before,
                "life {life} goes on where the one before ended"
            );
        }
        for seq in 1..20 {
            if seq % 3 == 0 {
                // Not answered and not synced by itself; asking where the journal stands syncs it.
                open.journal.append(Batch {
                    id: 0,
                    class: Class::Lazy,
                    records: vec![ended(seq)],
                });
            } else {
                assert!(open.append(Class::New, accepted(seq)));
            }
            let now = open.head();
            assert!(
                seen.is_none_or(|before| before.entries < now.entries && before.head != now.head)
            );
            seen = Some(now);
        }
        open.journal.compact(vec![ended(1)]);
        assert!(matches!(open.next_event(), JournalEvent::Compacted { .. }));
        let now = open.head();
        assert!(seen.is_some_and(|before| before.entries < now.entries));
        seen = Some(now);
        open.journal.close();
    }
}

#[test]
fn what_waits_is_written_together_and_answered_in_order() {
    let folder = Folder::new("journal");
    let path = folder.path().join("journal.log");
    let (mut open, _, _) = Open::new(&path, Limits::default());
    for id in 1..=1_000 {
        open.journal.append(Batch {
            id,
            class: Class::Owed,
            records: vec![ended(1)],
        });
    }
    for id in 1..=1_000 {
        assert!(matches!(open.next_event(), JournalEvent::Durable { batch, .. } if batch == id));
    }
    open.journal.close();
    let (_, _, records) = Open::new(&path, Limits::default());
    assert_eq!(records.len(), 1_001);
}

/// Fills a journal whose disk is full: new actions are refused first, refusals later, what is owed never.
fn fill(path: &Path, limits: Limits) -> (Open, usize) {
    let (mut open, _, _) = Open::new(path, limits);
    let mut accepted_count = 0;
    while open.append(Class::New, accepted(1)) {
        accepted_count += 1;
        assert!(accepted_count < 100_000, "the disk is never full");
    }
    let mut refusals = 0;
    while open.append(Class::Refusal, ended(1)) {
        refusals += 1;
    }
    assert!(refusals > 0, "the refusal itself is written down");
    // Half the reserve and more is still there for what was accepted before.
    let one = JournalFile::payload(&ended(1)).unwrap().len() + HEADER_BYTES;
    let owed = usize::try_from(limits.reserve).unwrap() / 2 / one;
    for _ in 0..owed {
        assert!(
            open.append(Class::Owed, ended(2)),
            "what is owed always fits"
        );
    }
    (open, accepted_count + refusals + owed)
}

#[test]
fn at_its_bound_the_journal_refuses_new_actions_and_keeps_what_it_owes() {
    let folder = Folder::new("journal");
    let path = folder.path().join("journal.log");
    let limits = Limits {
        step: 16_384,
        reserve: 16_384,
        ceiling: 65_536,
    };
    let (open, written) = fill(&path, limits);
    open.journal.close();
    let (mut open, _, records) = Open::new(&path, limits);
    assert_eq!(records.len(), written + 1, "no entry is lost");
    open.journal.compact(Vec::new());
    assert!(matches!(open.next_event(), JournalEvent::Compacted { .. }));
    assert!(open.append(Class::New, accepted(1)), "there is room again");
}

/// A file system of its own that can be filled; `None` without the right to mount one.
pub struct TinyDisk(pub Folder);

impl TinyDisk {
    pub fn mount(size: &str) -> Option<Self> {
        let folder = Folder::new("tiny-disk");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }

    /// Somebody makes room, or takes it.
    pub fn resize(&self, size: &str) {
        let remount = ["-o", &format!("remount,size={size}")];
        assert!(
            Command::new("mount")
                .args(remount)
                .arg(self.0.path())
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        drop(
            Command::new("umount")
                .arg("--lazy")
                .arg(self.0.path())
                .status(),
        );
    }
}

#[test]
fn on_a_full_disk_no_entry_is_lost_and_room_is_found_again() {
    let Some(disk) = TinyDisk::mount("256k") else {
        eprintln!(
            "this test mounts a small file system, which takes root; the bound above is tested without"
        );
        return;
    };
    let path = disk.0.path().join("journal.log");
    let limits = Limits {
        step: 16_384,
        reserve: 16_384,
        ceiling: 64 * 1024 * 1024,
    };
    let (open, written) = fill(&path, limits);
    open.journal.close();
    let (mut open, _, records) = Open::new(&path, limits);
    assert_eq!(records.len(), written + 1, "no entry is lost");
    assert!(!open.append(Class::New, accepted(1)));
    disk.resize("1m");
    let until = Instant::now() + Duration::from_secs(10);
    while !open.append(Class::New, accepted(1)) {
        assert!(Instant::now() < until, "the journal never grows again");
        std::thread::sleep(Duration::from_millis(100));
    }
    open.journal.close();
}
