//! One file of the buffer: a JSON line for each sample, and marks that say through which time all is acknowledged.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use contract::agent::Sample;
use domain::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest line that is read.
const LINE_MAX_BYTES: usize = 256 * 1024;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// A sample.
    Sample(Box<Sample>),
    /// Everything up to this time is acknowledged.
    Through(Timestamp),
}

impl Line {
    /// The line's bytes, with its end.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self).map_err(io::Error::other)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// What a segment held when it was opened.
#[derive(Debug, Default)]
pub struct Seen {
    /// The last mark.
    pub through: Option<Timestamp>,
    /// The last sample.
    pub last: Option<Timestamp>,
}

/// A file.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// How many samples it holds.
    pub samples: u64,
}

/// The number in a segment's name; `None` for other files.
#[must_use]
pub fn number_of(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_suffix(".samples")?.parse().ok()
}

impl Segment {
    fn path(folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{number:012}.samples"))
    }

    /// An empty segment.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let path = Self::path(folder, number);
        File::create(&path)?;
        Ok(Self {
            path,
            bytes: 0,
            samples: 0,
        })
    }

    /// A segment that is there. A line that a crash tore is cut off.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(folder: &Path, number: u64) -> io::Result<(Self, Seen)> {
        let path = Self::path(folder, number);
        let bytes = std::fs::metadata(&path)?.len();
        let mut this = Self {
            path,
            bytes,
            samples: 0,
        };
        let mut seen = Seen::default();
        let mut whole = 0;
        let mut samples = 0;
        this.read(0, |line, range| {
            match line {
                Line::Sample(sample) => {
                    samples += 1;
                    seen.last = seen.last.max(Some(sample.at));
                }
                Line::Through(through) => seen.through = seen.through.max(Some(through)),
            }
            whole = range.end;
            true
        })?;
        this.samples = samples;
        if whole < this.bytes {
            OpenOptions::new()
                .write(true)
                .open(&this.path)?
                .set_len(whole)?;
            this.bytes = whole;
        }
        Ok((this, seen))
    }

    /// Appends a line; a line that could not be written whole is taken back.
    ///
    /// # Errors
    /// What the system says.
    pub fn append(&mut self, text: &[u8], sample: bool) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        if let Err(error) = file.write_all(text) {
            file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        self.samples += u64::from(sample);
        Ok(())
    }

    /// Gives the lines from `offset` on to `each`, with where they are, until it says `false`. Lines that are not
    /// understood are passed over.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(
        &self,
        offset: u64,
        mut each: impl FnMut(Line, Range<u64>) -> bool,
    ) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut reader = BufReader::with_capacity(16 * 1024, file);
        let mut start = offset;
        let mut text = Vec::new();
        loop {
            text.clear();
            let read = reader.read_until(b'\n', &mut text)?;
            if read == 0 || text.last() != Some(&b'\n') {
                return Ok(());
            }
            let range = start..start + read as u64;
            start = range.end;
            if text.len() <= LINE_MAX_BYTES
                && let Ok(line) = serde_json::from_slice(&text)
                && !each(line, range)
            {
                return Ok(());
            }
        }
    }

    /// How many samples there are before an offset.
    ///
    /// # Errors
    /// What the system says.
    pub fn lines_before(&self, offset: u64) -> io::Result<u64> {
        let mut samples = 0;
        if offset > 0 {
            self.read(0, |line, range| {
                samples += u64::from(matches!(line, Line::Sample(_)) && range.end <= offset);
                range.end < offset
            })?;
        }
        Ok(samples)
    }

    /// Removes the file.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "a segment of the buffer stays");
        }
    }
}
