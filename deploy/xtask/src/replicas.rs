//! How many replicas of each service there are: so many of each, and of some another number.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::table::SERVICES;

/// The greatest number of replicas of each service that one machine is asked to run.
pub const LIMIT: usize = 16;

/// A number for each service. `launch.json` has its fields among its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// Of each service that has no number of its own.
    #[serde(rename = "replicas")]
    each: usize,
    /// Of these services so many. Not in the file of an older launcher.
    #[serde(rename = "replicasOf", default)]
    own: BTreeMap<String, usize>,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            each: 1,
            own: BTreeMap::new(),
        }
    }
}

impl Replicas {
    /// How many of a service.
    pub fn of(&self, service: &str) -> usize {
        self.own.get(service).copied().unwrap_or(self.each)
    }

    /// Of each service the greater number of the two.
    pub fn or_more(&self, other: &Self) -> Self {
        let names = self.own.keys().chain(other.own.keys());
        Self {
            each: self.each.max(other.each),
            own: names
                .map(|name| (name.clone(), self.of(name).max(other.of(name))))
                .collect(),
        }
    }
}

impl FromStr for Replicas {
    type Err = String;

    /// `3`, or `2,worker=3`: two of each, and three workers. Without a number for each it is one. The error says what is
    /// taken.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut replicas = Self::default();
        for part in text.split(',') {
            let Some((name, count)) = part.split_once('=') else {
                replicas.each = number(part)?;
                continue;
            };
            if !SERVICES.iter().any(|service| service.name == name) {
                let known: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
                let known = known.join(", ");
                return Err(format!("a number for one of {known}, not for `{name}`"));
            }
            replicas.own.insert(name.to_owned(), number(count)?);
        }
        Ok(replicas)
    }
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if (1..=LIMIT).contains(&count) => Ok(count),
        _ => Err(format!("a number from 1 to {LIMIT}, not `{text}`")),
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.each)?;
        for (name, count) in &self.own {
            write!(f, ",{name}={count}")?;
        }
        Ok(())
    }
}
