//! Who did what: entries of this service on their way to identity, and the ends of identity's chains, which this service
//! signs each minute and keeps copies of. So neither of the two can write the past anew alone; and what a process signed it
//! remembers ([`witness`]), so that neither can whoever owns the database, for as long as it runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::audit::chain::ZERO;
use contract::audit::{
    AuditCountersign, AuditEntry, AuditHeads, AuditSigned, AuditSignedPage, HEADS_MAX, Head,
    HeadSignature, SignedHead,
};
use database::{AuditRow, DatabaseError, Tx};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::ActionError;
use crate::store::audit;

pub mod witness;

/// How long identity may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon it is tried again what failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How many copies that are too old are removed at once.
const RETENTION_PORTION: i32 = 5_000;
/// Copies are kept for so many days longer than entries: one of them proves where what is left of a chain begins.
const RETENTION_MARGIN_DAYS: i32 = 2;

/// An entry as it lies in the outbox.
///
/// # Errors
/// [`ActionError::Bug`] when it cannot be encoded.
pub fn row(entry: AuditEntry) -> Result<AuditRow, ActionError> {
    let stored = entry
        .stored()
        .map_err(|error| ActionError::Bug(error.to_string()))?;
    Ok(stored.into())
}

/// Writes an entry into the outbox, in the transaction of what it tells of.
///
/// # Errors
/// [`ActionError`].
pub async fn note_in_tx(tx: &mut PgConnection, entry: AuditEntry) -> Result<(), ActionError> {
    Ok(row(entry)?.insert_in_tx("action", tx).await?)
}

impl App {
    /// This service's copies of what it signed, also the one that this process remembers where the database lacks it, and
    /// the keys whose signatures are believed: from its key files.
    ///
    /// # Errors
    /// UNAVAILABLE.
    pub async fn audit_signed(
        &self,
        request: &AuditSigned,
    ) -> Result<AuditSignedPage, ActionError> {
        let limit = i64::from(request.limit.clamp(1, HEADS_MAX));
        let mut tx = self.pools.tenant_tx(request.org).await?;
        let mut items = audit::signed_in_tx(&mut tx, request.org, request.from, limit + 1).await?;
        tx.commit().await?;
        let more = items.len() as i64 > limit;
        items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        if let Some(known) = self.witness.last(request.org) {
            let seq = known.signature.head.seq;
            let place = items.partition_point(|copy| copy.signature.head.seq < seq);
            let is_here = seq >= request.from && (!more || place < items.len());
            if is_here && !items.iter().any(|copy| copy.signature == known.signature) {
                items.insert(place, known);
            }
        }
        Ok(AuditSignedPage {
            items,
            more,
            keys: self.signer.known_keys().to_vec(),
        })
    }

    /// Signs the ends of all chains that have gone on, and gives identity the signatures.
    ///
    /// # Errors
    /// [`ActionError`]: what was not signed is signed the next time, and what identity does not have is given again.
    pub async fn audit_countersign(&self) -> Result<(), ActionError> {
        let mut after = None;
        loop {
            let question = AuditHeads {
                after,
                limit: HEADS_MAX,
            };
            let page = self.bus.service_call(&question, None, CALL_TIMEOUT).await?;
            after = page.items.last().map(|head| head.org);
            let items = self.heads_sign(page.items).await?;
            if !items.is_empty() {
                let signed = AuditCountersign { items };
                self.bus.service_call(&signed, None, CALL_TIMEOUT).await?;
            }
            if !page.more || after.is_none() {
                return Ok(());
            }
        }
    }

    /// Signs ends, once: the copy is committed before anybody is given a signature.
    async fn heads_sign(&self, heads: Vec<Head>) -> Result<Vec<HeadSignature>, ActionError> {
        if heads.is_empty() {
            return Ok(Vec::new());
        }
        let orgs: Vec<Uuid> = heads.iter().map(|head| head.org.0).collect();
        let mut tx = self.pools.system_tx().await?;
        let latest = audit::latest_lock_in_tx(&mut tx, &orgs).await?;
        let latest: HashMap<Uuid, SignedHead> = latest
            .into_iter()
            .map(|copy| (copy.signature.head.org.0, copy))
            .collect();
        let gone = self.copies_missed_in_tx(&mut tx, &heads).await?;
        let mut given = Vec::with_capacity(heads.len());
        let (mut again, mut new) = (Vec::new(), Vec::new());
        for head in heads {
            let org = head.org;
            let seq = |copy: &SignedHead| copy.signature.head.seq;
            let before = match (latest.get(&org.0), gone.get(&org.0)) {
                (Some(stored), Some(gone)) if seq(stored) > seq(gone) => Some(stored),
                (_, Some(gone)) => Some(gone),
                (stored, None) => stored,
            };
            match before.map(|copy| &copy.signature) {
                // Signed before, and identity has not heard of it.
                Some(signed) if signed.head == head => {
                    given.push(signed.clone());
                    again.extend(before.cloned());
                }
                Some(signed) if signed.head.seq >= head.seq => {
                    tracing::error!(%org, seq = head.seq, signed = signed.head.seq, "identity's audit is not what was signed; it is not signed anew");
                }
                _ => {
                    let prev = before.map_or(ZERO, |copy| copy.link);
                    let signature = self.signer.head(head)?;
                    given.push(signature.clone());
                    let link = signature.link(&prev);
                    new.push(SignedHead {
                        signature,
                        prev,
                        link,
                    });
                }
            }
        }
        if !new.is_empty() {
            audit::signed_add_in_tx(&mut tx, &new).await?;
        }
        tx.commit().await?;
        // What was there already may be somebody else's.
        again.retain(|copy| self.is_own(copy));
        for copy in again.iter().chain(&new) {
            self.witness.saw(copy);
        }
        Ok(given)
    }

    /// The copies that this process remembers and the database lacks, by their organisations. They are put back: behind the
    /// one that they followed, or apart where something else is there by now.
    async fn copies_missed_in_tx(
        &self,
        tx: &mut Tx,
        heads: &[Head],
    ) -> Result<HashMap<Uuid, SignedHead>, ActionError> {
        let known = heads.iter().filter_map(|head| self.witness.last(head.org));
        let known: Vec<SignedHead> = known.collect();
        let kept = audit::signed_kept_in_tx(tx, &known).await?;
        let is_gone = |copy: &SignedHead| !kept.iter().any(|kept| kept.signature == copy.signature);
        let gone: Vec<SignedHead> = known.into_iter().filter(is_gone).collect();
        if gone.is_empty() {
            return Ok(HashMap::new());
        }
        for copy in &gone {
            let Head { org, seq, .. } = &copy.signature.head;
            tracing::error!(%org, seq, "what was signed of the audit is not among the copies any more: somebody removed or changed them; it is put back");
        }
        let back = audit::signed_restore_in_tx(tx, &gone).await?;
        let stuck = gone
            .iter()
            .filter(|copy| !back.contains(&copy.signature.head.org.0));
        let stuck: Vec<SignedHead> = stuck.map(witness::apart).collect();
        if !stuck.is_empty() {
            audit::signed_restore_in_tx(tx, &stuck).await?;
        }
        let by_org = gone
            .into_iter()
            .map(|copy| (copy.signature.head.org.0, copy));
        Ok(by_org.collect())
    }

    /// Whether a copy is what this service signed, by the keys in its files.
    fn is_own(&self, copy: &SignedHead) -> bool {
        let keys = self.signer.known_keys();
        copy.is_whole() && copy.signature.verify(keys).is_ok()
    }

    async fn copies_retain(&self, days: i32) -> Result<(), DatabaseError> {
        let days = days.saturating_add(RETENTION_MARGIN_DAYS);
        while audit::signed_drop(self.pools.system(), days, RETENTION_PORTION).await? > 0 {}
        Ok(())
    }
}

/// Signs at the start, and then as often as `every` says, for ever: one replica for all.
pub async fn countersign(app: Arc<App>, every: Duration, retention_days: i32) {
    while !app.signer.is_ready() {
        tokio::time::sleep(PAUSE / 4).await;
    }
    let mut turn = true;
    loop {
        if turn && let Err(error) = app.audit_countersign().await {
            tracing::warn!(%error, "the audit is not signed for now");
        }
        if turn && let Err(error) = app.copies_retain(retention_days).await {
            tracing::debug!(%error, "old copies of signatures stay for now");
        }
        tokio::time::sleep(every).await;
        // A little less, so that whoever sleeps so long always finds it over.
        let taken = audit::turn_take(app.pools.system(), every.as_secs_f64() * 0.9).await;
        turn = match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(%error, "nobody knows whose turn it is to sign the audit");
                false
            }
        };
    }
}
