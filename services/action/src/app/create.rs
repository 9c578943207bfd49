//! Creating an action: one short transaction, then the reply and the doorbell.

use std::sync::Arc;

use chrono::Duration;
use contract::action::{Action, ActionCreate};
use contract::grant::Grant;
use contract::order::Verb;
use contract::{Problem, ProblemKind};
use database::Tx;
use domain::access::action_scope;
use domain::action::{ActionKind, NOT_AFTER_DEFAULT, NOT_AFTER_MAX, PAYLOAD_MAX_BYTES, Payload};
use domain::{ActionId, OrgId, Timestamp};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::error::ActionError;
use crate::store::action::{self, Created, NewAction};

/// What `Idempotency-Key`s of this call are filed under.
const ROUTE: &str = "actions.create";
/// How long after `notAfter` and the kind's run time the server goes on hoping for word.
const GRACE: Duration = Duration::minutes(2);

/// A request that was checked.
struct Checked {
    kind: ActionKind,
    created_at: Timestamp,
    not_after: Timestamp,
}

impl App {
    /// Queues an action.
    ///
    /// # Errors
    /// INVALID naming the field, FORBIDDEN, NOT_FOUND for a machine that the organisation does not have, CONFLICT
    /// for a revoked one or a key used for another body, TOO_LARGE, UNAVAILABLE, OUTCOME_UNKNOWN.
    pub async fn action_create(
        self: &Arc<Self>,
        grant: &Grant,
        request: ActionCreate,
    ) -> Result<Action, ActionError> {
        let checked = check(grant, &request)?;
        let id = ActionId::new();
        let traceparent = bus::trace::current();
        let new = NewAction {
            id,
            machine: request.machine_id,
            kind: checked.kind.as_str(),
            payload: &request.payload,
            idempotent: request.idempotent,
            principal: grant.sub,
            traceparent: traceparent.as_deref(),
            not_after: checked.not_after.utc(),
            give_up_at: checked
                .not_after
                .plus(checked.kind.run_time() + GRACE)
                .utc(),
            created_at: checked.created_at.utc(),
        };
        let mut tx = self.pools.tenant_tx(grant.org).await?;
        if let Some(key) = &request.idempotency_key
            && let Some(earlier) =
                key_taken_in_tx(&mut tx, grant.org, key, &request, id, checked.created_at).await?
        {
            return earlier.view();
        }
        let Some(Created {
            action,
            fingerprint,
        }) = action::action_create_in_tx(&mut tx, grant.org, &new).await?
        else {
            return Err(
                match action::machine_revoked_in_tx(&mut tx, grant.org, request.machine_id).await? {
                    Some(true) => {
                        Problem::new(ProblemKind::Conflict, "the machine is revoked").into()
                    }
                    _ => Problem::not_found("machine").into(),
                },
            );
        };
        tx.commit().await?;
        self.metrics
            .created
            .with_label_values(&[checked.kind.as_str()])
            .inc();
        if action.offered_at.is_some() {
            // A doorbell: if it is lost, it rings again in a second.
            let (app, row) = (self.clone(), action.clone());
            tokio::spawn(tracing::Instrument::in_current_span(async move {
                app.ring(&row, &fingerprint, Verb::New).await;
            }));
        }
        action.view()
    }
}

fn check(grant: &Grant, request: &ActionCreate) -> Result<Checked, Problem> {
    let kind: ActionKind = request
        .kind
        .parse()
        .map_err(|message: String| Problem::invalid("kind", message))?;
    grant.require(action_scope(kind))?;
    let payload = request.payload.to_string();
    if payload.len() > PAYLOAD_MAX_BYTES {
        return Err(Problem::new(
            ProblemKind::TooLarge,
            format!(
                "payload: {} bytes; at most {PAYLOAD_MAX_BYTES}",
                payload.len()
            ),
        ));
    }
    if payload.contains("\\u0000") {
        return Err(Problem::invalid(
            "payload",
            "must not contain the character U+0000",
        ));
    }
    Payload::parse(kind, &request.payload)
        .map_err(|error| Problem::invalid(error.path, error.message))?;
    let created_at = Timestamp::now();
    let not_after = request
        .not_after
        .unwrap_or(created_at.plus(NOT_AFTER_DEFAULT));
    if not_after <= created_at {
        return Err(Problem::invalid("notAfter", "has passed"));
    }
    if not_after > created_at.plus(NOT_AFTER_MAX) {
        return Err(Problem::invalid("notAfter", "is more than 30 days ahead"));
    }
    Ok(Checked {
        kind,
        created_at,
        not_after,
    })
}

/// The action that the same key made before, if it did.
async fn key_taken_in_tx(
    tx: &mut Tx,
    org: OrgId,
    key: &str,
    request: &ActionCreate,
    id: ActionId,
    now: Timestamp,
) -> Result<Option<crate::store::row::ActionRow>, ActionError> {
    let body = serde_json::to_vec(request).map_err(|error| ActionError::Bug(error.to_string()))?;
    let hash = Sha256::digest(&body);
    if action::key_take_in_tx(tx, org, ROUTE, key, &hash, id, now.utc()).await? {
        return Ok(None);
    }
    let (earlier_hash, earlier) = action::key_get_in_tx(tx, org, ROUTE, key)
        .await?
        .ok_or_else(|| Problem::unavailable("the idempotency key expired just now; try again"))?;
    if earlier_hash.as_slice() != AsRef::<[u8]>::as_ref(&hash) {
        return Err(Problem::new(
            ProblemKind::Conflict,
            "this Idempotency-Key was used for another body",
        )
        .into());
    }
    Ok(action::action_get_in_tx(tx, org, earlier.into()).await?)
}
