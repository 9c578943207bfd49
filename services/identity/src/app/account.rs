//! Passwords of people: changed by themselves, forgotten, set anew by a link.

use contract::audit::Resource;
use contract::identity::{Done, PasswordChange, PasswordForgot, PasswordReset};
use contract::{Author, Origin, Problem, ProblemKind};
use database::{OutboxRow, Tx};
use domain::{CredentialId, OrgId, UserId};
use uuid::Uuid;

use crate::app::acting::{forbidden, person};
use crate::app::attempts::{guessed_wrong, who};
use crate::app::login::{check_length, session_entry, session_revoked, unauthenticated};
use crate::app::password::rules;
use crate::app::secret::{self, SecretKind};
use crate::app::{App, audit, reset};
use crate::error::IdentityError;
use crate::store;

/// How long a link lives that somebody asked for who forgot a password, in seconds.
const FORGOT_SECONDS: f64 = 3_600.0;
/// The longest e-mail address, in characters.
const EMAIL_MAX_CHARS: usize = 254;

/// An e-mail address in lower case.
///
/// # Errors
/// INVALID naming `email`.
pub(crate) fn check_email(email: &str) -> Result<String, Problem> {
    let email = email.trim().to_lowercase();
    let invalid = |message: &str| Err(Problem::invalid("email", message));
    if email.chars().count() > EMAIL_MAX_CHARS {
        return invalid("has more than 254 characters");
    }
    let hidden = |c: char| c.is_control() || c.is_whitespace() || domain::text::is_hidden(c);
    let parts = email.split_once('@');
    let whole = parts
        .is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'));
    if !whole || email.contains(hidden) || email.contains(['<', '>', ',', ';', '"']) {
        return invalid("is not an e-mail address");
    }
    Ok(email)
}

/// Ends all of a person's sessions but one, wherever they are, with their events.
pub(crate) async fn end_sessions_in_tx(
    tx: &mut Tx,
    person: Uuid,
    but: Uuid,
) -> Result<(), IdentityError> {
    let ended = store::session::revoke_others_in_tx(tx, person, but).await?;
    let events: Vec<OutboxRow> = ended
        .into_iter()
        .map(|(org, id)| session_revoked(OrgId(org), CredentialId(id)))
        .collect();
    OutboxRow::insert_all_in_tx(&events, crate::SCHEMA, tx).await?;
    Ok(())
}

impl App {
    /// A new password, by somebody who knows the old one. The person's other sessions end, and open links are void.
    ///
    /// # Errors
    /// FORBIDDEN for a key; UNAUTHENTICATED when the current password is wrong; INVALID naming `newPassword`; RATE_LIMITED,
    /// CONFLICT when it was changed meanwhile, UNAVAILABLE.
    pub async fn password_change(
        &self,
        grant: &Author,
        request: PasswordChange,
    ) -> Result<Done, IdentityError> {
        let user = person(grant)?;
        check_length("currentPassword", &request.current_password)?;
        let who = who("password", "", &user.to_string());
        self.attempt_begin(&who).await?;
        let result = self.password_change_checked(grant, request).await;
        self.attempt_end(&who, guessed_wrong(&result)).await;
        result
    }

    async fn password_change_checked(
        &self,
        grant: &Author,
        request: PasswordChange,
    ) -> Result<Done, IdentityError> {
        let known = store::user::by_id(self.pools.system(), grant.sub).await?;
        let phc = known.as_ref().map(|known| known.password_hash.clone());
        let fits = self.passwords.verify(request.current_password, phc).await?;
        let Some(known) = known.filter(|_| fits) else {
            let text = "the current password is wrong";
            let entry = grant.did("auth.password", Resource::of("user", grant.sub));
            self.denials.note(entry.denied(text));
            return Err(unauthenticated(text));
        };
        rules::check(
            "newPassword",
            &request.new_password,
            &known.email,
            &known.name,
        )?;
        let hash = self.passwords.hash(request.new_password).await?;
        let mut tx = self.pools.system_tx().await?;
        if !store::user::password_in_tx(&mut tx, known.id, &hash, &known.password_hash).await? {
            return Err(changed_meanwhile());
        }
        // Whoever changes the password because somebody else may have a link is rid of it.
        store::password_reset::void_in_tx(&mut tx, &known.email).await?;
        end_sessions_in_tx(&mut tx, known.id, grant.credential.0).await?;
        let entry = grant.did("auth.password", Resource::of("user", known.id));
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        tracing::info!(user = %known.id, "a password was changed");
        Ok(Done {})
    }

    /// Somebody forgot a password: a link is mailed. The same answer after the same time whether there is such a person:
    /// the same row is written, and only who mails it looks for the person. Without SMTP nothing is done, for anybody.
    ///
    /// # Errors
    /// INVALID naming `email`; RATE_LIMITED, UNAVAILABLE.
    pub async fn password_forgot(&self, request: &PasswordForgot) -> Result<Done, IdentityError> {
        let email = check_email(&request.email)?;
        let who = who("forgot", &request.address, &email);
        self.attempt_begin(&who).await?;
        let asked = match &self.mailer {
            None => Ok(()),
            Some(_) => {
                // Of nobody: the mail gets one of its own.
                let hash = secret::hash(&secret::new(SecretKind::PasswordReset));
                store::password_reset::ask(self.pools.system(), &email, &hash, FORGOT_SECONDS).await
            }
        };
        // Each counts: what is limited here is how often a mailbox is filled.
        self.attempt_end(&who, true).await;
        asked?;
        self.mail_wake.notify_one();
        Ok(Done {})
    }

    /// A new password, by a link. All of the person's sessions end, and all links of the same person are void.
    ///
    /// # Errors
    /// FORBIDDEN when the link does not work (any more), or outlived the right by which it was made; INVALID naming
    /// `password`; UNAVAILABLE.
    pub async fn password_reset(
        &self,
        from: &Origin,
        request: PasswordReset,
    ) -> Result<Done, IdentityError> {
        if !SecretKind::PasswordReset.is_of(&request.token) {
            return Err(reset::void());
        }
        let hash = secret::hash(&request.token);
        let system = self.pools.system();
        let link = store::password_reset::by_hash(system, &hash).await?;
        let link = link.ok_or_else(reset::void)?;
        let known = store::user::by_email(system, &link.email).await?;
        let known = known.ok_or_else(reset::void)?;
        rules::check("password", &request.password, &known.email, &known.name)?;
        let password = self.passwords.hash(request.password).await?;
        let mut tx = self.pools.system_tx().await?;
        if let Some(org) = link.made_in
            && !reset::still_may_in_tx(&mut tx, &hash, &link, known.id).await?
        {
            drop(tx);
            let entry = session_entry(OrgId(org), UserId(known.id), "auth.reset", from);
            self.denials.note(entry.denied(reset::OUTLIVED));
            return Err(forbidden(reset::OUTLIVED).into());
        }
        if !store::password_reset::take_in_tx(&mut tx, &hash, &link.email).await? {
            return Err(reset::void());
        }
        if !store::user::password_in_tx(&mut tx, known.id, &password, &known.password_hash).await? {
            return Err(changed_meanwhile());
        }
        end_sessions_in_tx(&mut tx, known.id, Uuid::nil()).await?;
        // Told in each organisation that the person can go into.
        let orgs = store::user::organizations_in_tx(&mut tx, known.id).await?;
        let entry = |org| session_entry(OrgId(org), UserId(known.id), "auth.reset", from);
        audit::note_all_in_tx(&mut tx, orgs.into_iter().map(entry).collect()).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        tracing::info!(user = %known.id, "a password was set by a link");
        Ok(Done {})
    }
}

fn changed_meanwhile() -> IdentityError {
    let text = "the password was changed meanwhile; try again";
    Problem::new(ProblemKind::Conflict, text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them_and_nothing_else_is() {
        assert_eq!(
            check_email("  Ann@Example.ORG ").as_deref(),
            Ok("ann@example.org")
        );
        let long = format!("{}@example.org", "a".repeat(250));
        for wrong in [
            "",
            "ann",
            "@example.org",
            "ann@",
            "a@b@c",
            "a b@c",
            "a\n@b",
            "Ann <a@b>",
            "a@b,c@d",
            &long,
        ] {
            assert!(check_email(wrong).is_err(), "{wrong}");
        }
    }
}
