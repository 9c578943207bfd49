//! Parameters of paths and queries, each with the message that a person gets for a wrong one.

use std::borrow::Cow;
use std::iter;

use chrono::{DateTime, Duration, Utc};
use contract::execution::LogPlace;
use domain::Timestamp;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, Type};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::error::Refused;
use crate::json::Documented;
use crate::{document, shape};

/// The longest page.
pub const LIMIT_MAX: u32 = 200;
/// The page when `limit` is absent.
pub const LIMIT_DEFAULT: u32 = 50;

/// A parameter that may be absent or empty, which means the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maybe<T>(pub Option<T>);

/// A value of the contract, by its documented form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word<T>(pub T);

/// How many items a page has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub u32);

/// A place in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub i64);

/// A place in an execution's log, such as `2-17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine(pub LogPlace);

/// An id in a path. What is not a UUID names nothing that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub Uuid);

/// The machinery of a documented type that is its own value.
macro_rules! parameter_type {
    (($($generics:tt)*) $name:ty, required: $required:expr, $schema:ty) => {
        impl<$($generics)*> Type for $name {
            const IS_REQUIRED: bool = $required;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                <$schema as Type>::name()
            }

            fn schema_ref() -> MetaSchemaRef {
                <$schema as Type>::schema_ref()
            }

            fn register(registry: &mut Registry) {
                <$schema as Type>::register(registry);
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(iter::once(self))
            }
        }
    };
}

parameter_type!((T: Type) Maybe<T>, required: false, T);
parameter_type!((T: Documented + Send + Sync) Word<T>, required: true, T::Schema);
parameter_type!(() Id, required: true, Uuid);
parameter_type!(() Place, required: true, i64);
parameter_type!(() LogLine, required: true, String);

impl<T: ParseFromParameter> ParseFromParameter for Maybe<T> {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        T::parse_from_parameter(text)
            .map(|value| Self(Some(value)))
            .map_err(ParseError::propagate)
    }

    fn parse_from_parameters<I: IntoIterator<Item = A>, A: AsRef<str>>(
        texts: I,
    ) -> ParseResult<Self> {
        match texts.into_iter().next() {
            Some(text) => Self::parse_from_parameter(text.as_ref()),
            None => Ok(Self(None)),
        }
    }
}

impl<T: Documented + DeserializeOwned + Send + Sync> ParseFromParameter for Word<T> {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        let mut value = Value::String(text.to_owned());
        let schema = T::Schema::schema_ref();
        if let Some(error) = shape::check(&schema, document::registry(), true, &mut value)
            .into_iter()
            .next()
        {
            return Err(ParseError::custom(error.message));
        }
        Ok(Self(serde_json::from_value(value)?))
    }
}

impl ParseFromParameter for Id {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        // The same forms as everywhere in the house: with hyphens, or 32 digits.
        Ok(Self(text.parse::<domain::MachineId>()?.0))
    }
}

impl ParseFromParameter for Place {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        match text.parse() {
            Ok(place) if place >= 0 => Ok(Self(place)),
            _ => Err(ParseError::custom("must be a whole number, 0 or more")),
        }
    }
}

impl ParseFromParameter for LogLine {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        text.parse().map(Self).map_err(ParseError::custom)
    }
}

impl Type for Limit {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "limit".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            minimum: Some(1.0),
            maximum: Some(f64::from(LIMIT_MAX)),
            default: Some(LIMIT_DEFAULT.into()),
            ..MetaSchema::new_with_format("integer", "uint32")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(iter::once(self))
    }
}

impl ParseFromParameter for Limit {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        match text.parse() {
            Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(Self(limit)),
            _ => Err(ParseError::custom(format!(
                "must be an integer from 1 to {LIMIT_MAX}"
            ))),
        }
    }
}

impl Maybe<Limit> {
    /// The limit, or its default.
    #[must_use]
    pub fn or_default(&self) -> u32 {
        self.0.map_or(LIMIT_DEFAULT, |limit| limit.0)
    }
}

impl<T> Maybe<Word<T>> {
    /// The value.
    #[must_use]
    pub fn value(self) -> Option<T> {
        self.0.map(|word| word.0)
    }
}

/// The range of time that a query means: to now when `to` is absent, from so long before it when `from` is.
///
/// # Errors
/// INVALID naming `from`, when it is after `to`.
pub fn range(
    from: Maybe<Word<Timestamp>>,
    to: Maybe<Word<Timestamp>>,
    since: Duration,
) -> Result<(Timestamp, Timestamp), Refused> {
    let now = Timestamp::now();
    let to = to.value().unwrap_or(now);
    let from = from.value().unwrap_or_else(|| now.min(to).plus(-since));
    if from > to {
        let message = format!("must not be after `to` ({to})");
        return Err(Refused::invalid(vec![contract::FieldError {
            path: "from".to_owned(),
            message,
        }]));
    }
    Ok((from, to))
}

impl Documented for Timestamp {
    type Schema = DateTime<Utc>;
}

impl Documented for Uuid {
    type Schema = Self;
}
