//! Writes down when handlers begin, and when and how they end, for tests that compare it with what the scheduler knows: no attempt
//! of an execution may begin before the one before it has ended, or was dropped because its worker's lease was over.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use contract::run::Place;

use crate::app::lease::boot_now;

/// An open file that is only appended to: each line is one write, so several workers may share it.
#[derive(Debug)]
pub struct Witness(File);

impl Witness {
    /// Opens it.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(
            OpenOptions::new().create(true).append(true).open(path)?,
        ))
    }

    /// `start|end|fail <execution> <attempt> <nanoseconds since boot> <process>`
    pub(crate) fn note(&self, word: &str, place: Place) {
        self.write(word, place, "");
    }

    /// `cut <execution> <attempt> <nanoseconds since boot> <process> <when its last step was over>`: a handler that had not ended
    /// is gone. A process that was stopped says so when it goes on; what it did until then the last step tells.
    pub(crate) fn cut(&self, place: Place, stepped: Duration) {
        self.write("cut", place, &format!(" {}", stepped.as_nanos()));
    }

    fn write(&self, word: &str, place: Place, more: &str) {
        let line = format!(
            "{word} {} {} {} {}{more}\n",
            place.id,
            place.attempt,
            boot_now().as_nanos(),
            std::process::id()
        );
        if let Err(error) = (&self.0).write_all(line.as_bytes()) {
            tracing::error!(%error, "the witness is silent");
        }
    }
}
