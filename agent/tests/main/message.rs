//! `message`: shown to those who sit at the machine, as themselves, and without tricks.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use dashfleet_agent::kinds::message::{notice, sanitise};
use dashfleet_agent::platform::linux::{Screens, parse_session};
use dashfleet_agent::platform::{Notice, Shown, ShownOn};
use dashfleet_agent::policy::Policy;
use domain::action::MessagePayload;
use testkit::Folder;

use super::policy::is_root;

#[test]
fn what_could_deceive_the_reader_is_taken_out() {
    for (text, clean) in [
        ("plain ä ö 日本 🙂", "plain ä ö 日本 🙂"),
        ("two\nlines\r\n\tindented", "two\nlines\n indented"),
        ("\u{1b}[2Jgone\u{7}\u{0}\u{9b}", "[2Jgone"),
        ("invoice\u{202e}fdp.exe\u{202c}", "invoicefdp.exe"),
        ("\u{2066}a\u{2069}\u{200f}b\u{061c}\u{feff}\u{e0041}", "ab"),
        ("one\u{2028}two", "one\ntwo"),
    ] {
        assert_eq!(sanitise(text), clean);
    }
    let payload = |title: Option<&str>, message: &str| MessagePayload {
        title: title.map(Into::into),
        message: message.into(),
    };
    assert_eq!(notice(&payload(None, "\u{202e}\u{7} \n")), None);
    assert_eq!(
        notice(&payload(Some("a\nb"), " text ")),
        Some(Notice {
            title: "a b".into(),
            text: "text".into()
        })
    );
    assert!(
        notice(&payload(Some("\u{7}"), "text"))
            .unwrap()
            .title
            .contains("administrator")
    );
}

#[test]
fn sessions_are_those_that_somebody_sits_at() {
    let text = |kind, class, state| {
        format!("User=1000\nName=ann\nType={kind}\nClass={class}\nState={state}\n")
    };
    for (kind, class, state, seen) in [
        ("wayland", "user", "active", Some((true, false))),
        ("x11", "user", "online", Some((true, false))),
        ("tty", "user", "active", Some((false, true))),
        ("wayland", "greeter", "active", None),
        ("x11", "user", "closing", None),
        ("unspecified", "background", "active", None),
    ] {
        let session = parse_session(&text(kind, class, state))
            .map(|session| (session.graphical, session.terminal));
        assert_eq!(session, seen, "{kind} {class} {state}");
    }
    assert_eq!(parse_session(""), None);
}

/// A machine whose programs are these scripts.
fn machine(scripts: &[(&str, &str)]) -> (Folder, Screens) {
    let folder = Folder::new("screens");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for (name, script) in scripts {
        let path = folder.path().join(name);
        std::fs::write(
            &path,
            format!("#!/bin/sh\n{script}\n").replace("HERE", &folder.path().display().to_string()),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    // Only these, and the shell's own.
    let tools = folder.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    for tool in ["id", "cat", "sleep", "env"] {
        std::os::unix::fs::symlink(Path::new("/usr/bin").join(tool), tools.join(tool)).unwrap();
    }
    let screens = Screens::by(
        &format!("{}:{}", folder.path().display(), tools.display()),
        &folder.path().display().to_string(),
    );
    (folder, screens)
}

fn loginctl(uid: u32, kind: &str) -> String {
    format!(
        "case \"$1\" in list-sessions) echo '  7 {uid} ann seat0';; \
         show-session) [ \"$2\" = 7 ] && printf 'User={uid}\\nName=ann\\nType={kind}\\nClass=user\\nState=active\\n';; esac"
    )
}

fn hello() -> Notice {
    Notice {
        title: "$(touch HERE/pwned)".into(),
        text: "<b>it's</b> `id` & \"more\"; --help".into(),
    }
}

fn me() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

#[tokio::test]
async fn a_desktop_shows_it_as_its_user_with_a_clean_environment() {
    let uid = if is_root() { 4_242 } else { me() };
    let (folder, screens) = machine(&[
        ("loginctl", &loginctl(uid, "wayland")),
        (
            "notify-send",
            "{ id -u; id -G; env; for a in \"$@\"; do echo \"arg=$a\"; done; } > HERE/out/seen",
        ),
    ]);
    for name in ["out", &uid.to_string()] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::set_permissions(
            folder.path().join(name),
            std::fs::Permissions::from_mode(0o777),
        )
        .unwrap();
    }
    if is_root() {
        std::os::unix::fs::chown(folder.path().join(uid.to_string()), Some(uid), Some(uid))
            .unwrap();
    }
    let shown = screens.show(&hello(), &Policy::default()).await;
    assert_eq!(
        shown,
        Shown {
            on: ShownOn::Desktop,
            sessions: 1
        }
    );
    let seen = std::fs::read_to_string(folder.path().join("out/seen")).unwrap();
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines[0], uid.to_string(), "{seen}");
    if is_root() {
        assert_eq!(
            lines[1],
            uid.to_string(),
            "no group of root's is left: {seen}"
        );
    }
    let runtime = folder.path().join(uid.to_string());
    assert!(
        seen.contains(&format!(
            "DBUS_SESSION_BUS_ADDRESS=unix:path={}/bus",
            runtime.display()
        )),
        "{seen}"
    );
    for name in ["CARGO", "HOME=/root", "USER", "DASHFLEET"] {
        assert!(!seen.contains(name), "{name} is the agent's own: {seen}");
    }
    assert!(seen.contains("arg=--\narg=$(touch HERE/pwned)\narg=&lt;b&gt;it's&lt;/b&gt; `id` &amp; \"more\"; --help\n"), "{seen}");
    assert!(!folder.path().join("pwned").exists());
}

#[tokio::test]
async fn without_a_desktop_terminals_show_it() {
    let (folder, screens) = machine(&[
        ("loginctl", &loginctl(me(), "tty")),
        ("who", "true"),
        ("wall", "cat > HERE/seen"),
    ]);
    let shown = screens.show(&hello(), &Policy::default()).await;
    assert_eq!(
        shown,
        Shown {
            on: ShownOn::Terminal,
            sessions: 1
        }
    );
    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    assert!(
        seen.contains("<b>it's</b> `id` & \"more\"; --help"),
        "{seen}"
    );
    // `wall` reaches everybody; an owner who leaves somebody out is obeyed.
    let policy = Policy::parse(r#"{"users": ["ann"]}"#, "here").unwrap();
    assert_eq!(screens.show(&hello(), &policy).await, Shown::NOBODY);
}

#[tokio::test]
async fn where_nobody_is_nobody_sees_it() {
    for scripts in [
        &[
            ("loginctl", "exit 1"),
            ("who", "true"),
            ("wall", "touch HERE/seen"),
        ][..],
        &[],
    ] {
        let (folder, screens) = machine(scripts);
        assert_eq!(
            screens.show(&hello(), &Policy::default()).await,
            Shown::NOBODY
        );
        assert!(!folder.path().join("seen").exists());
    }
}

#[tokio::test]
async fn a_user_that_the_owner_leaves_out_sees_nothing() {
    let (folder, screens) = machine(&[
        ("loginctl", &loginctl(me(), "x11")),
        ("notify-send", "touch HERE/seen"),
        ("who", "true"),
    ]);
    let policy = Policy::parse(r#"{"users": ["bob"]}"#, "here").unwrap();
    assert_eq!(screens.show(&hello(), &policy).await, Shown::NOBODY);
    assert!(!folder.path().join("seen").exists());
}

#[tokio::test]
async fn a_helper_that_hangs_is_killed() {
    let (folder, screens) = machine(&[
        ("loginctl", &loginctl(me(), "x11")),
        ("notify-send", "echo $$ > HERE/pid; exec sleep 600"),
        ("who", "true"),
    ]);
    let begun = Instant::now();
    assert_eq!(
        screens.show(&hello(), &Policy::default()).await,
        Shown::NOBODY
    );
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    let gone = || async { (!is_alive(pid.trim())).then_some(()) };
    testkit::eventually("the helper is gone", Duration::from_secs(5), gone).await;
}

/// Whether a process runs; one that only waits to be buried does not.
fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z')
    })
}
