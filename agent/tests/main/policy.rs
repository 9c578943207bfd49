//! The policy file: the owner of the machine has the last word.

use std::os::unix::fs::PermissionsExt;

use dashfleet_agent::policy::Policy;
use domain::action::ActionKind;
use testkit::Folder;

#[test]
fn without_a_file_the_four_kinds_are_allowed() {
    let folder = Folder::new("policy");
    let policy = Policy::read(&folder.path().join("policy.json")).unwrap();
    for kind in ActionKind::ALL {
        assert_eq!(policy.denies(kind), None, "{kind}");
    }
    assert!(policy.allows_user("anybody"));
}

#[test]
fn a_file_allows_what_it_names_and_nothing_else() {
    let policy = Policy::parse(
        r#"{"kinds": ["ping", "some-day"], "users": ["ann"], "paths": ["/srv"]}"#,
        "here",
    )
    .unwrap();
    assert_eq!(policy.denies(ActionKind::Ping), None);
    for kind in [ActionKind::Message, ActionKind::Restart, ActionKind::Reboot] {
        assert!(policy.denies(kind).unwrap().contains("`kinds` of here"));
    }
    assert!(policy.allows_user("ann") && !policy.allows_user("bob") && policy.restricts_users());
    let nothing = Policy::parse(r#"{"kinds": []}"#, "here").unwrap();
    assert!(
        ActionKind::ALL
            .iter()
            .all(|kind| nothing.denies(*kind).is_some())
    );
    let users_only = Policy::parse(r#"{"users": []}"#, "here").unwrap();
    assert_eq!(users_only.denies(ActionKind::Reboot), None);
    assert!(!users_only.allows_user("ann"));
}

#[test]
fn a_file_that_is_not_understood_allows_nothing_silently() {
    let folder = Folder::new("policy");
    let path = folder.path().join("policy.json");
    for (text, said) in [
        ("", "policy.json"),
        ("[]", "policy.json"),
        (r#"{"kind": ["ping"]}"#, "unknown field `kind`"),
        (r#"{"kinds": "ping"}"#, "policy.json"),
        (r#"{"paths": ["srv"]}"#, "not absolute"),
    ] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Policy::read(&path).unwrap_err();
        assert_eq!(error.code(), 64);
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
}

#[test]
fn for_root_a_file_that_others_can_write_is_none() {
    if !is_root() {
        eprintln!("this is about an agent that runs as root");
        return;
    }
    let folder = Folder::new("policy");
    let path = folder.path().join("policy.json");
    std::fs::write(&path, r#"{"kinds": ["ping"]}"#).unwrap();
    for (mode, taken) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Policy::read(&path).is_ok(), taken, "{mode:o}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&path, Some(1), None).unwrap();
    let error = Policy::read(&path).unwrap_err();
    assert_eq!(error.code(), 64);
    assert!(error.to_string().contains("must belong to root"), "{error}");
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
