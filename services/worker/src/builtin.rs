//! The handlers that are always there: [`noop`], [`sleep`], [`http_check`], [`http_request`], [`action`]; and how they read what
//! they are given.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::handler::{Failure, Handlers};

pub mod action;
pub mod http;
pub mod http_check;
pub mod http_request;
pub mod noop;
pub mod sleep;

pub(crate) fn all() -> Handlers {
    Handlers::default()
        .with("builtin/noop", noop::Noop)
        .with("builtin/sleep", sleep::Sleep)
        .with("builtin/http-check", http_check::HttpCheck)
        .with("builtin/http-request", http_request::HttpRequest)
        .with("builtin/action", action::Action)
}

/// A configuration, read field by field. What is wrong with it is wrong in every attempt.
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// With no other fields than these.
    pub(crate) fn new(config: &'a Map<String, Value>, known: &[&str]) -> Result<Self, Failure> {
        match config.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(config)),
            Some(name) => Err(wrong(
                &name.chars().take(64).collect::<String>(),
                &format!(
                    "is no field of this handler; known are {}",
                    known.join(", ")
                ),
            )),
        }
    }

    /// A field that is there and not `null`.
    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Failure> {
        value.ok_or_else(|| wrong(name, "is required"))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Failure> {
        self.value(name)
            .map(|value| value.as_str().ok_or_else(|| wrong(name, "must be a text")))
            .transpose()
    }

    pub(crate) fn whole(
        &self,
        name: &str,
        range: &RangeInclusive<u64>,
    ) -> Result<Option<u64>, Failure> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            wrong(
                name,
                &format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            )
        })
    }
}

/// A field that cannot be used.
pub(crate) fn wrong(field: &str, reason: &str) -> Failure {
    Failure::permanent(format!("config.{field}: {reason}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_names_the_field_and_lasts() {
        let config = json!({ "ms": 5, "url": 7, "none": null, "big": 10 });
        let config = config.as_object().expect("an object");
        let fields = Fields::new(config, &["ms", "url", "none", "big"]).expect("known fields");
        assert_eq!(fields.whole("ms", &(0..=5)), Ok(Some(5)));
        assert_eq!(fields.text("none"), Ok(None));
        assert_eq!(fields.text("absent"), Ok(None));
        for (failure, expected) in [
            (
                fields.text("url").expect_err("no text"),
                "config.url: must be a text",
            ),
            (
                fields.whole("big", &(0..=5)).expect_err("too large"),
                "config.big: must be a whole number from 0 to 5",
            ),
            (
                fields
                    .required("absent", fields.value("absent"))
                    .expect_err("absent"),
                "config.absent: is required",
            ),
            (
                Fields::new(config, &["ms", "url", "big"])
                    .map(|_| ())
                    .expect_err("unknown"),
                "config.none: is no field of this handler; known are ms, url, big",
            ),
        ] {
            assert!(failure.permanent);
            assert_eq!(failure.message, expected);
        }
    }
}
