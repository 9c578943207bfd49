//! What is given to the programs that show a notice. No I/O, and built for every system, so that each system's words
//! can be tested everywhere.

use super::Notice;

/// What `notify-send` is given: the texts are arguments, never options, and the body is shown as it was written.
#[must_use]
pub fn notify_send(notice: &Notice) -> Vec<String> {
    // The program reads escapes of C in a body, after everything else was decided about it: `\074` would be a `<`
    // again, and `\342\200\256` a character that turns the reading direction.
    let body = escape_markup(&notice.text).replace('\\', "\\\\");
    vec![
        "--app-name=DashFleet".to_owned(),
        "--".to_owned(),
        notice.title.clone(),
        body,
    ]
}

/// Desktops read a little markup in a notice's body: what looks like it is shown as it was written.
fn escape_markup(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// What `osascript` is given: the texts are arguments of the script, never part of it, and never options, of which
/// some are scripts.
#[must_use]
pub fn osascript(notice: &Notice) -> Vec<String> {
    [
        "-e",
        "on run argv",
        "-e",
        "display notification (item 2 of argv) with title (item 1 of argv)",
        "-e",
        "end run",
        "--",
        &notice.title,
        &notice.text,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The user at a Mac's screen, from what `stat -f '%u %Su' /dev/console` prints: number and name. `None` when it is
/// root, to whom the screen belongs while nobody is logged in.
#[must_use]
pub fn console_user(text: &str) -> Option<(u32, String)> {
    let (uid, name) = text.trim().split_once(' ')?;
    let uid = uid.parse().ok().filter(|uid| *uid != 0)?;
    (!name.is_empty() && !name.starts_with('-')).then(|| (uid, name.to_owned()))
}

/// What `launchctl` is given to run a program in the session of a user, as that user.
#[must_use]
pub fn as_console_user(uid: u32, name: &str, program: &str, arguments: &[String]) -> Vec<String> {
    let mut all: Vec<String> = ["asuser", &uid.to_string(), "sudo", "-n", "-u", name, "--"]
        .map(str::to_owned)
        .to_vec();
    all.push(program.to_owned());
    all.extend_from_slice(arguments);
    all
}
