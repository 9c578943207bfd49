//! What a caller wants done, checked: the kind and the right to it, the payload, the deadline. One draft becomes one
//! action or many.

use chrono::Duration;
use contract::audit::chain::hex;
use contract::grant::Grant;
use contract::order::Task;
use contract::{Problem, ProblemKind};
use domain::access::action_scope;
use domain::action::{ActionKind, NOT_AFTER_DEFAULT, NOT_AFTER_MAX, PAYLOAD_MAX_BYTES, Payload};
use domain::{ActionId, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::store::action::NewAction;

/// How long after `notAfter` and the kind's run time the server goes on hoping for word.
const GRACE: Duration = Duration::minutes(2);

/// What is to be done, by no machine yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What.
    pub kind: ActionKind,
    /// When it was asked for: the `createdAt` of what becomes of it.
    pub created_at: Timestamp,
    /// After this it must not begin.
    pub not_after: Timestamp,
    payload: Value,
    idempotent: bool,
    principal: Uuid,
    traceparent: Option<String>,
}

impl Draft {
    /// Checks what the caller gave, but for the deadline ([`Draft::check_deadline`]).
    ///
    /// # Errors
    /// INVALID naming the field, FORBIDDEN without the kind's scope, TOO_LARGE.
    pub fn check(
        grant: &Grant,
        kind: &str,
        payload: &Value,
        not_after: Option<Timestamp>,
        idempotent: bool,
    ) -> Result<Self, Problem> {
        let kind: ActionKind = kind
            .parse()
            .map_err(|message: String| Problem::invalid("kind", message))?;
        grant.require(action_scope(kind))?;
        Self::permitted(grant, kind, payload, not_after, idempotent)
    }

    /// As [`Draft::check`], for a caller whose right to the kind was checked already.
    ///
    /// # Errors
    /// INVALID naming the field, TOO_LARGE.
    pub fn permitted(
        grant: &Grant,
        kind: ActionKind,
        payload: &Value,
        not_after: Option<Timestamp>,
        idempotent: bool,
    ) -> Result<Self, Problem> {
        check_payload(kind, payload)?;
        let created_at = Timestamp::now();
        let not_after = not_after.unwrap_or(created_at.plus(NOT_AFTER_DEFAULT));
        Ok(Self {
            kind,
            created_at,
            not_after,
            payload: payload.clone(),
            idempotent,
            principal: grant.sub,
            traceparent: bus::trace::current(),
        })
    }

    /// Checks that the deadline can be met. Whoever repeats a request with its `Idempotency-Key` is answered before:
    /// what it made then may have a deadline that has passed by now.
    ///
    /// # Errors
    /// INVALID naming `notAfter`.
    pub fn check_deadline(&self) -> Result<(), Problem> {
        if self.not_after <= self.created_at {
            return Err(Problem::invalid("notAfter", "has passed"));
        }
        if self.not_after > self.created_at.plus(NOT_AFTER_MAX) {
            return Err(Problem::invalid("notAfter", "is more than 30 days ahead"));
        }
        Ok(())
    }

    /// What is stored of it, for each machine.
    #[must_use]
    pub fn new_action(&self) -> NewAction<'_> {
        NewAction {
            kind: self.kind.as_str(),
            payload: &self.payload,
            idempotent: self.idempotent,
            principal: self.principal,
            traceparent: self.traceparent.as_deref(),
            not_after: self.not_after.utc(),
            give_up_at: self.not_after.plus(self.kind.run_time() + GRACE).utc(),
            created_at: self.created_at.utc(),
        }
    }

    /// What the audit is told of it, beside where. Not what is in the payload: a person's message is nobody else's business, and later
    /// kinds carry more; but by its hash it can be recognised.
    #[must_use]
    pub fn told(&self, place: &str, value: impl Into<Value>) -> Value {
        let payload = Sha256::digest(self.payload.to_string());
        json!({
            "kind": self.kind,
            (place): value.into(),
            "notAfter": self.not_after,
            "idempotent": self.idempotent,
            "payloadSha256": hex::text(&payload),
        })
    }

    /// What a machine is told of its action, in the first attempt.
    #[must_use]
    pub fn task(&self, action: ActionId, seq: i64) -> Task {
        Task {
            action,
            seq,
            attempt: 1,
            kind: self.kind,
            payload: self.payload.clone(),
            idempotent: self.idempotent,
            not_after: self.not_after,
            traceparent: self.traceparent.clone(),
        }
    }
}

fn check_payload(kind: ActionKind, payload: &Value) -> Result<(), Problem> {
    let text = payload.to_string();
    if text.len() > PAYLOAD_MAX_BYTES {
        return Err(Problem::new(
            ProblemKind::TooLarge,
            format!("payload: {} bytes; at most {PAYLOAD_MAX_BYTES}", text.len()),
        ));
    }
    if text.contains("\\u0000") {
        return Err(Problem::invalid(
            "payload",
            "must not contain the character U+0000",
        ));
    }
    Payload::parse(kind, payload).map_err(|error| Problem::invalid(error.path, error.message))?;
    Ok(())
}
