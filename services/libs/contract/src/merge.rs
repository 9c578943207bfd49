//! A field of a merge patch (RFC 7396): absent it stays as it is, `null` takes it away, a value sets it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is to become of a field. In a message: `#[serde(default, skip_serializing_if = "Edit::is_keep")]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edit<T> {
    /// It stays; the field is absent.
    #[default]
    Keep,
    /// It is taken away; the field is `null`.
    Clear,
    /// It is set.
    Set(T),
}

impl<T> Edit<T> {
    /// Whether the field is absent.
    #[must_use]
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// What the field is afterwards.
    #[must_use]
    pub fn applied(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }
}

impl<T: Serialize> Serialize for Edit<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => serializer.serialize_some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Edit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

/// Reads a field that may be absent, and that nothing can be instead of: `null` is refused, since it would change nothing and
/// look as if it had. In a message: `#[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]`.
///
/// # Errors
/// What `T` refuses.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
