//! Checking a body against the schema that the document shows: what is documented is what is enforced. All fields that
//! are wrong are named at once, each by its path.

use contract::FieldError;
use domain::Timestamp;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use serde_json::Value;

/// The path of the body as a whole.
pub const ROOT: &str = "body";
/// The most errors that one answer names.
const ERRORS_MAX: usize = 32;
/// The longest text of the client that an answer repeats, in characters.
const SHOWN_MAX_CHARS: usize = 64;

/// One check.
struct Check<'a> {
    registry: &'a Registry,
    /// Whether a field that the document does not have is an error.
    strict: bool,
    errors: Vec<FieldError>,
}

/// What is wrong with a value; nothing when it fits. A `null` in an optional field is the same as its absence, and is
/// taken out, unless the document says that the field takes it.
pub fn check(
    schema: &MetaSchemaRef,
    registry: &Registry,
    strict: bool,
    value: &mut Value,
) -> Vec<FieldError> {
    let mut check = Check {
        registry,
        strict,
        errors: Vec::new(),
    };
    check.at(schema, "", value);
    check.errors.truncate(ERRORS_MAX);
    check.errors
}

impl Check<'_> {
    fn wrong(&mut self, path: &str, message: impl Into<String>) {
        let path = if path.is_empty() { ROOT } else { path };
        self.errors.push(FieldError {
            path: path.to_owned(),
            message: message.into(),
        });
    }

    fn at(&mut self, schema: &MetaSchemaRef, path: &str, value: &mut Value) {
        let registry = self.registry;
        match schema {
            MetaSchemaRef::Inline(schema) => self.schema(schema, path, value),
            // A name that the registry does not have would be a fault of the document, which a test looks for.
            MetaSchemaRef::Reference(name) => {
                if let Some(schema) = registry.schemas.get(name) {
                    self.schema(schema, path, value);
                }
            }
        }
    }

    fn schema(&mut self, schema: &MetaSchema, path: &str, value: &mut Value) {
        if schema.nullable && value.is_null() {
            return;
        }
        for part in &schema.all_of {
            self.at(part, path, value);
        }
        if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
            let known: Vec<_> = schema.enum_items.iter().map(word).collect();
            let message = format!("must be one of {}{}", known.join(", "), found(value));
            return self.wrong(path, message);
        }
        match schema.ty {
            "object" => self.object(schema, path, value),
            "array" => self.array(schema, path, value),
            "string" => match value.as_str() {
                Some(text) => {
                    if let Some(message) = text_error(schema, text) {
                        self.wrong(path, message);
                    }
                }
                None => self.wrong(path, format!("must be a string{}", found(value))),
            },
            "integer" | "number" => {
                if let Some(message) = number_error(schema, value) {
                    self.wrong(path, message);
                }
            }
            "boolean" if !value.is_boolean() => {
                self.wrong(path, format!("must be true or false{}", found(value)));
            }
            _ => {}
        }
    }

    fn object(&mut self, schema: &MetaSchema, path: &str, value: &mut Value) {
        let Value::Object(fields) = value else {
            let message = format!("must be an object{}", found(value));
            return self.wrong(path, message);
        };
        let below = |name: &str| {
            if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            }
        };
        for (name, property) in &schema.properties {
            let required = schema.required.contains(name);
            match fields.get_mut(*name) {
                Some(Value::Null) if !required && !takes_null(property) => {
                    drop(fields.remove(*name));
                }
                Some(field) => self.at(property, &below(name), field),
                None if required => self.wrong(&below(name), "is required"),
                None => {}
            }
        }
        let others = fields
            .iter_mut()
            .filter(|(name, _)| !schema.properties.iter().any(|(known, _)| known == name));
        for (name, field) in others {
            let name = below(&shown(name));
            match &schema.additional_properties {
                Some(additional) => self.at(additional, &name, field),
                None if self.strict && !schema.properties.is_empty() => {
                    self.wrong(&name, "is not a field of this");
                }
                None => {}
            }
        }
    }

    fn array(&mut self, schema: &MetaSchema, path: &str, value: &mut Value) {
        let Value::Array(items) = value else {
            let message = format!("must be a list{}", found(value));
            return self.wrong(path, message);
        };
        if let Some(most) = schema.max_items.filter(|most| items.len() > *most) {
            return self.wrong(path, format!("has {} items; at most {most}", items.len()));
        }
        if let Some(least) = schema.min_items.filter(|least| items.len() < *least) {
            return self.wrong(path, format!("has {} items; at least {least}", items.len()));
        }
        if let Some(item) = &schema.items {
            for (index, field) in items.iter_mut().enumerate() {
                self.at(item, &format!("{path}[{index}]"), field);
            }
        }
    }
}

fn takes_null(schema: &MetaSchemaRef) -> bool {
    matches!(schema, MetaSchemaRef::Inline(schema) if schema.nullable)
}

fn text_error(schema: &MetaSchema, text: &str) -> Option<String> {
    match schema.format {
        // Uuid's own parser takes braces and URNs too, which the rest of the house does not.
        Some("uuid") if !is_uuid(text) => return Some(format!("`{}` is not a UUID", shown(text))),
        Some("date-time") => {
            return text
                .parse::<Timestamp>()
                .err()
                .map(|error| error.to_string());
        }
        _ => {}
    }
    let length = text.chars().count();
    match (schema.min_length, schema.max_length) {
        (Some(1), _) if length == 0 => Some("must not be empty".to_owned()),
        (Some(least), _) if length < least => {
            Some(format!("has {length} characters; at least {least}"))
        }
        (_, Some(most)) if length > most => {
            Some(format!("has {length} characters; at most {most}"))
        }
        _ => None,
    }
}

/// Whether the text is a UUID in a form that the house takes.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    text.parse::<domain::MachineId>().is_ok()
}

fn number_error(schema: &MetaSchema, value: &Value) -> Option<String> {
    let Some(number) = value.as_f64() else {
        return Some(format!("must be a number{}", found(value)));
    };
    if schema.ty == "integer" {
        let fits = match schema.format {
            Some("uint32") => value
                .as_u64()
                .is_some_and(|number| u32::try_from(number).is_ok()),
            Some("uint64") => value.is_u64(),
            Some("int16") => value
                .as_i64()
                .is_some_and(|number| i16::try_from(number).is_ok()),
            Some("int32") => value
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            _ => value.is_i64() || value.is_u64(),
        };
        if !fits {
            let format = schema.format.unwrap_or("whole");
            return Some(format!("must be an integer ({format}){}", found(value)));
        }
    }
    match (schema.minimum, schema.maximum) {
        (Some(least), _) if number < least => Some(format!("must be at least {least}")),
        (_, Some(most)) if number > most => Some(format!("must be at most {most}")),
        _ => None,
    }
}

/// What was found instead, in a word; a long or nested value is not repeated.
fn found(value: &Value) -> String {
    match value {
        Value::Null => ", not null".to_owned(),
        Value::Bool(_) => ", not a boolean".to_owned(),
        Value::Number(number) => format!(", not {number}"),
        Value::String(text) => format!(", not `{}`", shown(text)),
        Value::Array(_) => ", not a list".to_owned(),
        Value::Object(_) => ", not an object".to_owned(),
    }
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn shown(text: &str) -> String {
    text.chars()
        .take(SHOWN_MAX_CHARS)
        .filter(|c| !c.is_control())
        .collect()
}
