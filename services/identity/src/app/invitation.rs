//! Invitations: one for an address, by a link that works once. Nobody learns by it whether a person has an account.

use contract::audit::{Actor, AuditEntry, Resource};
use contract::identity::{
    Done, Invitation, InvitationAccept, InvitationCancel, InvitationList, InvitationPage, Invited,
    MemberInvite, Tokens,
};
use contract::{Author, Grant, Origin, Problem, ProblemKind};
use domain::access::{MEMBERS_READ, MEMBERS_WRITE, Role};
use domain::text::check_name;
use domain::{OrgId, UserId};
use serde_json::json;

use crate::app::account::check_email;
use crate::app::acting::{self, forbidden};
use crate::app::attempts::{guessed_wrong, who};
use crate::app::login::{
    check_length, client, session_begin_in_tx, session_entry, unauthenticated,
};
use crate::app::member::user_event;
use crate::app::page::Page;
use crate::app::password::rules;
use crate::app::secret::{self, SecretKind};
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::store;
use crate::store::Hash;
use crate::store::invitation::{InvitationRow, LinkRow, NewInvitation};
use crate::store::user::PersonRow;

/// How long an invitation works, in seconds.
const INVITATION_SECONDS: f64 = 7.0 * 24.0 * 3_600.0;

fn invitation(row: InvitationRow) -> Result<Invitation, IdentityError> {
    Ok(Invitation {
        id: row.id,
        email: row.email,
        role: acting::role(&row.role)?,
        created_at: row.created_at.into(),
        expires_at: row.expires_at.into(),
        mail_pending: row.mail_pending,
    })
}

fn void() -> IdentityError {
    forbidden("this invitation was used before, taken back, or has expired; ask for a new one")
        .into()
}

/// Whether somebody who is that now may invite as this role: who invited may since be less, or nothing.
fn vouches(inviter: Option<&str>, role: Role) -> Result<bool, IdentityError> {
    let inviter = inviter.map(acting::role).transpose()?;
    Ok(inviter.is_some_and(|inviter| inviter >= role && inviter >= Role::Admin))
}

/// Who takes an invitation.
enum Guest {
    /// Somebody who has an account.
    Known(PersonRow),
    /// Somebody new, with the hash of the password that was chosen.
    New { name: String, password_hash: String },
}

impl App {
    /// Invites somebody. Inviting again makes a new link, and the one before is void.
    ///
    /// # Errors
    /// FORBIDDEN without the scope, above one's own role, and where a stronger one is invited; INVALID naming `email`;
    /// CONFLICT for a member; UNAVAILABLE.
    pub async fn member_invite(
        &self,
        grant: &Author,
        request: &MemberInvite,
    ) -> Result<Invited, IdentityError> {
        grant.require(MEMBERS_WRITE)?;
        let email = check_email(&request.email)?;
        let org = grant.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        let acting = acting::role_in_tx(&mut tx, grant, MEMBERS_WRITE).await?;
        acting::check_within(request.role, acting)?;
        if store::member::is_member_in_tx(&mut tx, org, &email).await? {
            let text = "this person is a member already";
            return Err(Problem::new(ProblemKind::Conflict, text).into());
        }
        let secret = secret::new(SecretKind::Invitation);
        let mailed = self.mailer.is_some();
        let new = NewInvitation {
            email: &email,
            role: request.role.as_str(),
            seconds: INVITATION_SECONDS,
            created_by: grant.sub,
            mailed,
            by_owner: acting == Role::Owner,
        };
        let put = store::invitation::put_in_tx(&mut tx, org, &secret::hash(&secret), new).await?;
        let row = put.ok_or_else(|| {
            forbidden("this address is invited as OWNER: only an OWNER invites it as anything else")
        })?;
        let resource = Resource::of("invitation", row.id).named(&email);
        let entry = grant.did("member.invite", resource);
        audit::note_in_tx(&mut tx, entry.after(json!({ "role": request.role }))).await?;
        tx.commit().await?;
        self.audit_relay.wake();
        self.mail_wake.notify_one();
        tracing::info!(%org, invitation = %row.id, by = %grant.sub, "somebody was invited");
        Ok(Invited {
            invitation: invitation(row)?,
            link: (!mailed).then(|| self.link(SecretKind::Invitation, &secret)),
        })
    }

    /// Who is invited.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `limit` or `cursor`, UNAVAILABLE.
    pub async fn invitation_list(
        &self,
        grant: &Grant,
        request: &InvitationList,
    ) -> Result<InvitationPage, IdentityError> {
        grant.require(MEMBERS_READ)?;
        let page = Page::oldest_first(request.limit, request.cursor.as_deref())?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let rows =
            store::invitation::list_in_tx(&mut tx, grant.org, page.from, page.rows()).await?;
        drop(tx);
        let (items, next_cursor) = page.cut(rows, |row| row.id, invitation);
        let items = items.into_iter().collect::<Result<_, _>>()?;
        Ok(InvitationPage { items, next_cursor })
    }

    /// Takes an invitation back: its link is void.
    ///
    /// # Errors
    /// FORBIDDEN without the scope, and for an invitation above one's own role; NOT_FOUND, UNAVAILABLE.
    pub async fn invitation_cancel(
        &self,
        grant: &Author,
        request: &InvitationCancel,
    ) -> Result<Done, IdentityError> {
        grant.require(MEMBERS_WRITE)?;
        let mut tx = self.pools.tenant_tx(grant.org).await?;
        let acting = acting::role_in_tx(&mut tx, grant, MEMBERS_WRITE).await?;
        let id = request.invitation_id;
        let gone = store::invitation::cancel_in_tx(&mut tx, grant.org, id).await?;
        let gone = acting::role(&gone.ok_or_else(|| Problem::not_found("invitation"))?)?;
        // Not committed, so it is there still.
        if gone > acting {
            let text = format!("{acting} cannot take back what invites {gone}");
            return Err(forbidden(text).into());
        }
        let entry = grant.did(
            "member.cancel",
            Resource::of("invitation", request.invitation_id),
        );
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.audit_relay.wake();
        Ok(Done {})
    }

    /// An invited person joins, and is logged in. A new one chooses the password; one who has an account gives its
    /// password, which is limited as at a login.
    ///
    /// # Errors
    /// FORBIDDEN when the link does not work (any more) or the account is disabled; UNAUTHENTICATED when the account has
    /// another password; CONFLICT when it was changed or made meanwhile; INVALID naming `password` or `name`; RATE_LIMITED,
    /// UNAVAILABLE.
    pub async fn invitation_accept(
        &self,
        from: &Origin,
        request: InvitationAccept,
    ) -> Result<Tokens, IdentityError> {
        check_length("password", &request.password)?;
        if !SecretKind::Invitation.is_of(&request.token) {
            return Err(void());
        }
        let hash = secret::hash(&request.token);
        let link = store::invitation::by_hash(self.pools.system(), &hash).await?;
        let link = link.ok_or_else(void)?;
        let role = acting::role(&link.role)?;
        if !vouches(link.inviter_role.as_deref(), role)? {
            return Err(self.not_vouched_for(from, &link));
        }
        let who = who("login", &request.address, &link.email);
        self.attempt_begin(&who).await?;
        let guest = self.guest(from, &link, &request).await;
        self.attempt_end(&who, guessed_wrong(&guest)).await;
        self.join(from, &hash, &link, role, guest?, &request).await
    }

    /// The refusal of a link whose inviter may not invite any more, which the organisation is told of.
    fn not_vouched_for(&self, from: &Origin, link: &LinkRow) -> IdentityError {
        let actor = Actor::service(contract::identity::SERVICE);
        let resource = Resource::of("invitation", link.id);
        let entry = AuditEntry::new(OrgId(link.org_id), actor, "auth.accept", resource);
        let reason = "whoever invited could not invite any more";
        self.denials.note(entry.asked(from).denied(reason));
        void()
    }

    async fn guest(
        &self,
        from: &Origin,
        link: &LinkRow,
        request: &InvitationAccept,
    ) -> Result<Guest, IdentityError> {
        let known = store::user::by_email(self.pools.system(), &link.email).await?;
        if let Some(known) = known {
            let phc = Some(known.password_hash.clone());
            if !self.passwords.verify(request.password.clone(), phc).await? {
                // Told where the person is: whoever invites does not learn whether there is an account.
                let reason = "the password is wrong";
                self.denied_everywhere(known.id, "auth.accept", from, reason)
                    .await?;
                let text = "this address has an account, and this is not its password";
                return Err(unauthenticated(text));
            }
            if known.disabled {
                return Err(forbidden("this account is disabled").into());
            }
            return Ok(Guest::Known(known));
        }
        let local = link.email.split('@').next().unwrap_or(&link.email);
        let name = request.name.as_deref().unwrap_or(local);
        check_name(name).map_err(|message| Problem::invalid("name", message))?;
        rules::check("password", &request.password, &link.email, name)?;
        Ok(Guest::New {
            name: name.to_owned(),
            password_hash: self.passwords.hash(request.password.clone()).await?,
        })
    }

    async fn join(
        &self,
        from: &Origin,
        hash: &Hash,
        link: &LinkRow,
        role: Role,
        guest: Guest,
        request: &InvitationAccept,
    ) -> Result<Tokens, IdentityError> {
        let org = OrgId(link.org_id);
        let mut tx = self.pools.system_tx().await?;
        // All of this was so before the password was hashed, which takes a while: it must be so at the commit.
        let inviter = UserId(link.created_by);
        store::member::lock_in_tx(&mut tx, org, inviter).await?;
        let standing = store::member::standing(&mut *tx, org, inviter).await?;
        let standing = standing.filter(|inviter| !inviter.disabled && !inviter.closed);
        if !vouches(standing.as_ref().map(|inviter| inviter.role.as_str()), role)? {
            drop(tx);
            return Err(self.not_vouched_for(from, link));
        }
        if let Guest::Known(known) = &guest {
            let now = store::user::lock_in_tx(&mut tx, known.id).await?;
            if now.is_none_or(|(hash, disabled)| disabled || hash != known.password_hash) {
                let text = "this account was changed meanwhile; try again";
                return Err(Problem::new(ProblemKind::Conflict, text).into());
            }
        }
        if !store::invitation::take_in_tx(&mut tx, hash).await? {
            return Err(void());
        }
        let user = match guest {
            Guest::Known(known) => UserId(known.id),
            Guest::New {
                name,
                password_hash,
            } => {
                let user = UserId::new();
                let email = &link.email;
                if !store::user::insert_in_tx(&mut tx, user, email, &name, &password_hash).await? {
                    let text = "this address has an account by now; try again with its password";
                    return Err(Problem::new(ProblemKind::Conflict, text).into());
                }
                user
            }
        };
        // A member already: the session is what is wanted.
        if store::user::membership_ensure_in_tx(&mut tx, org, user, role).await? {
            let version = store::member::version_in_tx(&mut tx).await?;
            let data = json!({ "by": link.created_by, "after": role });
            let event = user_event(org, "joined", user, version, data);
            event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
        }
        let client = client(&request.address, &request.user_agent);
        let (session, tokens) = session_begin_in_tx(&mut tx, org, user, client).await?;
        let entry = session_entry(org, user, "auth.accept", from).with(session);
        audit::note_in_tx(&mut tx, entry.after(json!({ "role": role }))).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        tracing::info!(%org, %user, "somebody joined");
        Ok(tokens)
    }
}
