//! One file of the buffer: a JSON line for each sample, and marks that say through which time all is acknowledged, and
//! through which all was sent.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use contract::agent::Sample;
use domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::state::files::put_in_place;

/// What the name of a file ends with that is being written anew. One that is there at the start is nobody's.
pub const UNFINISHED: &str = "new";
/// The longest line that is read.
const LINE_MAX_BYTES: usize = 256 * 1024;

/// When a sample was taken, by a clock that nobody sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// In which boot of the machine; see [`crate::platform::is_same_boot`].
    pub boot: String,
    /// Milliseconds since then, suspension included.
    pub uptime_ms: u64,
}

/// A line.
#[derive(Debug)]
pub enum Line {
    /// A sample, and when it was taken, where that is known.
    Sample(Box<Sample>, Option<Taken>),
    /// Everything up to this time is acknowledged.
    Through(Timestamp),
    /// Everything up to this time was sent, or is about to be.
    Sent(Timestamp),
}

/// A line as it is written: `{"sample", "taken"}`, `{"through"}` or `{"sent"}`.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<&'a Sample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<&'a Taken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    through: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Timestamp>,
}

/// The same, as it is read.
#[derive(Deserialize)]
struct Read {
    sample: Option<Box<Sample>>,
    taken: Option<Taken>,
    through: Option<Timestamp>,
    sent: Option<Timestamp>,
}

impl Line {
    /// The line's bytes, with its end.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let mut written = Written {
            sample: None,
            taken: None,
            through: None,
            sent: None,
        };
        match self {
            Self::Sample(sample, taken) => {
                written.sample = Some(sample);
                written.taken = taken.as_ref();
            }
            Self::Through(through) => written.through = Some(*through),
            Self::Sent(sent) => written.sent = Some(*sent),
        }
        let mut text = serde_json::to_vec(&written).map_err(io::Error::other)?;
        text.push(b'\n');
        Ok(text)
    }

    /// The line that these bytes are; `None` for what is not understood.
    fn decode(text: &[u8]) -> Option<Self> {
        let read: Read = serde_json::from_slice(text).ok()?;
        match (read.sample, read.through, read.sent) {
            (Some(sample), None, None) => Some(Self::Sample(sample, read.taken)),
            (None, Some(through), None) => Some(Self::Through(through)),
            (None, None, Some(sent)) => Some(Self::Sent(sent)),
            _ => None,
        }
    }
}

/// What a line says of times. To see that costs a fraction of what it costs to read the line.
#[derive(Debug)]
pub enum Glance {
    /// A sample of this time, and when it was taken, where that is known.
    Sample(Timestamp, Option<Taken>),
    /// Everything up to this time is acknowledged.
    Through(Timestamp),
    /// Everything up to this time was sent, or is about to be.
    Sent(Timestamp),
}

/// As it is read.
#[derive(Deserialize)]
struct Glanced {
    sample: Option<At>,
    taken: Option<Taken>,
    through: Option<Timestamp>,
    sent: Option<Timestamp>,
}

/// The time of a sample, and nothing else of it.
#[derive(Deserialize)]
struct At {
    at: Timestamp,
}

impl Glance {
    /// What these bytes say; `None` for what is not understood.
    fn at(text: &[u8]) -> Option<Self> {
        let read: Glanced = serde_json::from_slice(text).ok()?;
        match (read.sample, read.through, read.sent) {
            (Some(sample), None, None) => Some(Self::Sample(sample.at, read.taken)),
            (None, Some(through), None) => Some(Self::Through(through)),
            (None, None, Some(sent)) => Some(Self::Sent(sent)),
            _ => None,
        }
    }
}

/// What becomes of a line when its file is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It stays.
    Same,
    /// The sample, or the mark of what was sent, gets this time.
    At(Timestamp),
    /// It is wrong, and goes.
    Wrong,
    /// Nobody needs it any more: it goes if the file is written anew at all.
    Spent,
}

/// What a segment held when it was opened.
#[derive(Debug, Default)]
pub struct Seen {
    /// The last mark of what is acknowledged.
    pub through: Option<Timestamp>,
    /// The last mark of what was sent.
    pub sent: Option<Timestamp>,
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
                Line::Sample(sample, _) => {
                    samples += 1;
                    seen.last = seen.last.max(Some(sample.at));
                }
                Line::Through(through) => seen.through = seen.through.max(Some(through)),
                Line::Sent(sent) => seen.sent = seen.sent.max(Some(sent)),
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
                && let Some(line) = Line::decode(&text)
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
                samples += u64::from(matches!(line, Line::Sample(..)) && range.end <= offset);
                range.end < offset
            })?;
        }
        Ok(samples)
    }

    /// Writes the file anew, where `each` changes one of its lines, which are given with where they are; says whether
    /// it did. Lines that are not understood are left out. Whoever is interrupted has the old file or the new one,
    /// never both, and whoever goes on with another file has the new one of this, also after a power failure.
    ///
    /// # Errors
    /// What the system says. The file is the old one then, or the new one and perhaps not durably.
    pub fn rewrite(
        &mut self,
        mut each: impl FnMut(Glance, Range<u64>) -> Edit,
    ) -> io::Result<bool> {
        // A file is bounded: see [`crate::buffer::Bounds`].
        let old = std::fs::read(&self.path)?;
        let (mut text, mut samples, mut is_other, mut start) =
            (Vec::<u8>::new(), 0_u64, false, 0_u64);
        for line in old.split_inclusive(|byte| *byte == b'\n') {
            let range = start..start + line.len() as u64;
            start = range.end;
            let is_whole = line.ends_with(b"\n") && line.len() <= LINE_MAX_BYTES;
            let Some(glance) = Glance::at(line).filter(|_| is_whole) else {
                continue;
            };
            let is_sample = matches!(glance, Glance::Sample(..));
            match each(glance, range) {
                Edit::Same => {
                    text.extend_from_slice(line);
                    samples += u64::from(is_sample);
                }
                Edit::At(at) => {
                    is_other = true;
                    match Line::decode(line) {
                        Some(Line::Sample(mut sample, taken)) => {
                            sample.at = at;
                            text.extend(Line::Sample(sample, taken).encode()?);
                            samples += 1;
                        }
                        Some(Line::Sent(_)) => text.extend(Line::Sent(at).encode()?),
                        Some(Line::Through(_)) | None => {}
                    }
                }
                Edit::Wrong => is_other = true,
                Edit::Spent => {}
            }
        }
        if is_other {
            let new = self.path.with_extension(UNFINISHED);
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            put_in_place(&new, &self.path).map_err(|(_, error)| error)?;
            self.bytes = text.len() as u64;
            self.samples = samples;
        }
        Ok(is_other)
    }

    /// Removes the file.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "a segment of the buffer stays");
        }
    }
}
