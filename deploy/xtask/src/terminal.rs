//! Printing. A closed terminal or a full disk never ends the launcher: what cannot be printed is dropped.

use std::io::Write;

/// Prints one line (or several) to the standard output.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _dropped = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints one line of progress: what it is about, in a column, then what happens.
pub fn progress(subject: &str, text: &str) {
    say(&format!("{subject:>12}  {text}"));
}

/// Prints to the standard error.
pub fn complain(text: &str) {
    let mut out = std::io::stderr().lock();
    let _dropped = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints text as it is, without a newline of its own (the detached supervisor's lines are passed on so).
pub fn pass_on(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _dropped = out.write_all(bytes).and_then(|()| out.flush());
}
