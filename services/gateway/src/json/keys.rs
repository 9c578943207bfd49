//! Reading JSON so that no key is overlooked: of two fields with one name the library takes the last, another reader of the
//! same bytes may take the first, and whoever checks a request would not check what is done.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The longest name of the client that an answer repeats, in characters.
const SHOWN_MAX_CHARS: usize = 64;

/// A value, and the paths of the fields that are there twice.
///
/// # Errors
/// When it is no JSON.
pub fn read(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut twice = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed {
        at: Place::Root,
        twice: &mut twice,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, twice))
}

/// Where a value is. Written down only when something is wrong there.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Item(list, index) => write!(f, "{list}[{index}]"),
            Self::Field(object, name) => {
                object.fmt(f)?;
                if !matches!(object, Self::Root) {
                    f.write_str(".")?;
                }
                let shown: String = name
                    .chars()
                    .take(SHOWN_MAX_CHARS)
                    .filter(|c| !c.is_control())
                    .collect();
                f.write_str(&shown)
            }
        }
    }
}

struct Seed<'a> {
    at: Place<'a>,
    twice: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed {
            at: Place::Item(&self.at, list.len()),
            twice: &mut *self.twice,
        })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let at = Place::Field(&self.at, &name);
            if object.contains_key(&name) {
                self.twice.push(at.to_string());
            }
            let value = fields.next_value_seed(Seed {
                at,
                twice: &mut *self.twice,
            })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_once_is_read_as_ever() {
        for text in [
            "null",
            "[]",
            r#"{"a":{"a":[1,-2,3.5,1e300,true,null,"é\n"]},"b":{"a":18446744073709551615}}"#,
            " [ { } , [ [ ] ] ] ",
        ] {
            let (value, twice) = read(text.as_bytes()).expect("JSON");
            let expected: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!((value, twice), (expected, Vec::<String>::new()));
        }
    }

    #[test]
    fn what_is_there_twice_is_named_by_its_path() {
        for (text, paths) in [
            (r#"{"a":1,"a":1}"#, vec!["a"]),
            (r#"{"a":1,"\u0061":2}"#, vec!["a"]),
            (r#"{"a":{"b":[{},{"c":1,"d":0,"c":2}]}}"#, vec!["a.b[1].c"]),
            (
                r#"[{"x":0,"x":0},{"x":0,"x":0,"x":0}]"#,
                vec!["[0].x", "[1].x", "[1].x"],
            ),
        ] {
            let (_, twice) = read(text.as_bytes()).expect("JSON");
            assert_eq!(twice, paths, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_as_ever() {
        let deep = "[".repeat(500);
        for text in ["", "{", "{} {}", "{\"a\"}", "[1,]", "nul", &deep] {
            let expected = serde_json::from_str::<Value>(text).expect_err("no JSON");
            let found = read(text.as_bytes()).expect_err("no JSON");
            assert_eq!(found.to_string(), expected.to_string(), "{text}");
        }
        assert!(read(b"\"\xff\"").is_err());
    }
}
