//! Labels of machines, and the selectors that choose by them: `env=prod,role!=db,gpu,!legacy`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A machine's labels, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// The most labels that a machine can have.
pub const LABELS_MAX: usize = 64;
/// The longest key or value of a label, in characters.
pub const LABEL_MAX_CHARS: usize = 63;

/// A label or selector that is not well formed: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct LabelError {
    /// Path of the field, such as `labels.env`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

fn word(text: &str, may_be_empty: bool) -> Result<(), String> {
    let length = text.chars().count();
    if length == 0 {
        return if may_be_empty {
            Ok(())
        } else {
            Err("must not be empty".into())
        };
    }
    if length > LABEL_MAX_CHARS {
        return Err(format!(
            "has {length} characters; at most {LABEL_MAX_CHARS}"
        ));
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !text.chars().all(inner) || !ends(text.chars().next()) || !ends(text.chars().last()) {
        return Err("takes letters, digits, `-`, `_`, `.` and `/`, and begins and ends with a letter or digit".into());
    }
    Ok(())
}

/// Checks labels as Kubernetes' users know them.
///
/// # Errors
/// [`LabelError`] naming the first label that is wrong.
pub fn check(labels: &Labels) -> Result<(), LabelError> {
    if labels.len() > LABELS_MAX {
        return Err(LabelError {
            path: "labels".into(),
            message: format!("there are {}; at most {LABELS_MAX}", labels.len()),
        });
    }
    for (key, value) in labels {
        let shown: String = key.chars().take(LABEL_MAX_CHARS).collect();
        let path = format!("labels.{shown}");
        word(key, false).map_err(|message| LabelError {
            path: path.clone(),
            message: format!("the key {message}"),
        })?;
        word(value, true).map_err(|message| LabelError {
            path,
            message: format!("the value {message}"),
        })?;
    }
    Ok(())
}

/// One term of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// `key=value`
    Equals(String, String),
    /// `key!=value`: also true for a machine without the key.
    Differs(String, String),
    /// `key`
    Has(String),
    /// `!key`
    Lacks(String),
}

/// Terms that must all hold. The empty selector chooses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The terms, in the order written.
    pub terms: Vec<Term>,
}

/// The most terms of a selector.
pub const SELECTOR_MAX_TERMS: usize = 32;

impl Selector {
    /// Whether labels satisfy every term.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Equals(key, value) => labels.get(key) == Some(value),
            Term::Differs(key, value) => labels.get(key) != Some(value),
            Term::Has(key) => labels.contains_key(key),
            Term::Lacks(key) => !labels.contains_key(key),
        })
    }
}

impl FromStr for Selector {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let refuse = |message: String| LabelError {
            path: "selector".into(),
            message,
        };
        let mut terms = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            if terms.len() == SELECTOR_MAX_TERMS {
                return Err(refuse(format!("has more than {SELECTOR_MAX_TERMS} terms")));
            }
            let term = if let Some((key, value)) = part.split_once("!=") {
                Term::Differs(key.trim().into(), value.trim().into())
            } else if let Some((key, value)) = part.split_once('=') {
                Term::Equals(
                    key.trim().into(),
                    value.trim().trim_start_matches('=').into(),
                )
            } else if let Some(key) = part.strip_prefix('!') {
                Term::Lacks(key.trim().into())
            } else {
                Term::Has(part.into())
            };
            let (key, value) = match &term {
                Term::Equals(key, value) | Term::Differs(key, value) => (key, value.as_str()),
                Term::Has(key) | Term::Lacks(key) => (key, ""),
            };
            let shown: String = part.chars().take(80).collect();
            word(key, false).map_err(|message| refuse(format!("`{shown}`: the key {message}")))?;
            word(value, true)
                .map_err(|message| refuse(format!("`{shown}`: the value {message}")))?;
            terms.push(term);
        }
        Ok(Self { terms })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match term {
                Term::Equals(key, value) => write!(f, "{key}={value}")?,
                Term::Differs(key, value) => write!(f, "{key}!={value}")?,
                Term::Has(key) => f.write_str(key)?,
                Term::Lacks(key) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn terms_choose_as_kubernetes_users_expect() -> Result<(), LabelError> {
        let machine = labels(&[("env", "prod"), ("role", "web")]);
        for (selector, chosen) in [
            ("", true),
            ("env=prod", true),
            ("env==prod", true),
            ("env=prod,role!=db", true),
            ("rack!=r1", true),
            ("env", true),
            ("!env", false),
            ("!rack , env = prod", true),
            ("env=test", false),
        ] {
            assert_eq!(
                selector.parse::<Selector>()?.matches(&machine),
                chosen,
                "{selector}"
            );
        }
        Ok(())
    }

    #[test]
    fn wrong_labels_are_named() {
        assert!(check(&labels(&[("env", "prod")])).is_ok());
        assert_eq!(
            check(&labels(&[("e nv", "prod")])).map_err(|error| error.path),
            Err("labels.e nv".into())
        );
        assert!("=x".parse::<Selector>().is_err());
        assert!("a=b c".parse::<Selector>().is_err());
    }
}
