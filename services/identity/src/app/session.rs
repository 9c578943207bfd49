//! What people do with their sessions: into another organisation, which there are, ending one. And removing what ended,
//! with everything else that is kept for a while only.

use std::time::Duration;

use contract::audit::{AuditEntry, Resource};
use contract::identity::{Done, Session, SessionList, SessionPage, SessionRevoke, Switch, Tokens};
use contract::{Author, Grant, Problem, ProblemKind};
use domain::{CredentialId, OrgId};

use crate::app::acting::person;
use crate::app::attempts;
use crate::app::login::{client, session_revoked};
use crate::app::page::Page;
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::store;
use crate::store::session::OwnSessionRow;

/// How often what is old is removed, and how many rows at once.
const CLEANUP_EVERY: Duration = Duration::from_secs(3_600);
const CLEANUP_BATCH: i64 = 1_000;
/// The same for failed attempts, of which there can be many.
const FAILURES_EVERY: Duration = Duration::from_secs(60);

/// What is removed when it is old.
#[derive(Clone, Copy, Debug)]
enum Old {
    Sessions,
    Invitations,
    PasswordResets,
    IdempotencyKeys,
    Failures,
}

fn session(row: OwnSessionRow, mine: CredentialId) -> Session {
    Session {
        id: CredentialId(row.id),
        organization_id: OrgId(row.org_id),
        address: row.address,
        user_agent: row.user_agent,
        created_at: row.created_at.into(),
        last_used_at: row.last_used_at.map(Into::into),
        expires_at: row.refresh_expires_at.into(),
        current: row.id == mine.0,
    }
}

impl App {
    /// A new session of the same person in another of the person's organisations. The present one goes on.
    ///
    /// # Errors
    /// FORBIDDEN for a key; NOT_FOUND when the person is no member there, or it is closed: the same words; UNAVAILABLE.
    pub async fn switch(&self, author: &Author, request: &Switch) -> Result<Tokens, IdentityError> {
        let user = person(author)?;
        let nowhere = || Problem::new(ProblemKind::NotFound, "you belong to no such organisation");
        let org = request.organization_id;
        if store::organization::is_closed(self.pools.system(), org).await? != Some(false) {
            return Err(nowhere().into());
        }
        let client = client(&request.address, &request.user_agent);
        // Told where it leads: whoever is there sees who came.
        let entry = AuditEntry {
            org,
            ..author.did("auth.switch", Resource::of("organization", org))
        };
        match self.session_begin(org, user, client, entry).await {
            Err(IdentityError::Refused(problem)) if problem.kind == ProblemKind::Forbidden => {
                Err(nowhere().into())
            }
            result => result,
        }
    }

    /// A person's own sessions that go on, in all organisations, the newest first.
    ///
    /// # Errors
    /// FORBIDDEN for a key; INVALID naming `limit` or `cursor`; UNAVAILABLE.
    pub async fn session_list(
        &self,
        grant: &Grant,
        request: &SessionList,
    ) -> Result<SessionPage, IdentityError> {
        let user = person(grant)?;
        let page = Page::newest_first(request.limit, request.cursor.as_deref())?;
        let rows =
            store::session::of_person(self.pools.system(), user.0, page.from, page.rows()).await?;
        let (items, next_cursor) =
            page.cut(rows, |row| row.id, |row| session(row, grant.credential));
        Ok(SessionPage { items, next_cursor })
    }

    /// Ends one of the person's own sessions, wherever it is. Again, it changes nothing.
    ///
    /// # Errors
    /// FORBIDDEN for a key; NOT_FOUND, UNAVAILABLE.
    pub async fn session_revoke(
        &self,
        author: &Author,
        request: &SessionRevoke,
    ) -> Result<Done, IdentityError> {
        let user = person(author)?;
        let id = request.session_id;
        let mut tx = self.pools.system_tx().await?;
        let org = store::session::own_in_tx(&mut tx, user.0, id).await?;
        let org = org.map(OrgId).ok_or_else(|| {
            Problem::new(ProblemKind::NotFound, "there is no such session of yours")
        })?;
        if store::session::revoke_in_tx(&mut tx, org, id).await? {
            let event = session_revoked(org, id);
            event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
            let entry = AuditEntry {
                org,
                ..author.did("auth.revoke", Resource::of("session", id))
            };
            audit::note_in_tx(&mut tx, entry).await?;
        }
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        Ok(Done {})
    }

    /// Removes what is old, now and then, for ever.
    pub async fn cleanup_run(self: std::sync::Arc<Self>) {
        let rest = CLEANUP_EVERY.as_secs() / FAILURES_EVERY.as_secs();
        loop {
            for _ in 0..rest {
                tokio::time::sleep(FAILURES_EVERY).await;
                self.clean(Old::Failures).await;
            }
            for old in [
                Old::Sessions,
                Old::Invitations,
                Old::PasswordResets,
                Old::IdempotencyKeys,
            ] {
                self.clean(old).await;
            }
        }
    }

    async fn clean(&self, old: Old) {
        loop {
            match self.clean_batch(old).await {
                Ok(deleted) if deleted == CLEANUP_BATCH.unsigned_abs() => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, ?old, "what is old stays for now");
                    return;
                }
            }
        }
    }

    async fn clean_batch(&self, old: Old) -> sqlx::Result<u64> {
        let system = self.pools.system();
        match old {
            Old::Sessions => store::session::delete_ended(system, CLEANUP_BATCH).await,
            Old::Invitations => store::invitation::delete_old(system, CLEANUP_BATCH).await,
            Old::PasswordResets => store::password_reset::delete_old(system, CLEANUP_BATCH).await,
            Old::IdempotencyKeys => store::idempotency::delete_old(system, CLEANUP_BATCH).await,
            Old::Failures => {
                let age = attempts::empty_seconds();
                store::login_failure::delete_empty(system, age, CLEANUP_BATCH).await
            }
        }
    }
}
