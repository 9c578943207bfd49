//! Logs in a file, for systems without a journal: bounded in size, with a few older ones beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use runtime::telemetry::MakeWriter;

/// How large a file grows.
pub const SIZE_MAX: u64 = 10 * 1024 * 1024;
/// How many older files are kept: `agent.log.1` is the youngest.
pub const OLDER: u32 = 4;

/// The file. Clones share it.
#[derive(Clone, Debug)]
pub struct LogFile(Arc<Mutex<Rotating>>);

#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
    size_max: u64,
}

impl LogFile {
    /// Opens the file; goes on with one that is there.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn open(path: &Path, size_max: u64) -> io::Result<Self> {
        let file = append(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Rotating {
            path: path.to_owned(),
            file,
            bytes,
            size_max,
        }))))
    }
}

/// The file and the older ones, whether they are there or not.
#[must_use]
pub fn all(path: &Path) -> Vec<PathBuf> {
    let older = (1..=OLDER).map(|number| older(path, number));
    std::iter::once(path.to_owned()).chain(older).collect()
}

fn older(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

impl Rotating {
    /// The file becomes the youngest of the older ones. What fails is tried again at the next line: no line is worth
    /// ending the agent for.
    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..OLDER).rev() {
            match std::fs::rename(older(&self.path, number), older(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, older(&self.path, 1))?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

/// One line on its way.
impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if this.bytes > 0 && this.bytes + line.len() as u64 > this.size_max {
            this.rotate()?;
        }
        let written = this.file.write(line)?;
        this.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a LogFile;
    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
