//! The file: written zeros ahead of the entries, so that a sync writes data and no metadata, and so that there is
//! room for the outcomes of accepted actions when the disk is full.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use domain::JournalId;

use crate::error::AgentError;
use crate::journal::Head;
use crate::journal::frame::{self, Chain, HEADER_BYTES, PAYLOAD_MAX_BYTES};
use crate::journal::record::{Record, VERSION};
use crate::state::files::{Named, put_in_place};

/// How far the file grows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// It grows by so many bytes.
    pub step: u64,
    /// So many stay free for what the agent owes.
    pub reserve: u64,
    /// It never has more.
    pub ceiling: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            step: 1024 * 1024,
            reserve: 1024 * 1024,
            ceiling: 64 * 1024 * 1024,
        }
    }
}

/// The open file and the end of its chain.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
    limits: Limits,
    id: JournalId,
    /// Where the next entry goes.
    end: u64,
    /// Up to here there are written zeros.
    capacity: u64,
    chain: Chain,
    entries: i64,
}

fn encode(record: &Record) -> io::Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(io::Error::other)
}

fn write_zeros(file: &mut File, from: u64, to: u64) -> io::Result<()> {
    const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
    file.seek(SeekFrom::Start(from))?;
    let mut left = to.saturating_sub(from);
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all(ZEROS.get(..part).unwrap_or_default())?;
        left -= part as u64;
    }
    Ok(())
}

impl JournalFile {
    /// Opens the file and gives `apply` each of its records; makes a new journal where there is none. A torn tail is
    /// cut off. A file whose beginning is not readable is put aside, and a new journal begins: the server is told by
    /// its new id that the memory is gone.
    ///
    /// # Errors
    /// [`AgentError::State`] when it cannot be read or written, or was written by a newer agent.
    pub fn open(
        path: &Path,
        limits: Limits,
        mut apply: impl FnMut(Record),
    ) -> Result<Self, AgentError> {
        let failed = |error: io::Error| AgentError::state(path, error);
        if path.exists() {
            if let Some(file) = Self::recover(path, limits, &mut apply)? {
                return Ok(file);
            }
            let aside = path.with_extension(format!("unreadable-{}", JournalId::new().token()));
            tracing::error!(kept_as = %aside.display(), "the journal is not readable; a new one begins");
            std::fs::rename(path, aside).map_err(failed)?;
        }
        let begin = Record::Begin {
            v: VERSION,
            journal: JournalId::new(),
            entries: 0,
            head: frame::hex(&Chain::default()),
        };
        Self::write_anew(path, limits, begin, &[]).map_err(|(_, error)| failed(error))
    }

    /// Writes a file with these records beside the old one and puts it in its place.
    ///
    /// # Errors
    /// What the system says, and which of both files has the name then.
    fn write_anew(
        path: &Path,
        limits: Limits,
        begin: Record,
        records: &[Record],
    ) -> Result<Self, (Named, io::Error)> {
        let new = path.with_extension("new");
        let written = Self::write_beside(path, &new, limits, begin, records)
            .map_err(|error| (Named::Old, error))
            .and_then(|this| put_in_place(&new, path).map(|()| this));
        if let Err((Named::Old, _)) = &written {
            // The old file stays; what was half written must not take the space that is missing.
            if let Err(error) = std::fs::remove_file(&new) {
                tracing::debug!(%error, "the new journal was not there to be removed");
            }
        }
        written
    }

    /// Writes a file with these records, synced, which will be called `path`.
    fn write_beside(
        path: &Path,
        new: &Path,
        limits: Limits,
        begin: Record,
        records: &[Record],
    ) -> io::Result<Self> {
        let Record::Begin {
            journal,
            entries,
            head,
            ..
        } = &begin
        else {
            return Err(io::Error::other("a journal begins with `begin`"));
        };
        let mut this = Self {
            path: path.to_owned(),
            file: private_file(new)?,
            limits,
            id: *journal,
            end: 0,
            capacity: 0,
            chain: frame::unhex(head).ok_or_else(|| io::Error::other("a malformed hash"))?,
            entries: *entries,
        };
        let mut buffer = Vec::new();
        for record in std::iter::once(&begin).chain(records) {
            this.chain = frame::encode(&mut buffer, &this.chain, &encode(record)?);
            this.entries += 1;
        }
        this.end = buffer.len() as u64;
        this.capacity =
            (this.end + limits.reserve + limits.step).div_ceil(limits.step) * limits.step;
        if this.capacity > limits.ceiling {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the journal would exceed its bound",
            ));
        }
        this.file.write_all(&buffer)?;
        write_zeros(&mut this.file, this.end, this.capacity)?;
        this.file.sync_all()?;
        Ok(this)
    }

    fn recover(
        path: &Path,
        limits: Limits,
        apply: &mut impl FnMut(Record),
    ) -> Result<Option<Self>, AgentError> {
        let failed = |error: io::Error| AgentError::state(path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
        let capacity = file.metadata().map_err(failed)?.len();
        let mut reader = BufReader::with_capacity(64 * 1024, &file);
        let mut this: Option<(JournalId, Chain, i64)> = None;
        let mut end = 0u64;
        while let Some((hash, payload)) = read_frame(&mut reader).map_err(failed)? {
            let before = match &this {
                Some((_, chain, _)) => *chain,
                None => match begin_of(&payload, path)? {
                    Some((id, entries, head)) => {
                        this = Some((id, head, entries));
                        head
                    }
                    None => return Ok(None),
                },
            };
            if frame::chain(&before, &payload) != hash {
                if end == 0 {
                    return Ok(None);
                }
                break;
            }
            // The hash is right: whoever wrote this meant it. Not to understand it is to be older than the file.
            let record = serde_json::from_slice::<Record>(&payload).map_err(|error| {
                AgentError::state(
                    path,
                    format!(
                        "an entry is not understood ({error}); was it written by a newer agent?"
                    ),
                )
            })?;
            if let Some((_, chain, entries)) = &mut this {
                *chain = hash;
                *entries += 1;
            }
            end += (HEADER_BYTES + payload.len()) as u64;
            apply(record);
        }
        let Some((id, chain, entries)) = this.filter(|_| end > 0) else {
            return Ok(None);
        };
        let mut this = Self {
            path: path.to_owned(),
            file,
            limits,
            id,
            end,
            capacity,
            chain,
            entries,
        };
        this.clear_tail().map_err(failed)?;
        Ok(Some(this))
    }

    /// Puts zeros over what a crash left behind the last whole entry, so that no later recovery can take it for one.
    fn clear_tail(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        let mut rest = BufReader::with_capacity(64 * 1024, &self.file);
        let mut torn = false;
        let mut part = [0u8; 16 * 1024];
        loop {
            let read = rest.read(&mut part)?;
            if read == 0 {
                break;
            }
            torn |= part.iter().take(read).any(|byte| *byte != 0);
        }
        if torn {
            tracing::warn!(
                end = self.end,
                "the journal's tail was torn by a crash; what was not yet durable is gone"
            );
            write_zeros(&mut self.file, self.end, self.capacity)?;
            self.file.sync_all()?;
        }
        Ok(())
    }

    /// Where the chain stands.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            journal: self.id,
            entries: self.entries,
            head: frame::hex(&self.chain),
        }
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.end
    }

    /// Bytes that are free without growing.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.end)
    }

    /// What the file keeps to.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Grows until so many bytes are free.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::StorageFull`] at the ceiling.
    pub fn grow(&mut self, free: u64) -> io::Result<()> {
        while self.free() < free {
            let next = self.capacity + self.limits.step;
            if next > self.limits.ceiling {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    "the journal has reached its bound",
                ));
            }
            let grown = write_zeros(&mut self.file, self.capacity, next)
                .and_then(|()| self.file.sync_all());
            if let Err(error) = grown {
                // Give back what was taken in part.
                self.file.set_len(self.capacity)?;
                return Err(error);
            }
            self.capacity = next;
        }
        Ok(())
    }

    /// The bytes of a record; [`JournalFile::write`] chains them.
    ///
    /// # Errors
    /// When it is too long.
    pub fn payload(record: &Record) -> io::Result<Vec<u8>> {
        let payload = encode(record)?;
        if payload.len() > PAYLOAD_MAX_BYTES {
            return Err(io::Error::other(format!(
                "an entry of {} bytes",
                payload.len()
            )));
        }
        Ok(payload)
    }

    /// Writes entries behind the last one. They are durable after [`JournalFile::sync`].
    ///
    /// # Errors
    /// What the system says; the journal is broken then.
    pub fn write(&mut self, payloads: &[Vec<u8>]) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(
            payloads
                .iter()
                .map(|payload| payload.len() + HEADER_BYTES)
                .sum(),
        );
        let mut chain = self.chain;
        for payload in payloads {
            chain = frame::encode(&mut buffer, &chain, payload);
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&buffer)?;
        self.end += buffer.len() as u64;
        self.chain = chain;
        self.entries += i64::try_from(payloads.len()).unwrap_or(i64::MAX);
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// What the system says; the journal is broken then.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes the file anew with only these records. The chain goes on.
    ///
    /// # Errors
    /// What the system says. With [`Named::Old`] the old file is still in place and goes on; with [`Named::New`] the
    /// journal is broken: this one would go on in a file that has no name any more.
    pub fn compact(&mut self, records: &[Record]) -> Result<(), (Named, io::Error)> {
        let Head {
            journal,
            entries,
            head,
        } = self.head();
        let begin = Record::Begin {
            v: VERSION,
            journal,
            entries,
            head,
        };
        *self = Self::write_anew(&self.path, self.limits, begin, records)?;
        Ok(())
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The next frame; `None` at the end of the entries, whole or torn.
fn read_frame(reader: &mut impl Read) -> io::Result<Option<(Chain, Vec<u8>)>> {
    let mut header = [0u8; HEADER_BYTES];
    if !read_whole(reader, &mut header)? {
        return Ok(None);
    }
    let (length, hash) = header.split_at(4);
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
    if length == 0 || length > PAYLOAD_MAX_BYTES {
        return Ok(None);
    }
    let mut payload = vec![0u8; length];
    if !read_whole(reader, &mut payload)? {
        return Ok(None);
    }
    Ok(hash.try_into().ok().map(|hash| (hash, payload)))
}

fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn begin_of(payload: &[u8], path: &Path) -> Result<Option<(JournalId, i64, Chain)>, AgentError> {
    let Ok(Record::Begin {
        v,
        journal,
        entries,
        head,
    }) = serde_json::from_slice(payload)
    else {
        return Ok(None);
    };
    if v > VERSION {
        return Err(AgentError::state(
            path,
            format!("written in form {v} by a newer agent; this one knows {VERSION}"),
        ));
    }
    Ok(frame::unhex(&head).map(|head| (journal, entries, head)))
}
