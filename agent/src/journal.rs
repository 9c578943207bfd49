//! The journal: what the agent must never forget. Hash-chained, append-only, preallocated; one thread writes it, and
//! what waits while it writes goes to the disk together.
//!
//! Rooms: [`record`] what is written, [`frame`] how it is chained, [`file`] the file and its recovery, [`writer`]
//! the thread.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use domain::JournalId;
use tokio::sync::mpsc::Sender;

use crate::error::AgentError;

pub mod file;
pub mod frame;
pub mod record;
pub mod writer;

pub use file::Limits;
pub use record::{Ended, Record};

/// How much a batch matters when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A new action: refused when the disk is full.
    New,
    /// The refusal of a new action: takes from the reserve, up to a part of it.
    Refusal,
    /// What the agent owes because it accepted an action: always fits, the reserve is for it.
    Owed,
    /// What could be found out again: not synced, dropped when the disk is full, and not answered.
    Lazy,
}

/// Records that become durable together, or not at all.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Comes back in the answer.
    pub id: u64,
    /// How much it matters.
    pub class: Class,
    /// The records.
    pub records: Vec<Record>,
}

/// Where the journal stands: it only grows, so that an older copy betrays itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which journal.
    pub journal: JournalId,
    /// How many entries it has had.
    pub entries: i64,
    /// The hash of the last one, hexadecimal.
    pub head: String,
}

/// What the writer answers.
#[derive(Debug)]
pub enum JournalEvent {
    /// The batch is on the disk.
    Durable {
        /// Which.
        batch: u64,
        /// Bytes that the file uses now.
        used: u64,
    },
    /// The disk is full: nothing of the batch was written.
    Rejected {
        /// Which.
        batch: u64,
    },
    /// Everything up to here is on the disk.
    Head(Head),
    /// The file was written anew; it has so many bytes now.
    Compacted {
        /// Bytes in use.
        used: u64,
    },
    /// The file could not be written anew; the old one goes on.
    CompactionFailed {
        /// Why.
        reason: String,
    },
    /// The journal cannot be written: nothing may be executed any more.
    Broken {
        /// Why.
        reason: String,
    },
}

pub(crate) enum Command {
    Append(Batch),
    Head,
    Compact(Vec<Record>),
}

/// The journal, as its users hold it.
#[derive(Debug)]
pub struct Journal {
    commands: SyncSender<Command>,
    thread: JoinHandle<()>,
}

/// How many batches may wait. What is open is bounded (`engine::OPEN_MAX`), each open action has at most a few batches
/// under way, and a page brings at most as many as may be open: neither this queue nor that of the answers is ever full.
/// If they were, the loop would wait for the disk.
const QUEUE: usize = 4_096;
/// How many answers may wait: more than batches, so that the writer never waits for whoever waits for the writer.
pub const ANSWERS: usize = 2 * QUEUE;
/// The writer's stack: it encodes and writes, nothing deep.
const STACK_BYTES: usize = 256 * 1024;

impl Journal {
    /// Opens or makes the journal; gives `apply` every record that it holds, and says where it stands.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be opened, or was written by a newer agent.
    pub fn open(
        path: &Path,
        limits: Limits,
        apply: impl FnMut(Record),
        events: Sender<JournalEvent>,
    ) -> Result<(Self, Head), AgentError> {
        let file = file::JournalFile::open(path, limits, apply)?;
        let head = file.head();
        let (commands, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .stack_size(STACK_BYTES)
            .spawn(move || writer::run(file, &receiver, &events))
            .map_err(|error| AgentError::Internal(format!("the journal's thread: {error}")))?;
        Ok((Self { commands, thread }, head))
    }

    fn command(&self, command: Command) {
        // The thread ends only after it has said that the journal is broken, which ends the agent.
        if self.commands.send(command).is_err() {
            tracing::debug!("the journal's writer has ended");
        }
    }

    /// Appends a batch; answered by [`JournalEvent::Durable`] or [`JournalEvent::Rejected`], in order.
    pub fn append(&self, batch: Batch) {
        self.command(Command::Append(batch));
    }

    /// Makes everything durable and asks where the journal stands; answered by [`JournalEvent::Head`].
    pub fn ask_head(&self) {
        self.command(Command::Head);
    }

    /// Writes the file anew with only these records.
    pub fn compact(&self, records: Vec<Record>) {
        self.command(Command::Compact(records));
    }

    /// Ends the writer after everything that was asked of it.
    pub fn close(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("the journal's writer ended badly");
        }
    }
}
