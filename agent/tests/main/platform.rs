//! What differs between systems, as far as it can be tried on this one: the words that programs are given, boots, and
//! asking for a reboot.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use dashfleet_agent::kinds::reboot_asked;
use dashfleet_agent::platform::linux::reboot_by;
use dashfleet_agent::platform::{
    Notice, PLACES, UNIX_PLACES, WINDOWS_PLACES, access_list, arguments, boot_id_of, is_same_boot,
};
use domain::action::Outcome;
use testkit::Folder;

use super::memory::records_of_a_reboot;
use super::task::{next_life, results, write_all};

fn notice(title: &str, text: &str) -> Notice {
    Notice {
        title: title.into(),
        text: text.into(),
    }
}

#[test]
fn a_title_that_looks_like_an_option_is_none() {
    let title = "-eproperty p : do shell script \"id\"";
    for given in [
        arguments::osascript(&notice(title, "-e")),
        arguments::notify_send(&notice(title, "-e")),
    ] {
        let end = given.iter().position(|word| word == "--").unwrap();
        assert_eq!(given[end + 1..], [title, "-e"]);
        assert!(given[..end].iter().all(|word| word != title));
    }
}

#[test]
fn escapes_that_notify_send_would_read_are_shown_as_they_were_written() {
    let given = arguments::notify_send(&notice(
        r"C:\new",
        r"\342\200\256 \033 \074a\076 C:\new <b>",
    ));
    assert_eq!(
        given.last().unwrap(),
        r"\\342\\200\\256 \\033 \\074a\\076 C:\\new &lt;b&gt;"
    );
    // The program reads escapes in the body only.
    assert_eq!(given[given.len() - 2], r"C:\new");
}

#[test]
fn a_notice_on_a_mac_goes_to_whoever_sits_there_or_to_nobody() {
    assert_eq!(
        arguments::console_user("501 ann\n"),
        Some((501, "ann".to_owned()))
    );
    for nobody in ["0 root\n", "", "501", "x ann", "501 -u"] {
        assert_eq!(arguments::console_user(nobody), None, "{nobody:?}");
    }
    let given = arguments::as_console_user(501, "ann", "/usr/bin/osascript", &["-e".to_owned()]);
    assert_eq!(
        given,
        [
            "asuser",
            "501",
            "sudo",
            "-n",
            "-u",
            "ann",
            "--",
            "/usr/bin/osascript",
            "-e"
        ]
    );
}

#[test]
fn a_clock_that_is_set_a_little_is_no_boot() {
    let boot = boot_id_of(1_000_000);
    assert!(is_same_boot(&boot, &boot_id_of(1_000_030)));
    assert!(is_same_boot(&boot_id_of(999_970), &boot));
    assert!(!is_same_boot(&boot, &boot_id_of(1_000_031)));
    assert!(is_same_boot("4f1c-a", "4f1c-a") && !is_same_boot("4f1c-a", "4f1c-b"));
    assert!(!is_same_boot("", "") && !is_same_boot("", &boot));
}

#[test]
fn a_reboot_is_confirmed_by_another_boot_and_not_by_a_clock() {
    for (before, now, outcome) in [
        (
            boot_id_of(1_000_000),
            boot_id_of(1_000_002),
            Outcome::Interrupted,
        ),
        (
            boot_id_of(1_000_000),
            boot_id_of(1_000_300),
            Outcome::Succeeded,
        ),
        ("4f1c-a".to_owned(), "4f1c-b".to_owned(), Outcome::Succeeded),
        ("4f1c-a".to_owned(), String::new(), Outcome::Interrupted),
    ] {
        let mut engine = next_life(&records_of_a_reboot(&before), &now, 5_000);
        write_all(&mut engine, 5_000);
        let said = results(&engine.take_effects());
        assert_eq!(said[0].1, outcome, "{before} {now}");
    }
}

#[tokio::test]
async fn a_reboot_is_asked_for_without_waiting_and_with_patience() {
    let folder = Folder::new("reboot");
    let script = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let here = folder.path().display();
    // Longer than other helpers may take.
    script(
        "systemctl",
        format!("echo \"$@\" > {here}/asked; exec /usr/bin/sleep 6"),
    );
    script("shutdown", format!("echo \"$@\" > {here}/again"));
    let path = here.to_string();
    reboot_by(&path).await.unwrap();
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(asked.contains("--no-block"), "{asked}");
    assert!(!folder.path().join("again").exists(), "it was not killed");
    script("systemctl", "exit 1".into());
    reboot_by(&path).await.unwrap();
    let again = std::fs::read_to_string(folder.path().join("again")).unwrap();
    assert_eq!(again.trim(), "-r now");
    script("shutdown", "echo no >&2; exit 1".into());
    let error = reboot_by(&path).await.unwrap_err();
    assert!(
        error.contains("systemctl") && error.contains("no"),
        "{error}"
    );
}

#[tokio::test]
async fn a_reboot_that_seems_to_have_failed_may_still_happen_for_a_while() {
    let (doubt, patience) = (Duration::from_millis(300), Duration::from_millis(900));
    let begun = Instant::now();
    let ending = reboot_asked(Err("killed".into()), doubt, patience).await;
    assert!(begun.elapsed() >= doubt, "not said at once");
    assert_eq!(ending.error.unwrap().code, "reboot-failed");
    let begun = Instant::now();
    let ending = reboot_asked(Ok(()), doubt, patience).await;
    assert!(begun.elapsed() >= patience);
    assert_eq!(ending.outcome, Outcome::Failed);
    assert_eq!(ending.error.unwrap().code, "reboot-did-not-happen");
}

#[test]
fn on_windows_every_usual_place_is_below_the_folder_of_administrators() {
    assert_eq!(PLACES, UNIX_PLACES, "these tests run on none");
    for place in [
        WINDOWS_PLACES.state,
        WINDOWS_PLACES.policy,
        WINDOWS_PLACES.config,
    ] {
        assert!(place.starts_with(r"C:\ProgramData\DashFleet\"), "{place}");
    }
}

#[test]
fn an_access_list_of_windows_says_who_could_have_written_a_file() {
    const ME: &str = "S-1-5-21-1-2-3-1001";
    const OTHER: &str = "S-1-5-21-1-2-3-1002";
    for good in [
        "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)",
        "O:SYG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)",
        "O:BAG:BAD:(A;;FA;;;BA)(A;;FR;;;WD)(A;OICIIO;GA;;;CO)(D;;FA;;;WD)",
        "O:S-1-5-21-1-2-3-1001G:DUD:P(A;;FA;;;S-1-5-21-1-2-3-1001)(A;;FA;;;OW)",
        "O:BAG:BAD:P(A;;FA;;;BA)S:(AU;SAFA;FA;;;WD)",
    ] {
        assert_eq!(access_list::check(good, ME, "it"), Ok(()), "{good}");
    }
    let belongs_to_another = format!("O:{OTHER}G:SYD:P(A;;FA;;;BA)");
    let written_by_another = format!("O:BAG:SYD:P(A;;FA;;;BA)(A;OICI;FA;;;{OTHER})");
    for (bad, said) in [
        (belongs_to_another.as_str(), OTHER),
        (written_by_another.as_str(), OTHER),
        // Who may add files to ProgramData, as it is there.
        (
            "O:BAG:SYD:AI(A;ID;FA;;;BA)(A;CIID;DCLCRPCR;;;BU)",
            "written by BU",
        ),
        ("O:BAG:SYD:(A;;0x1301bf;;;AU)", "written by AU"),
        ("O:BAG:SYD:(A;;FRFW;;;WD)", "written by WD"),
        ("O:BAG:SYD:(A;;NEW;;;WD)", "written by WD"),
        ("O:BAG:SYD:(A;;0xzz;;;WD)", "written by WD"),
        ("O:BAG:SYD:(A;;FA)", "not understood"),
        ("O:BAG:SY", "no access list"),
        ("O:BAG:SYD:NO_ACCESS_CONTROL", "no access list"),
        ("", "no owner"),
    ] {
        let error = access_list::check(bad, ME, "it").unwrap_err();
        assert!(error.contains(said), "{bad}: {error}");
    }
}
