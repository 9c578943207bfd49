//! What a request of Dash-Fleet's gives: a JSON object or a query, and its fields, each refused by its name. Fields that
//! nobody knows are overlooked: its agents say more than they must.

use contract::FieldError;
use poem::Request;
use serde_json::{Map, Value};

use crate::error::Refused;
use crate::shape::ROOT;

/// An object, and where it is in the request.
#[derive(Debug)]
pub struct Given {
    fields: Map<String, Value>,
    place: &'static str,
}

/// One field is wrong.
pub fn wrong(path: impl Into<String>, message: impl Into<String>) -> Refused {
    Refused::invalid(vec![FieldError {
        path: path.into(),
        message: message.into(),
    }])
}

impl Given {
    /// The object of a body.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn body(bytes: &[u8]) -> Result<Self, Refused> {
        let value = serde_json::from_slice(bytes)
            .map_err(|error| wrong(ROOT, format!("malformed JSON: {error}")))?;
        match value {
            Value::Object(fields) => Ok(Self::of(fields)),
            _ => Err(wrong(ROOT, "must be an object")),
        }
    }

    /// The parameters of a query; of two of one name the first.
    ///
    /// # Errors
    /// 400 when it cannot be read.
    pub fn query(request: &Request) -> Result<Self, Refused> {
        let pairs: Vec<(String, String)> = request
            .params()
            .map_err(|error| wrong("query", error.to_string()))?;
        let mut fields = Map::new();
        for (name, value) in pairs {
            fields.entry(name).or_insert(Value::String(value));
        }
        Ok(Self::of(fields))
    }

    /// A machine's name counts without the space around it, which nobody sees: `web ` (from a file that ends with a line,
    /// say) is no second machine beside `web`, nor a second one for limits.
    fn of(mut fields: Map<String, Value>) -> Self {
        if let Some(Value::String(name)) = fields.get_mut("machine_id") {
            *name = name.trim().to_owned();
        }
        Self { fields, place: "" }
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    /// A field as it is; nothing when it is absent or null.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A text to be shown or counted; empty when there is none.
    pub fn shown(&self, name: &str) -> &str {
        self.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn text(&self, name: &str) -> Result<&str, Refused> {
        match self.value(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wrong(self.path(name), "must be a text")),
            None => Err(wrong(self.path(name), "is required")),
        }
    }

    /// A number, if it is there.
    ///
    /// # Errors
    /// 400 naming it when it is something else.
    pub fn number(&self, name: &str) -> Result<Option<f64>, Refused> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(self.path(name), "must be a number")),
            },
        }
    }

    /// A number that must be there.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn number_required(&self, name: &str) -> Result<f64, Refused> {
        self.number(name)?
            .ok_or_else(|| wrong(self.path(name), "is required"))
    }

    /// The object `report`, whose fields are named after it.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn report(&self) -> Result<Self, Refused> {
        match self.value("report") {
            Some(Value::Object(fields)) => Ok(Self {
                fields: fields.clone(),
                place: "report.",
            }),
            Some(_) => Err(wrong("report", "must be an object")),
            None => Err(wrong("report", "is required")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_field_is_named() {
        let given = Given::body(br#"{"a": 1, "b": "x", "c": null, "report": {"cpu": "9"}}"#);
        let given = given.expect("an object");
        assert_eq!(given.text("b").expect("a text"), "x");
        assert_eq!(given.number("a").expect("a number"), Some(1.0));
        let named =
            Given::body(br#"{"machine_id": " web 1\n", "name": " x "}"#).expect("an object");
        assert_eq!(
            (named.shown("machine_id"), named.shown("name")),
            ("web 1", " x ")
        );
        let said = |refused: Result<(), Refused>| refused.expect_err("refused").detail;
        assert_eq!(said(given.text("a").map(drop)), "a: must be a text");
        assert_eq!(said(given.text("c").map(drop)), "c: is required");
        let report = given.report().expect("a report");
        let cpu = report.number_required("cpu").map(drop);
        assert_eq!(said(cpu), "report.cpu: must be a number");
        let ram = report.number_required("ram").map(drop);
        assert_eq!(said(ram), "report.ram: is required");
        assert!(Given::body(b"[]").is_err() && Given::body(b"").is_err());
    }
}
