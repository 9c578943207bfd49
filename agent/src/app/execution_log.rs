//! The witness: a line in `execution.log` right before each execution, for whoever wants to know what was done here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use domain::{ActionId, Timestamp};
use serde::Serialize;

use crate::engine::Work;

/// A file of this size becomes the old one.
pub const ROTATE_AT_BYTES: u64 = 10 * 1024 * 1024;

#[derive(Serialize)]
struct Line {
    at: Timestamp,
    action: ActionId,
    attempt: i32,
    seq: i64,
    kind: &'static str,
}

/// The log.
#[derive(Debug)]
pub struct ExecutionLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotate_at: u64,
}

impl ExecutionLog {
    /// Opens the log, which goes on where it ended.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, rotate_at: u64) -> io::Result<Self> {
        let file = Self::file(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            rotate_at,
        })
    }

    fn file(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
    }

    /// Writes the line.
    ///
    /// # Errors
    /// What the system says.
    pub fn note(&mut self, work: &Work, at: Timestamp) -> io::Result<()> {
        let line = Line {
            at,
            action: work.key.action,
            attempt: work.key.attempt,
            seq: work.seq,
            kind: work.kind.as_str(),
        };
        let mut text = serde_json::to_vec(&line).map_err(io::Error::other)?;
        text.push(b'\n');
        if self.bytes > 0 && self.bytes + text.len() as u64 > self.rotate_at {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = Self::file(&self.path)?;
            self.bytes = 0;
        }
        if let Err(error) = self.file.write_all(&text) {
            // A line is whole or not there.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }
}
