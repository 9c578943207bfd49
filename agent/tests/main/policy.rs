//! The policy file: the owner of the machine has the last word.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dashfleet_agent::config::{AgentConfig, PolicyPath};
use dashfleet_agent::error::AgentError;
use dashfleet_agent::policy::Policy;
use domain::action::ActionKind;
use runtime::Reader;
use testkit::Folder;

fn read(path: &Path) -> Result<Policy, AgentError> {
    Policy::read(&PolicyPath::Named(path.to_owned()))
}

#[test]
fn without_a_file_that_anybody_named_the_four_kinds_are_allowed() {
    let config = AgentConfig::read(&mut Reader::from_pairs([])).unwrap();
    assert_eq!(config.policy, PolicyPath::Usual);
    if config.policy.path().exists() {
        eprintln!("this machine has a policy of its own");
        return;
    }
    let policy = Policy::read(&config.policy).unwrap();
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
        (r#"{"kinds": "ping"}"#, "kinds: is not a list of texts"),
        (r#"{"paths": ["srv"]}"#, "not absolute"),
        (r#"{"kinds": null}"#, "kinds: is null"),
        (r#"{"users": null}"#, "users: is null"),
        // Whoever reads it from above sees the first, and a reader of JSON takes the last.
        (
            r#"{"kinds": ["ping"], "kinds": ["reboot"]}"#,
            "kinds: is given twice",
        ),
        (
            r#"{"users": [], "kinds": [], "us\u0065rs": ["ann"]}"#,
            "users: is given twice",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.code(), 64);
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
}

#[test]
fn a_policy_that_was_named_and_is_not_there_ends_the_agent() {
    let folder = Folder::new("policy");
    let path = folder.path().join("policy.json");
    let named = [("DASHFLEET_AGENT_POLICY", path.display().to_string())];
    let config = AgentConfig::read(&mut Reader::from_pairs(named)).unwrap();
    let error = Policy::read(&config.policy).unwrap_err();
    assert_eq!(error.code(), 64);
    assert!(error.to_string().contains("policy.json"), "{error}");
}

#[test]
fn a_policy_in_a_folder_that_others_can_write_is_none() {
    let folder = Folder::new("policy");
    let below = folder.path().join("etc");
    std::fs::create_dir(&below).unwrap();
    let path = below.join("policy.json");
    std::fs::write(&path, "{}").unwrap();
    let modes = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    modes(&path, 0o644);
    for (mode, taken) in [(0o755, true), (0o700, true), (0o775, false), (0o757, false)] {
        modes(&below, mode);
        assert_eq!(read(&path).is_ok(), taken, "{mode:o}");
    }
    // A link does not hide where the file is.
    modes(&below, 0o777);
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = read(&link).unwrap_err();
    assert!(error.to_string().contains("its folder"), "{error}");
    if is_root() {
        modes(&below, 0o755);
        std::os::unix::fs::chown(&below, Some(1), None).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("belongs to user 1"), "{error}");
    }
}

#[test]
fn a_file_that_others_can_write_is_none() {
    let folder = Folder::new("policy");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("policy.json");
    std::fs::write(&path, r#"{"kinds": ["ping"]}"#).unwrap();
    for (mode, taken) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(read(&path).is_ok(), taken, "{mode:o}");
    }
    if !is_root() {
        eprintln!("only root can give a file away");
        return;
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&path, Some(1), None).unwrap();
    let error = read(&path).unwrap_err();
    assert_eq!(error.code(), 64);
    assert!(error.to_string().contains("must belong to root"), "{error}");
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
