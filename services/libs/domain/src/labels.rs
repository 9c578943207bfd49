//! Labels of machines, and the selectors that choose by them: `env=prod,role!=db,gpu,!legacy`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A machine's labels, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// What to do with labels: a text is set, `None` takes the label away. Labels that are not named stay.
pub type LabelEdits = BTreeMap<String, Option<String>>;

/// The most labels that a machine can have.
pub const LABELS_MAX: usize = 64;
/// The most labels that one edit names: all that there are, and as many others.
pub const LABEL_EDITS_MAX: usize = 2 * LABELS_MAX;
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
        check_label(key, value)?;
    }
    Ok(())
}

fn check_label(key: &str, value: &str) -> Result<(), LabelError> {
    let shown: String = key.chars().take(LABEL_MAX_CHARS).collect();
    let path = format!("labels.{shown}");
    word(key, false).map_err(|message| LabelError {
        path: path.clone(),
        message: format!("the key {message}"),
    })?;
    word(value, true).map_err(|message| LabelError {
        path,
        message: format!("the value {message}"),
    })
}

/// Checks what is to be done with labels, whatever labels there are.
///
/// # Errors
/// [`LabelError`] naming the first label that is wrong.
pub fn check_edits(edits: &LabelEdits) -> Result<(), LabelError> {
    if edits.len() > LABEL_EDITS_MAX {
        return Err(LabelError {
            path: "labels".into(),
            message: format!("names {}; at most {LABEL_EDITS_MAX}", edits.len()),
        });
    }
    for (key, value) in edits {
        check_label(key, value.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

/// Labels after an edit.
///
/// # Errors
/// [`LabelError`] when there would be too many.
pub fn edited(labels: &Labels, edits: &LabelEdits) -> Result<Labels, LabelError> {
    let mut labels = labels.clone();
    for (key, value) in edits {
        match value {
            Some(value) => labels.insert(key.clone(), value.clone()),
            None => labels.remove(key),
        };
    }
    if labels.len() > LABELS_MAX {
        return Err(LabelError {
            path: "labels".into(),
            message: format!("there would be {}; at most {LABELS_MAX}", labels.len()),
        });
    }
    Ok(labels)
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

/// A selector as conditions on an object of labels, for those who look in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelFilter {
    /// Labels that must all be there.
    pub equals: Labels,
    /// Keys that must all be there.
    pub has: Vec<String>,
    /// Keys of which none may be there.
    pub lacks: Vec<String>,
    /// Labels, each as an object, of which none may be there.
    pub differs: Vec<Labels>,
}

impl Selector {
    /// The selector of a change, where the empty one, which chooses everything, would be an accident.
    ///
    /// # Errors
    /// [`LabelError`] naming `selector`.
    pub fn of_some(text: &str) -> Result<Self, LabelError> {
        let selector: Self = text.parse()?;
        if selector.terms.is_empty() {
            return Err(LabelError {
                path: "selector".into(),
                message: "must not be empty: it would choose every machine".into(),
            });
        }
        Ok(selector)
    }

    /// The selector as conditions; `None` when no labels can satisfy it.
    #[must_use]
    pub fn filter(&self) -> Option<LabelFilter> {
        let mut filter = LabelFilter::default();
        for term in &self.terms {
            match term {
                Term::Equals(key, value) => {
                    let before = filter.equals.insert(key.clone(), value.clone());
                    if before.is_some_and(|before| before != *value) {
                        return None;
                    }
                }
                Term::Differs(key, value) => {
                    filter
                        .differs
                        .push(Labels::from([(key.clone(), value.clone())]));
                }
                Term::Has(key) => filter.has.push(key.clone()),
                Term::Lacks(key) => filter.lacks.push(key.clone()),
            }
        }
        Some(filter)
    }

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
        assert!(Selector::of_some(" , ").is_err());
    }

    #[test]
    fn an_edit_sets_and_takes_away_and_leaves_the_rest() -> Result<(), LabelError> {
        let edit = |key: &str, value: Option<&str>| (key.to_owned(), value.map(ToOwned::to_owned));
        let before = labels(&[("env", "prod"), ("role", "web"), ("rack", "r1")]);
        let edits = [
            edit("env", Some("test")),
            edit("rack", None),
            edit("nothing", None),
            edit("owner", Some("")),
        ]
        .into();
        check_edits(&edits)?;
        assert_eq!(
            edited(&before, &edits)?,
            labels(&[("env", "test"), ("role", "web"), ("owner", "")])
        );
        for (wrong, path) in [
            (edit("e nv", None), "labels.e nv"),
            (edit("env", Some("a b")), "labels.env"),
        ] {
            assert_eq!(
                check_edits(&[wrong].into()).map_err(|error| error.path),
                Err(path.to_owned())
            );
        }
        let many = |count: usize| -> LabelEdits {
            (0..count)
                .map(|n| (format!("k{n}"), Some("v".to_owned())))
                .collect()
        };
        assert!(check_edits(&many(LABEL_EDITS_MAX + 1)).is_err());
        assert!(edited(&before, &many(LABELS_MAX - 3)).is_ok());
        assert!(edited(&before, &many(LABELS_MAX - 2)).is_err());
        Ok(())
    }

    #[test]
    fn two_values_of_one_key_choose_nothing() -> Result<(), LabelError> {
        let filter = |text: &str| text.parse::<Selector>().map(|selector| selector.filter());
        assert_eq!(filter("env=prod,env=test")?, None);
        let chosen = filter("env=prod,env=prod,role!=db,gpu,!old")?;
        assert_eq!(
            chosen,
            Some(LabelFilter {
                equals: labels(&[("env", "prod")]),
                has: vec!["gpu".into()],
                lacks: vec!["old".into()],
                differs: vec![labels(&[("role", "db")])],
            })
        );
        Ok(())
    }
}
