//! Files that the machine's owner writes: one JSON object, each key at most once. JSON itself lets the last of two win,
//! and whoever reads the file may have seen the first.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The fields of an object.
struct Fields(Map<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some(key) = given.next_key::<String>()? {
                    if fields.contains_key(&key) {
                        let key = key.escape_debug();
                        return Err(A::Error::custom(format!("{key}: is given twice")));
                    }
                    fields.insert(key, given.next_value()?);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Once)
    }
}

/// Reads the object that a text is.
///
/// # Errors
/// Why it is none, or the key that is there twice, and where.
pub fn read(text: &str) -> Result<Map<String, Value>, String> {
    // Some editors put this mark first, which no reader of JSON takes.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // First of all whether it is JSON: where it breaks off says more than what it might have become.
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !value.is_object() {
        return Err("is not a JSON object".into());
    }
    serde_json::from_str::<Fields>(text)
        .map(|fields| fields.0)
        .map_err(|error| error.to_string())
}
