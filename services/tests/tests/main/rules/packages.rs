//! What cargo says of our crates and of everything that they bring.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use super::files::repository;

/// For what a crate uses another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Build,
    Dev,
}

/// Ours by the name without `dashfleet-`, the others by their own.
pub struct Packages {
    ours: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
    uses: BTreeMap<String, Vec<(String, Kind)>>,
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap()
}

impl Packages {
    /// What cargo said when it was first asked.
    pub fn read() -> &'static Self {
        static READ: LazyLock<Packages> = LazyLock::new(Packages::ask);
        &READ
    }

    fn ask() -> Self {
        let version = cargo(&["-vV"]);
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap();
        let metadata = cargo(&[
            "metadata",
            "--offline",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            host,
        ]);
        let metadata: Value = serde_json::from_str(&metadata).unwrap();
        let names: BTreeMap<String, String> = items(&metadata, "packages")
            .iter()
            .map(|package| {
                (
                    text(package, "id").to_owned(),
                    text(package, "name").to_owned(),
                )
            })
            .collect();
        let ours = items(&metadata, "workspace_members")
            .iter()
            .map(|id| {
                let id = id.as_str().unwrap().to_owned();
                (
                    names[&id].strip_prefix("dashfleet-").unwrap().to_owned(),
                    id,
                )
            })
            .collect();
        let uses = items(&metadata["resolve"], "nodes")
            .iter()
            .map(|node| {
                (
                    text(node, "id").to_owned(),
                    items(node, "deps").iter().flat_map(uses).collect(),
                )
            })
            .collect();
        Self { ours, names, uses }
    }

    pub fn ours(&self) -> Vec<String> {
        self.ours.keys().cloned().collect()
    }

    /// Which of our crates one of them uses, and for what.
    pub fn uses_of_ours(&self, ours: &str) -> Vec<(String, Kind)> {
        let used = self.uses[&self.ours[ours]].iter();
        used.filter_map(|(id, kind)| {
            Some((
                self.ours.iter().find(|(_, known)| *known == id)?.0.clone(),
                *kind,
            ))
        })
        .collect()
    }

    /// Which of ours name this package themselves.
    pub fn users_of(&self, package: &str) -> Vec<String> {
        let uses_it = |id: &String| {
            self.uses[id]
                .iter()
                .any(|(used, _)| self.names[used] == package)
        };
        self.ours
            .iter()
            .filter(|(_, id)| uses_it(id))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Everything that comes with one of ours.
    pub fn tree_of(&self, ours: &str) -> BTreeSet<String> {
        self.tree(vec![self.ours[ours].clone()])
    }

    /// Everything that comes with any of ours, and what their tests bring.
    pub fn whole_tree(&self) -> BTreeSet<String> {
        let direct = self
            .ours
            .values()
            .flat_map(|id| self.uses[id].iter().map(|(used, _)| used.clone()));
        self.tree(direct.collect())
    }

    fn tree(&self, mut waiting: Vec<String>) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if seen.insert(id.clone()) {
                let used = self.uses[&id].iter().filter(|(_, kind)| *kind != Kind::Dev);
                waiting.extend(used.map(|(used, _)| used.clone()));
            }
        }
        seen.iter().map(|id| self.names[id].clone()).collect()
    }
}

fn uses(dependency: &Value) -> Vec<(String, Kind)> {
    let kind = |kind: &Value| match kind["kind"].as_str() {
        None => Kind::Normal,
        Some("build") => Kind::Build,
        Some(_) => Kind::Dev,
    };
    items(dependency, "dep_kinds")
        .iter()
        .map(|of| (text(dependency, "pkg").to_owned(), kind(of)))
        .collect()
}
