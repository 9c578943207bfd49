//! One action for each machine that a selector chooses: one transaction creates all of them, or none; then the doorbells
//! ring, one after another.

use std::sync::Arc;

use contract::Author;
use contract::action::{ActionBatch, ActionFanOut, ActionSummary};
use contract::audit::Resource;
use contract::order::Verb;
use database::DatabaseError;
use domain::action::ActionStatus;
use domain::{ActionId, MachineId, OrgId, Timestamp};
use owner::idempotency::Key;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::app::create::ROUTE;
use crate::app::draft::Draft;
use crate::app::selection::check_selector;
use crate::app::{App, audit};
use crate::error::ActionError;
use crate::store::fan_out::{self, Made};
use crate::store::idempotency::KEYS;

/// How often the transaction is run before its asker is told that it collided.
const TRIES: u32 = 5;
/// How many fan-outs ring at once. The doorbells of further ones are left to the tick of [`crate::app::ring`].
const RINGING_MAX: usize = 4;

/// Turns to ring for a whole fan-out.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(RINGING_MAX)))
    }
}

/// Many actions that somebody asks for.
struct FanOut<'a> {
    author: &'a Author,
    selector: &'a str,
    key: Option<&'a Key>,
}

/// How the transaction ended.
enum Committed {
    /// These are new.
    Made(Vec<Made>),
    /// The key had made these before.
    Before(Vec<Uuid>),
}

impl App {
    /// Queues an action for each machine that a selector chooses, as the caller whose grant this is, which `token`
    /// carries to metrics.
    ///
    /// # Errors
    /// INVALID naming the field, `selector` when it is empty or chooses too many; FORBIDDEN without the kind's scope or
    /// `machines:read`; CONFLICT for a key used for another body; TOO_LARGE, UNAVAILABLE, OUTCOME_UNKNOWN.
    pub async fn action_fan_out(
        self: &Arc<Self>,
        author: &Author,
        token: Option<&str>,
        request: ActionFanOut,
    ) -> Result<ActionBatch, ActionError> {
        let org = author.org;
        let mut draft = Draft::check(
            author,
            &request.kind,
            &request.payload,
            request.not_after,
            request.idempotent,
        )?;
        let selector = check_selector(&request.selector)?;
        let key = Key::of(&KEYS, ROUTE, request.idempotency_key.as_deref(), &request)?;
        // A repetition is answered from what is known here, whatever the selector would choose now.
        if let Some(key) = &key {
            let mut tx = self.pools.tenant_tx(org).await?;
            let made = key.made_in_tx(&mut tx, org).await?;
            drop(tx);
            if let Some(made) = made {
                return self.batch_get(org, &made).await;
            }
        }
        draft.check_deadline()?;
        let machines = self.machines_select(&selector, token).await?;
        self.machines_ensure(org, &machines).await?;
        // The choice took its time, and the tick rings a second after this.
        draft.created_at = Timestamp::now();
        let wanted: Vec<_> = machines
            .into_iter()
            .map(|machine| (machine, ActionId::new()))
            .collect();
        let made = match self
            .fan_out_commit(
                &FanOut {
                    author,
                    selector: &request.selector,
                    key: key.as_ref(),
                },
                &draft,
                &wanted,
            )
            .await?
        {
            Committed::Made(made) => made,
            Committed::Before(made) => return self.batch_get(org, &made).await,
        };
        self.metrics
            .created
            .with_label_values(&[draft.kind.as_str()])
            .inc_by(made.len() as u64);
        let items = made.iter().map(|made| summary(&draft, made)).collect();
        self.ring_for_all(org, draft, made);
        Ok(ActionBatch { items })
    }

    async fn fan_out_commit(
        &self,
        asked: &FanOut<'_>,
        draft: &Draft,
        wanted: &[(MachineId, ActionId)],
    ) -> Result<Committed, ActionError> {
        let mut tries = 1;
        loop {
            match self.fan_out_try(asked, draft, wanted).await {
                Err(ActionError::Database(DatabaseError::Collision)) if tries < TRIES => {
                    tracing::debug!(tries, "a fan-out collided and is run again");
                    tries += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn fan_out_try(
        &self,
        asked: &FanOut<'_>,
        draft: &Draft,
        wanted: &[(MachineId, ActionId)],
    ) -> Result<Committed, ActionError> {
        let org = asked.author.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        if let Some(key) = asked.key {
            let ids: Vec<Uuid> = wanted.iter().map(|(_, action)| action.0).collect();
            let made = key.take_in_tx(&mut tx, org, &ids).await?;
            if let Some(made) = made {
                return Ok(Committed::Before(made));
            }
        }
        let made = if wanted.is_empty() {
            Vec::new()
        } else {
            fan_out::actions_create_in_tx(&mut tx, org, wanted, &draft.new_action()).await?
        };
        if !made.is_empty() {
            // One entry for all of them: what each became, its action tells.
            let told = draft.told("selector", asked.selector);
            let resource = Resource::kind("action").named(draft.kind.as_str());
            let entry = asked.author.did("action.fan-out", resource);
            audit::note_in_tx(&mut tx, entry.after(told).count(made.len())).await?;
        }
        tx.commit().await?;
        self.audit_relay.wake();
        Ok(Committed::Made(made))
    }

    /// What a key made, as it is now.
    async fn batch_get(&self, org: OrgId, actions: &[Uuid]) -> Result<ActionBatch, ActionError> {
        let mut tx = self.pools.tenant_tx(org).await?;
        let items = fan_out::summaries_in_tx(&mut tx, org, actions).await?;
        Ok(ActionBatch { items })
    }

    /// Rings for what was offered, in one task, one order at a time. Without a turn, or when the bus goes away, the tick
    /// does it a second after the creation.
    fn ring_for_all(self: &Arc<Self>, org: OrgId, draft: Draft, made: Vec<Made>) {
        let Ok(turn) = self.ringing.0.clone().try_acquire_owned() else {
            return;
        };
        let app = self.clone();
        tokio::spawn(tracing::Instrument::in_current_span(async move {
            for made in made.iter().filter(|made| made.offered) {
                if !app.bus.is_connected() {
                    break;
                }
                let task = draft.task(made.id.into(), made.seq);
                let machine = made.machine_id.into();
                app.ring_task(org, machine, &made.fingerprint, Verb::New, task)
                    .await;
            }
            drop(turn);
        }));
    }
}

fn summary(draft: &Draft, made: &Made) -> ActionSummary {
    ActionSummary {
        id: made.id.into(),
        machine_id: made.machine_id.into(),
        kind: draft.kind,
        status: ActionStatus::Queued,
        seq: made.seq,
        not_after: draft.not_after,
        created_at: draft.created_at,
    }
}
