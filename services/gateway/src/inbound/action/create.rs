//! The body that creates actions, for one machine or for those that a selector chooses, and what each asks of the owner.

use std::io;

use contract::FieldError;
use contract::action::{ActionCreate, ActionFanOut};
use domain::action::PAYLOAD_MAX_BYTES;
use domain::{MachineId, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::document::action as documented;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::json::{Documented, exactly_one, neither};

/// The fields of which one is given.
const MACHINE: &str = "machineId";
const SELECTOR: &str = "selector";

/// What a caller wants to be queued.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Create {
    /// The machine; exactly one of this and `selector`.
    pub machine_id: Option<MachineId>,
    /// The labels of the machines.
    pub selector: Option<String>,
    /// The kind.
    pub kind: String,
    /// What the kind takes.
    pub payload: Value,
    /// After this it must not begin.
    pub not_after: Option<Timestamp>,
    /// Whether it may be run again after an interruption.
    #[serde(default)]
    pub idempotent: bool,
}

/// What the owner is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// For one machine.
    One(ActionCreate),
    /// For many.
    Many(ActionFanOut),
}

impl Documented for Create {
    type Schema = documented::ActionCreate;

    fn rules(body: &Value) -> Vec<FieldError> {
        exactly_one(body, MACHINE, SELECTOR)
    }
}

impl Create {
    /// As the owner is asked, with the caller's key.
    ///
    /// # Errors
    /// 413 for a payload that is too large; 400 for neither a machine nor a selector.
    pub fn asked(self, idempotency_key: Option<String>) -> Result<Asked, Refused> {
        check_payload(&self.payload)?;
        let Self {
            kind,
            payload,
            not_after,
            idempotent,
            ..
        } = self;
        match (self.machine_id, self.selector) {
            (Some(machine_id), _) => Ok(Asked::One(ActionCreate {
                machine_id,
                kind,
                payload,
                not_after,
                idempotent,
                idempotency_key,
                by_key_alone: false,
            })),
            (None, Some(selector)) => Ok(Asked::Many(ActionFanOut {
                selector,
                kind,
                payload,
                not_after,
                idempotent,
                idempotency_key,
            })),
            (None, None) => Err(Refused::invalid(vec![neither(MACHINE, SELECTOR)])),
        }
    }
}

/// Counts the bytes of a payload's JSON text.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn check_payload(payload: &Value) -> Result<(), Refused> {
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, payload) {
        Ok(()) if count.0 <= PAYLOAD_MAX_BYTES => Ok(()),
        Ok(()) => {
            let message = format!("is {} bytes of JSON; at most {PAYLOAD_MAX_BYTES}", count.0);
            let errors = vec![FieldError {
                path: "payload".to_owned(),
                message: message.clone(),
            }];
            Err(Refused {
                errors,
                ..Refused::new(Kind::TooLarge, format!("payload: {message}"))
            })
        }
        Err(_) => Err(Refused::internal()),
    }
}
