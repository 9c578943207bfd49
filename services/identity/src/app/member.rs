//! The people of an organisation. Whoever changes them holds the organisation's row, so that two at once cannot both take
//! the last OWNER; and all is decided by what everybody is at that moment.

use contract::audit::Resource;
use contract::identity::{
    Done, Member, MemberEdit, MemberGet, MemberList, MemberPage, MemberRemove, MemberReset,
    OneTimeLink,
};
use contract::{Author, Grant, Problem, ProblemKind};
use database::{OutboxRow, Tx};
use domain::access::{MEMBERS_READ, MEMBERS_WRITE, PLATFORM_ADMIN, Role};
use domain::{CredentialId, OrgId, UserId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::acting::{self, forbidden};
use crate::app::login::session_revoked;
use crate::app::page::Page;
use crate::app::secret::{self, SecretKind};
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::store;
use crate::store::member::MemberRow;
use crate::store::password_reset::Maker;

/// How long a link lives that an administrator makes for somebody, in seconds.
const RESET_SECONDS: f64 = 24.0 * 3_600.0;

fn member(row: MemberRow) -> Result<Member, IdentityError> {
    Ok(Member {
        id: UserId(row.id),
        email: row.email,
        name: row.name,
        role: acting::role(&row.role)?,
        joined_at: row.joined_at.into(),
        last_seen_at: row.last_seen_at.map(Into::into),
    })
}

fn not_found() -> Problem {
    Problem::not_found("user")
}

/// An event about a person in an organisation.
pub(crate) fn user_event(
    org: OrgId,
    verb: &str,
    user: UserId,
    version: i64,
    data: Value,
) -> OutboxRow {
    OutboxRow::new(org, "user", verb, user.0, version, data)
}

/// A key is never accepted again.
pub(crate) fn key_revoked(org: OrgId, key: Uuid, version: i64) -> OutboxRow {
    let data = json!({ "credential": CredentialId(key) });
    OutboxRow::new(org, "key", "revoked", key, version, data)
}

/// What a member is at this moment, locked until the commit, and that the acting one is not below.
async fn target_in_tx(
    tx: &mut Tx,
    org: OrgId,
    user: UserId,
    acting: Role,
) -> Result<Role, IdentityError> {
    let found = store::member::lock_in_tx(tx, org, user).await?;
    let target = acting::role(&found.ok_or_else(not_found)?)?;
    if target > acting {
        return Err(forbidden(format!("{acting} has no say about {target}")).into());
    }
    Ok(target)
}

async fn not_the_last_owner_in_tx(
    tx: &mut Tx,
    org: OrgId,
    target: Role,
) -> Result<(), IdentityError> {
    if target == Role::Owner && store::member::owners_in_tx(tx, org).await? < 2 {
        let text =
            "this is the last OWNER, and an organisation has one; make somebody else OWNER first";
        return Err(Problem::new(ProblemKind::Conflict, text).into());
    }
    Ok(())
}

impl App {
    /// Members, in the order in which their accounts were made.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `limit` or `cursor`, UNAVAILABLE.
    pub async fn member_list(
        &self,
        grant: &Grant,
        request: &MemberList,
    ) -> Result<MemberPage, IdentityError> {
        grant.require(MEMBERS_READ)?;
        let page = Page::oldest_first(request.limit, request.cursor.as_deref())?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let rows = store::member::list_in_tx(&mut tx, grant.org, page.from, page.rows()).await?;
        drop(tx);
        let (items, next_cursor) = page.cut(rows, |row| row.id, member);
        let items = items.into_iter().collect::<Result<_, _>>()?;
        Ok(MemberPage { items, next_cursor })
    }

    /// A member.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn member_get(
        &self,
        grant: &Grant,
        request: &MemberGet,
    ) -> Result<Member, IdentityError> {
        grant.require(MEMBERS_READ)?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let row = store::member::get_in_tx(&mut tx, grant.org, request.user_id).await?;
        member(row.ok_or_else(not_found)?)
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// FORBIDDEN without the scope, above one's own role, and about a stronger member; NOT_FOUND; CONFLICT for the last
    /// OWNER; UNAVAILABLE.
    pub async fn member_edit(
        &self,
        grant: &Author,
        request: &MemberEdit,
    ) -> Result<Member, IdentityError> {
        grant.require(MEMBERS_WRITE)?;
        let (org, user, role) = (grant.org, request.user_id, request.role);
        let mut tx = self.pools.tenant_tx(org).await?;
        store::organization::lock_in_tx(&mut tx, org).await?;
        let acting = acting::role_in_tx(&mut tx, grant, MEMBERS_WRITE).await?;
        let before = target_in_tx(&mut tx, org, user, acting).await?;
        acting::check_within(role, acting)?;
        if before != role {
            not_the_last_owner_in_tx(&mut tx, org, before).await?;
            let version = store::member::edit_in_tx(&mut tx, org, user, role).await?;
            let data = json!({ "by": grant.sub, "before": before, "after": role });
            let event = user_event(org, "updated", user, version, data);
            event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
            let entry = grant.did("member.edit", Resource::of("user", user));
            let entry = entry.before(json!({ "role": before }));
            audit::note_in_tx(&mut tx, entry.after(json!({ "role": role }))).await?;
        }
        let row = store::member::get_in_tx(&mut tx, org, user).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        member(row.ok_or_else(not_found)?)
    }

    /// Removes a member: the sessions here end, and the keys that the person made are revoked, in the same commit.
    /// Whoever wants to leave needs no scope for it.
    ///
    /// # Errors
    /// As [`App::member_edit`].
    pub async fn member_remove(
        &self,
        grant: &Author,
        request: &MemberRemove,
    ) -> Result<Done, IdentityError> {
        let (org, user) = (grant.org, request.user_id);
        let leaves = acting::person(grant).is_ok_and(|acting| acting == user);
        if !leaves {
            grant.require(MEMBERS_WRITE)?;
        }
        let mut tx = self.pools.tenant_tx(org).await?;
        store::organization::lock_in_tx(&mut tx, org).await?;
        let acting = match leaves {
            true => Role::Owner,
            false => acting::role_in_tx(&mut tx, grant, MEMBERS_WRITE).await?,
        };
        let role = target_in_tx(&mut tx, org, user, acting).await?;
        not_the_last_owner_in_tx(&mut tx, org, role).await?;
        let sessions = store::session::delete_of_member_in_tx(&mut tx, org, user).await?;
        let keys = store::api_key::revoke_of_member_in_tx(&mut tx, org, user).await?;
        let version = store::member::remove_in_tx(&mut tx, org, user).await?;
        let entry = grant.did("member.remove", Resource::of("user", user));
        let mut entries = vec![entry.before(json!({ "role": role }))];
        // Each under its own id, for whoever asks what became of a key.
        entries.extend(keys.iter().map(|(key, _)| {
            let entry = grant.did("key.revoke", Resource::of("key", key));
            entry.because("whoever made it was removed")
        }));
        let sessions = sessions
            .into_iter()
            .map(|session| session_revoked(org, CredentialId(session)));
        let keys = keys
            .into_iter()
            .map(|(key, version)| key_revoked(org, key, version));
        let data = json!({ "by": grant.sub, "before": role });
        let gone = user_event(org, "removed", user, version, data);
        let events: Vec<OutboxRow> = sessions.chain(keys).chain([gone]).collect();
        OutboxRow::insert_all_in_tx(&events, crate::SCHEMA, &mut tx).await?;
        audit::note_all_in_tx(&mut tx, entries).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        tracing::info!(%org, %user, by = %grant.sub, "a member was removed");
        Ok(Done {})
    }

    /// A link by which a member sets a new password: mailed when there is SMTP, else shown to whoever asks. Shown, it is
    /// the account: so only of a member who is in no other organisation and no platform administrator, unless a platform
    /// administrator asks. All of this is judged again when it is used ([`super::reset`]).
    ///
    /// # Errors
    /// FORBIDDEN without the scope, about a stronger member, and when the link would open more than this organisation;
    /// NOT_FOUND, UNAVAILABLE.
    pub async fn member_reset(
        &self,
        grant: &Author,
        request: &MemberReset,
    ) -> Result<OneTimeLink, IdentityError> {
        grant.require(MEMBERS_WRITE)?;
        let (org, user) = (grant.org, request.user_id);
        let mut tx = self.pools.tenant_tx(org).await?;
        store::organization::lock_in_tx(&mut tx, org).await?;
        let acting = acting::role_in_tx(&mut tx, grant, MEMBERS_WRITE).await?;
        target_in_tx(&mut tx, org, user, acting).await?;
        drop(tx);
        let known = store::user::by_id(self.pools.system(), user.0).await?;
        let known = known.ok_or_else(not_found)?;
        let mailed = self.mailer.is_some();
        let opens_more = known.organizations > 1 || known.platform_admin;
        if !mailed && opens_more && !grant.scopes.allows(PLATFORM_ADMIN) {
            let text = "this account reaches beyond this organisation: a platform administrator has to do that, or \
                        the person, once mail is set up";
            return Err(forbidden(text).into());
        }
        let secret = secret::new(SecretKind::PasswordReset);
        let mut tx = self.pools.system_tx().await?;
        let expires_at = store::password_reset::make_in_tx(
            &mut tx,
            &known.email,
            &secret::hash(&secret),
            RESET_SECONDS,
            Maker {
                by: grant.sub,
                org: Some(org),
            },
            mailed,
        )
        .await?;
        let entry = grant.did("member.reset", Resource::of("user", user));
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.audit_relay.wake();
        self.mail_wake.notify_one();
        tracing::info!(%org, %user, by = %grant.sub, "a link for a new password was made");
        Ok(OneTimeLink {
            link: (!mailed).then(|| self.link(SecretKind::PasswordReset, &secret)),
            expires_at: expires_at.into(),
        })
    }
}
