//! What the machine's owner asks the agent about itself.
//!
//! Rooms: [`status`] how it stands, [`diagnose`] what keeps it from its work, [`uninstall`] how it goes.

pub mod diagnose;
pub mod status;
pub mod uninstall;

use std::io::Write;

/// Prints for a person; one who has closed the pipe has read enough.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        tracing::trace!("nobody reads any more");
    }
}

/// A text in lines of at most 80 columns; every line after the first begins with so many spaces.
#[must_use]
pub fn wrapped(text: &str, indent: usize) -> String {
    const COLUMNS: usize = 80;
    let mut lines = String::new();
    // What stands before the first line is as wide as what stands before the others.
    let mut column = indent;
    for (index, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > COLUMNS {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            column = indent;
        } else if index > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}
