//! `sync`: what a machine's journal says is held against what it said before, then the machine gets its page.
//!
//! A copy betrays itself: its journal has fewer entries than were told, or another head at the same length, or it
//! is a life that another life has replaced. A question can look so because it was only late, so nobody is
//! quarantined for one: the page carries an `echo`, and whoever is alive to send it back is the copy.

use std::sync::Arc;

use bus::AgentSender;
use contract::order::{PAGE_MAX_BYTES, Signed, SyncItem, SyncPage, SyncRequest, Task};
use contract::{Problem, ProblemKind};
use database::Tx;
use domain::Timestamp;
use uuid::Uuid;

use crate::app::App;
use crate::error::ActionError;
use crate::store::ended::Ended;
use crate::store::machine;
use crate::store::sync::{self, Known};

/// The most open actions of a page.
const ITEMS_MAX: i64 = 200;
/// How far ahead of the database a machine may be: more than it can have been told in what a failover loses.
const SEQ_AHEAD_MAX: i64 = 100_000;

/// What a question turned out to be.
enum Judgement {
    /// The machine that we know, or its next life.
    Believed {
        /// Another life was replaced: it must show itself if it still lives.
        replaced: bool,
    },
    /// It looks like a copy; whoever is alive echoes this.
    Suspected(Uuid),
    /// Nothing is offered.
    Quarantined(String),
}

/// What is done after the commit.
#[derive(Default)]
struct After {
    ended: Vec<Ended>,
    ring: bool,
}

impl App {
    /// Answers `sync` with a signed page.
    ///
    /// # Errors
    /// FORBIDDEN for a revoked machine, UNAVAILABLE for one that is not mirrored yet or while the database is away.
    pub async fn machine_sync(
        self: &Arc<Self>,
        from: AgentSender,
        request: SyncRequest,
    ) -> Result<Signed, ActionError> {
        let deployment = self.signer.deployment()?;
        if !machine::machine_known(self.pools.system(), from.org, from.machine).await? {
            self.mirror_now().await?;
        }
        let now = Timestamp::now();
        let mut after = After::default();
        let mut tx = self.pools.system_tx().await?;
        let known = sync::machine_lock_in_tx(&mut tx, from.org, from.machine)
            .await?
            .ok_or_else(|| Problem::unavailable("the machine is not known here yet"))?;
        if known.revoked {
            return Err(Problem::new(ProblemKind::Forbidden, "the machine is revoked").into());
        }
        let judgement = judge_in_tx(&mut tx, from, &request, &known, now, &mut after).await?;
        let mut page = SyncPage {
            deployment,
            org: from.org,
            machine: from.machine,
            fingerprint: known.fingerprint.clone(),
            nonce: request.nonce,
            server_time: now,
            items: Vec::new(),
            more: false,
            echo: None,
            quarantined: None,
        };
        match judgement {
            Judgement::Believed { replaced } => {
                after.ring = replaced;
                offer_in_tx(&mut tx, from, &request, &known, now, &mut page, &mut after).await?;
            }
            Judgement::Suspected(echo) => page.echo = Some(echo),
            Judgement::Quarantined(reason) => page.quarantined = Some(reason),
        }
        self.end_in_tx(tx, &after.ended).await?;
        if !request.keys.is_empty() && !self.signer.is_pinned(&request.keys) {
            self.ring_for_keys(from.org, from.machine, &known.fingerprint)
                .await;
        }
        if after.ring {
            self.ring_for_sync(from.org, from.machine, &known.fingerprint)
                .await;
        }
        self.signer.page(&page)
    }
}

async fn judge_in_tx(
    tx: &mut Tx,
    from: AgentSender,
    request: &SyncRequest,
    known: &Known,
    now: Timestamp,
    after: &mut After,
) -> Result<Judgement, ActionError> {
    if known.quarantined {
        return Ok(Judgement::Quarantined(
            known
                .quarantine_reason
                .clone()
                .unwrap_or_else(|| "quarantined".into()),
        ));
    }
    let same_journal = known.journal_id == Some(request.journal_id.0);
    let suspicion = if sync::session_superseded_in_tx(
        tx,
        from.org,
        from.machine,
        request.session_id,
    )
    .await?
    {
        Some("two agents hold this machine's identity: one that had been replaced is still alive")
    } else if same_journal && request.entries < known.journal_entries {
        Some("the journal lost entries: the machine was restored from a backup, or copied")
    } else if same_journal
        && request.entries == known.journal_entries
        && request.head != known.journal_head
    {
        Some("the journal has another history: the machine was copied")
    } else {
        None
    };
    if let Some(reason) = suspicion {
        if known.suspect_session == Some(request.session_id.0)
            && known.suspect_echo.is_some()
            && known.suspect_echo == request.echo
        {
            tracing::warn!(machine = %from.machine, reason, "quarantined");
            sync::machine_quarantine_in_tx(tx, from.org, from.machine, reason, now.utc()).await?;
            return Ok(Judgement::Quarantined(reason.to_owned()));
        }
        let echo = Uuid::new_v4();
        sync::session_suspect_in_tx(tx, from.org, from.machine, request.session_id, echo).await?;
        return Ok(Judgement::Suspected(echo));
    }
    let mut replaced = false;
    if let Some(before) = known.session_id
        && before != request.session_id.0
    {
        sync::session_supersede_in_tx(tx, from.org, from.machine, before, now.utc()).await?;
        replaced = true;
    }
    if known.journal_id.is_some() && !same_journal {
        tracing::warn!(machine = %from.machine, "the machine has a new journal");
        after
            .ended
            .extend(sync::actions_forgotten_in_tx(tx, from.org, from.machine, now.utc()).await?);
    }
    sync::journal_believe_in_tx(
        tx,
        from.org,
        from.machine,
        request.journal_id,
        request.entries,
        &request.head,
        request.session_id,
        now.utc(),
    )
    .await?;
    Ok(Judgement::Believed { replaced })
}

async fn offer_in_tx(
    tx: &mut Tx,
    from: AgentSender,
    request: &SyncRequest,
    known: &Known,
    now: Timestamp,
    page: &mut SyncPage,
    after: &mut After,
) -> Result<(), ActionError> {
    after
        .ended
        .extend(sync::actions_expire_in_tx(tx, from.org, from.machine, now.utc()).await?);
    // A machine that knows a place we do not: our database lost commits (a failover, a backup). A place that is
    // given twice would not be executed, so the count goes on where the machine's does, unless that is absurd.
    let known_through = request.after_seq.max(0);
    let (known_through, last_seq) = if known_through <= known.last_seq {
        (known_through, known.last_seq)
    } else if known_through <= known.last_seq.saturating_add(SEQ_AHEAD_MAX) {
        tracing::warn!(machine = %from.machine, ours = known.last_seq, theirs = known_through, "the machine knows more actions than the database");
        sync::seq_raise_in_tx(tx, from.org, from.machine, known_through).await?;
        (known_through, known_through)
    } else {
        (known.last_seq, known.last_seq)
    };
    let open =
        sync::actions_open_in_tx(tx, from.org, from.machine, known_through, ITEMS_MAX + 1).await?;
    let mut offered = Vec::new();
    let mut bytes = 0;
    let mut through = known_through;
    let total = open.len();
    for row in open.into_iter().take(ITEMS_MAX as usize) {
        let (id, seq, cancel) = (row.id, row.seq, row.cancel_requested_at.is_some());
        let task: Task = row.task()?;
        bytes += serde_json::to_vec(&task).map_or(0, |task| task.len() + 64);
        // Half the limit: base64 adds a third, the envelope a little.
        if bytes > PAGE_MAX_BYTES / 2 && !offered.is_empty() {
            break;
        }
        if seq > through + 1 {
            page.items.push(SyncItem::Ended {
                seq: through + 1,
                through: seq - 1,
            });
        }
        through = through.max(seq);
        offered.push(id);
        page.items.push(SyncItem::Open { task, cancel });
    }
    page.more = offered.len() < total;
    if !page.more && through < last_seq {
        page.items.push(SyncItem::Ended {
            seq: through + 1,
            through: last_seq,
        });
    }
    if !offered.is_empty() {
        sync::actions_offered_in_tx(tx, from.org, &offered, now.utc()).await?;
    }
    Ok(())
}
