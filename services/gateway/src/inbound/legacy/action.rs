//! Actions in the words of Dash-Fleet: queued by operators' scripts, handed to agents, reported by them.

use std::net::IpAddr;

use contract::legacy::{LegacyPending, LegacyQueue, LegacyResult, LegacyTask};
use domain::ActionId;
use domain::action::ActionKind;
use poem::Response;
use poem::http::StatusCode;
use serde_json::{Map, Value, json};

use super::given::{Given, wrong};
use super::{Legacy, shown};
use crate::caller::Caller;
use crate::error::Refused;

/// What each kind takes, in Dash-Fleet's words and in ours.
const MESSAGE: [(&str, &str); 2] = [("title", "title"), ("message", "message")];
const REBOOT: [(&str, &str); 1] = [("delay_seconds", "delaySeconds")];

impl Legacy {
    pub(super) async fn queue(&self, caller: &Caller, given: &Given) -> Result<Response, Refused> {
        let kind = given.text("action_type")?.to_owned();
        let queue = LegacyQueue {
            name: given.text("machine_id")?.to_owned(),
            payload: payload(&kind, given.value("data"))?,
            kind,
        };
        let queued = self.owners.write(caller, &queue).await.map_err(renamed)?;
        let body = json!({ "ok": true, "action_id": queued.action_id });
        Ok(shown(StatusCode::CREATED, &body))
    }

    pub(super) async fn pending(
        &self,
        caller: &Caller,
        given: &Given,
        address: IpAddr,
    ) -> Result<Response, Refused> {
        let pending = LegacyPending {
            name: given.text("machine_id")?.to_owned(),
            address,
        };
        let tasks = self.owners.write(caller, &pending).await?;
        let actions: Vec<Value> = tasks.items.iter().map(task).collect();
        Ok(shown(StatusCode::OK, &json!({ "actions": actions })))
    }

    pub(super) async fn result(
        &self,
        caller: &Caller,
        given: &Given,
        address: IpAddr,
    ) -> Result<Response, Refused> {
        let action_id: ActionId = given
            .text("action_id")?
            .parse()
            .map_err(|_| wrong("action_id", "is no id of an action"))?;
        let done = match given.text("status")? {
            "done" => true,
            "error" => false,
            _ => return Err(wrong("status", "must be done or error")),
        };
        let attempt = match given.value("attempt") {
            None => None,
            Some(value) => Some(
                value
                    .as_i64()
                    .and_then(|attempt| i32::try_from(attempt).ok())
                    .ok_or_else(|| wrong("attempt", "must be a whole number"))?,
            ),
        };
        let result = LegacyResult {
            action_id,
            attempt,
            done,
            result: given.value("result").cloned().unwrap_or_default(),
            address,
        };
        self.owners.write(caller, &result).await?;
        Ok(shown(StatusCode::OK, &json!({ "ok": true })))
    }
}

fn words(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "message" => &MESSAGE,
        "reboot" => &REBOOT,
        _ => &[],
    }
}

/// What a kind takes, of `data`: its own words, and nothing of what else scripts put there. A message may be its text.
fn payload(kind: &str, data: Option<&Value>) -> Result<Value, Refused> {
    let mut payload = Map::new();
    match data {
        None => {}
        Some(Value::Object(fields)) => {
            for (theirs, ours) in words(kind) {
                if let Some(value) = fields.get(*theirs) {
                    payload.insert((*ours).to_owned(), value.clone());
                }
            }
        }
        Some(Value::String(text)) if kind == "message" => {
            payload.insert("message".to_owned(), text.clone().into());
        }
        Some(Value::String(text)) if text.is_empty() => {}
        Some(_) => return Err(wrong("data", "must be an object")),
    }
    Ok(Value::Object(payload))
}

fn task(task: &LegacyTask) -> Value {
    let mut data = Map::new();
    for (theirs, ours) in words(task.kind.as_str()) {
        if let Some(value) = task.payload.get(*ours) {
            data.insert((*theirs).to_owned(), value.clone());
        }
    }
    let kind: ActionKind = task.kind;
    json!({ "action_id": task.action_id, "attempt": task.attempt, "type": kind, "data": data })
}

/// The owner's refusal in Dash-Fleet's words for the fields.
fn renamed(problem: contract::Problem) -> Refused {
    let mut refused = Refused::from(problem);
    if refused.errors.is_empty() {
        return refused;
    }
    for error in &mut refused.errors {
        if let Some(rest) = error.path.strip_prefix("payload") {
            error.path = format!("data{}", rest.replace("delaySeconds", "delay_seconds"));
        }
    }
    Refused {
        kind: refused.kind,
        retry_after: refused.retry_after,
        ..Refused::invalid(refused.errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Problem;

    #[test]
    fn data_becomes_what_the_kind_takes() {
        for (kind, data, expected) in [
            (
                "message",
                json!({ "message": "hi", "level": "warn" }),
                json!({ "message": "hi" }),
            ),
            ("message", json!("hi"), json!({ "message": "hi" })),
            (
                "reboot",
                json!({ "delay_seconds": 5 }),
                json!({ "delaySeconds": 5 }),
            ),
            ("restart", json!({ "why": "x" }), json!({})),
            ("restart", json!(""), json!({})),
        ] {
            assert_eq!(payload(kind, Some(&data)).expect("a payload"), expected);
        }
        assert_eq!(payload("restart", None).expect("a payload"), json!({}));
        assert!(payload("message", Some(&json!([1]))).is_err());
    }

    #[test]
    fn refusals_name_the_fields_as_they_were_given() {
        let refused = renamed(Problem::invalid("payload.delaySeconds", "is too much"));
        assert_eq!(refused.detail, "data.delay_seconds: is too much");
    }
}
