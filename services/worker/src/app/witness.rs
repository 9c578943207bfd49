//! Writes down when handlers begin, and when and how they end, for tests that compare it with what the scheduler knows: no attempt
//! of an execution may begin before the one before it has ended, or its worker's lease was over.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

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

    /// `start|end|fail <execution> <attempt> <nanoseconds since boot>`
    pub(crate) fn note(&self, word: &str, place: Place) {
        let line = format!(
            "{word} {} {} {}\n",
            place.id,
            place.attempt,
            boot_now().as_nanos()
        );
        if let Err(error) = (&self.0).write_all(line.as_bytes()) {
            tracing::error!(%error, "the witness is silent");
        }
    }
}
