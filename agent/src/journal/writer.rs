//! The writer: takes all that waits, writes it with one write and one sync, answers, and looks again.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use crate::journal::file::JournalFile;
use crate::journal::frame::HEADER_BYTES;
use crate::journal::{Batch, Class, Command, JournalEvent};
use crate::state::files::Named;

/// The most batches that share a sync.
const GATHER_MAX: usize = 256;
/// How long to wait before asking a full disk again.
const GROW_AGAIN: Duration = Duration::from_secs(1);

struct Writer<'a> {
    file: JournalFile,
    events: &'a Sender<JournalEvent>,
    /// What is to be written, not yet given to the system.
    payloads: Vec<Vec<u8>>,
    bytes: u64,
    /// What is answered when it is durable.
    answers: Vec<Answer>,
    /// Whether something that matters was written since the last sync.
    must_sync: bool,
    /// Whether anything was written since the last sync.
    unsynced: bool,
    grow_failed: Option<Instant>,
}

enum Answer {
    Durable(u64),
    Rejected(u64),
    Head,
}

/// Writes until the handle is dropped or the journal breaks.
pub(crate) fn run(file: JournalFile, commands: &Receiver<Command>, events: &Sender<JournalEvent>) {
    let mut writer = Writer {
        file,
        events,
        payloads: Vec::new(),
        bytes: 0,
        answers: Vec::new(),
        must_sync: false,
        unsynced: false,
        grow_failed: None,
    };
    while let Ok(first) = commands.recv() {
        let rest = std::iter::from_fn(|| commands.try_recv().ok()).take(GATHER_MAX);
        let round = std::iter::once(first)
            .chain(rest)
            .try_for_each(|command| writer.take(command));
        if let Err(error) = round.and_then(|()| writer.flush()) {
            writer.send(JournalEvent::Broken {
                reason: error.to_string(),
            });
            return;
        }
        writer.prepare();
    }
    if writer.unsynced
        && let Err(error) = writer.file.sync()
    {
        tracing::error!(%error, "the journal's last entries may not be durable");
    }
}

impl Writer<'_> {
    fn send(&self, event: JournalEvent) {
        if self.events.blocking_send(event).is_err() {
            tracing::debug!("nobody waits for the journal any more");
        }
    }

    fn take(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Append(batch) => self.append(batch)?,
            Command::Head => {
                self.must_sync |= self.unsynced || !self.payloads.is_empty();
                self.answers.push(Answer::Head);
            }
            Command::Compact(records) => {
                self.must_sync |= self.unsynced || !self.payloads.is_empty();
                self.flush()?;
                match self.file.compact(&records) {
                    Ok(()) => self.send(JournalEvent::Compacted {
                        used: self.file.used(),
                    }),
                    Err((Named::Old, error)) => self.send(JournalEvent::CompactionFailed {
                        reason: error.to_string(),
                    }),
                    Err((Named::New, error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, batch: Batch) -> io::Result<()> {
        let payloads: Vec<_> = batch
            .records
            .iter()
            .map(JournalFile::payload)
            .collect::<io::Result<_>>()?;
        let bytes = payloads
            .iter()
            .map(|payload| (payload.len() + HEADER_BYTES) as u64)
            .sum();
        if !self.admits(batch.class, bytes) {
            match batch.class {
                Class::New | Class::Refusal => self.answers.push(Answer::Rejected(batch.id)),
                Class::Lazy => {}
                Class::Owed => {
                    return Err(io::Error::new(
                        io::ErrorKind::StorageFull,
                        "the journal's reserve is used up",
                    ));
                }
            }
            return Ok(());
        }
        self.payloads.extend(payloads);
        self.bytes += bytes;
        if batch.class != Class::Lazy {
            self.must_sync = true;
            self.answers.push(Answer::Durable(batch.id));
        }
        Ok(())
    }

    /// Whether so many more bytes may be written; grows the file when that would touch the reserve.
    fn admits(&mut self, class: Class, bytes: u64) -> bool {
        let reserve = self.file.limits().reserve;
        let wanted = self.bytes + bytes;
        if self.file.free() < wanted + reserve && !self.grow(wanted + reserve) {
            let kept = match class {
                Class::New => reserve,
                Class::Refusal | Class::Lazy => reserve / 4 * 3,
                Class::Owed => 0,
            };
            return self.file.free() >= wanted + kept;
        }
        true
    }

    fn grow(&mut self, free: u64) -> bool {
        if self.grow_failed.is_some_and(|at| at.elapsed() < GROW_AGAIN) {
            return false;
        }
        match self.file.grow(free) {
            Ok(()) => {
                if self.grow_failed.take().is_some() {
                    tracing::info!("the journal can grow again");
                }
                true
            }
            Err(error) => {
                if self.grow_failed.replace(Instant::now()).is_none() {
                    tracing::error!(%error, "the journal cannot grow: new actions are refused until it can");
                }
                false
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.payloads.is_empty() {
            self.file.write(&self.payloads)?;
            self.payloads.clear();
            self.bytes = 0;
            self.unsynced = true;
        }
        if self.must_sync && self.unsynced {
            self.file.sync()?;
            self.unsynced = false;
        }
        self.must_sync = false;
        for answer in std::mem::take(&mut self.answers) {
            self.send(match answer {
                Answer::Durable(batch) => JournalEvent::Durable {
                    batch,
                    used: self.file.used(),
                },
                Answer::Rejected(batch) => JournalEvent::Rejected { batch },
                Answer::Head => JournalEvent::Head(self.file.head()),
            });
        }
        Ok(())
    }

    /// Grows ahead of need, after the answers are out.
    fn prepare(&mut self) {
        let limits = self.file.limits();
        if self.file.free() < limits.reserve + limits.step / 2 {
            self.grow(limits.reserve + limits.step / 2);
        }
    }
}
