//! The rules of the house (DESIGN §11 and §12), as far as a program can see them.

use std::collections::BTreeMap;

use packages::{Kind, Packages};

pub mod files;
mod packages;

const LIBRARIES: [&str; 4] = ["domain", "contract", "bus", "runtime"];

/// Which of our crates each may use in its own code.
fn may_use() -> BTreeMap<&'static str, Vec<&'static str>> {
    let libraries = vec!["domain", "contract", "bus", "runtime", "database"];
    let owner = [libraries.clone(), vec!["owner"]].concat();
    BTreeMap::from([
        ("domain", vec![]),
        ("contract", vec!["domain"]),
        ("bus", vec!["domain", "contract"]),
        ("database", vec!["domain", "seal"]),
        ("owner", libraries.clone()),
        ("egress", vec!["domain"]),
        ("runtime", vec![]),
        ("seal", vec!["domain"]),
        ("testkit", [libraries, vec!["bootstrap"]].concat()),
        ("identity", owner.clone()),
        ("action", owner.clone()),
        ("metrics", owner.clone()),
        ("scheduler", owner.clone()),
        ("worker", [LIBRARIES.to_vec(), vec!["egress"]].concat()),
        ("gateway", LIBRARIES.to_vec()),
        ("agent", LIBRARIES.to_vec()),
        (
            "bootstrap",
            vec!["domain", "contract", "bus", "runtime", "database", "seal"],
        ),
        ("xtask", vec![]),
        ("tests", vec!["testkit"]),
    ])
}

#[test]
fn each_crate_uses_only_what_it_may() {
    let packages = Packages::read();
    let may_use = may_use();
    let mut wrong = Vec::new();
    for ours in packages.ours() {
        let allowed = may_use
            .get(ours.as_str())
            .unwrap_or_else(|| panic!("{ours} is new: say what it may use"));
        for (used, kind) in packages.uses_of_ours(&ours) {
            let for_tests = kind == Kind::Dev && (used == "testkit" || ours == "tests");
            if !for_tests && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{ours} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_outside_is_used_by_its_one_user() {
    let packages = Packages::read();
    assert_eq!(packages.users_of("async-nats"), ["bus"]);
    assert_eq!(packages.users_of("poem-openapi"), ["gateway"]);
    assert_eq!(packages.users_of("sysinfo"), ["agent"]);
    let no_database = [
        "gateway", "worker", "agent", "bus", "contract", "domain", "egress", "runtime", "xtask",
    ];
    for ours in no_database {
        let tree = packages.tree_of(ours);
        assert!(
            !tree.iter().any(|name| name.starts_with("sqlx")),
            "{ours} brings a database"
        );
    }
    for ours in ["domain", "contract"] {
        for runtime in [
            "tokio",
            "async-std",
            "smol",
            "futures-executor",
            "async-nats",
            "hyper",
            "reqwest",
        ] {
            assert!(
                !packages.tree_of(ours).contains(runtime),
                "{ours} brings {runtime}"
            );
        }
    }
}

#[test]
fn one_tls_and_no_foreign_build() {
    let banned = [
        "aws-lc-rs",
        "aws-lc-sys",
        "native-tls",
        "openssl",
        "openssl-sys",
    ];
    let packages = Packages::read();
    let tree = packages.whole_tree();
    println!(
        "rules: {} packages in the tree of this platform",
        tree.len()
    );
    assert!(
        tree.contains("rustls") && tree.contains("ring"),
        "the tree was not read"
    );
    for name in banned {
        assert!(!tree.contains(name), "{name} is in the tree");
    }
    let deny = files::read("deny.toml");
    for name in banned {
        assert!(
            deny.contains(&format!("\"{name}\"")),
            "{name} is banned here and not in deny.toml"
        );
    }
}

#[test]
fn inbound_calls_app_and_app_calls_store_and_never_back() {
    let forbidden: [(&str, &[&str]); 5] = [
        ("store", &["app", "inbound"]),
        ("app", &["inbound"]),
        ("inbound", &["store"]),
        ("error", &["inbound", "store"]),
        ("metrics", &["inbound", "store"]),
    ];
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for path in files::rust()
        .into_iter()
        .filter(|path| files::is_service(path))
    {
        let Some(module) = files::module(&path) else {
            continue;
        };
        let Some((_, never)) = forbidden
            .iter()
            .find(|(room, _)| module.first() == Some(&(*room).to_owned()))
        else {
            continue;
        };
        looked_at += 1;
        for room in files::rooms_used(&files::code(&path), module.len()) {
            if never.contains(&room.as_str()) {
                wrong.push(format!("{path} uses {room}"));
            }
        }
    }
    println!("rules: {looked_at} files know their place among the rooms");
    assert!(looked_at > 50, "only {looked_at} files");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rooms_used_are_found_however_they_are_named() {
    let code = "use crate::{error::E, store::{row, sync}};\nfn f() { crate::app::g(); super::super::inbound::h(); super::near(); mycrate::x(); }";
    assert_eq!(
        files::rooms_used(code, 2),
        ["error", "store", "app", "inbound"]
    );
}

#[test]
fn files_are_small_explained_and_where_they_belong() {
    let mut wrong = Vec::new();
    let mut lengths = Vec::new();
    for path in files::rust() {
        let text = files::read(&path);
        let lines = text.lines().count();
        lengths.push((lines, path.clone()));
        if path.ends_with("/mod.rs") {
            wrong.push(format!("{path}: say `foo.rs` and `foo/`"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{path}: does not begin with what it is for"));
        }
        if lines > 600 {
            wrong.push(format!("{path}: {lines} lines"));
        }
        if path.ends_with("src/main.rs")
            && lines > 40
            && (files::is_service(&path) || path.starts_with("agent/"))
        {
            wrong.push(format!("{path}: {lines} lines, and a main has 40"));
        }
    }
    lengths.sort();
    let (median, _) = lengths[lengths.len() / 2];
    let (longest, path) = lengths.last().unwrap();
    println!(
        "rules: {} Rust files, median {median} lines, longest {longest} ({path})",
        lengths.len()
    );
    if median > 150 {
        wrong.push(format!("the median file has {median} lines"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_undone_and_nothing_names_a_machine_or_a_registry() {
    // In pieces, so that this file does not find itself.
    let unfinished = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
    ];
    let places = [
        concat!("/wo", "rk/"),
        concat!("/tmp", "/df"),
        concat!("/ro", "ot/.cargo"),
        concat!("/ho", "me/user"),
    ];
    let registries = [
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("pypi.", "org"),
        concat!("files.python", "hosted.org"),
        concat!("registry.", "npmjs.org"),
        concat!("proxy.", "golang.org"),
        concat!("extra-", "index-url"),
    ];
    let mut wrong = Vec::new();
    let paths = files::tracked();
    for path in &paths {
        let Some(text) = files::text(path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let found = [&unfinished[..], &places, &registries].concat();
            for what in found.iter().filter(|what| files::has_word(line, what)) {
                wrong.push(format!("{path}:{}: {what}", number + 1));
            }
        }
    }
    for line in files::read("Cargo.lock")
        .lines()
        .filter(|line| line.starts_with("source = "))
    {
        if line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"" {
            wrong.push(format!("Cargo.lock: {line}"));
        }
    }
    println!(
        "rules: {} files name no machine and no registry, and leave nothing undone",
        paths.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}
