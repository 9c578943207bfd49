//! Who acts, as the database knows it now: a grant is up to five minutes old, and what concerns people's rights is decided
//! by what they are at the commit.

use contract::grant::PrincipalKind;
use contract::{Grant, Problem, ProblemKind};
use database::Tx;
use domain::UserId;
use domain::access::Role;

use crate::error::IdentityError;
use crate::store;

/// FORBIDDEN in these words.
pub(crate) fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Forbidden, detail)
}

/// The person behind a grant.
///
/// # Errors
/// FORBIDDEN for a key: some things are for people.
pub(crate) fn person(grant: &Grant) -> Result<UserId, Problem> {
    match grant.kind {
        PrincipalKind::User => Ok(UserId(grant.sub)),
        _ => Err(forbidden(
            "this is for people: log in instead of using a key",
        )),
    }
}

/// A role as it is stored.
pub(crate) fn role(text: &str) -> Result<Role, IdentityError> {
    text.parse().map_err(IdentityError::Internal)
}

/// What the person behind a grant is in its organisation at this moment. Its row is locked until the commit, so that
/// nobody who is being removed leaves anything behind.
///
/// # Errors
/// FORBIDDEN for a key, and when the person is no member any more or lacks the scope by now.
pub(crate) async fn role_in_tx(
    tx: &mut Tx,
    grant: &Grant,
    scope: &str,
) -> Result<Role, IdentityError> {
    let found = store::member::lock_in_tx(tx, grant.org, person(grant)?).await?;
    let role = found.as_deref().map(role).transpose()?;
    let role = role.ok_or_else(|| forbidden("this account is no longer a member"))?;
    if role.scopes().allows(scope) {
        Ok(role)
    } else {
        Err(Problem::missing_scope(scope).into())
    }
}

/// Refuses to give more than one has.
///
/// # Errors
/// FORBIDDEN.
pub(crate) fn check_within(role: Role, acting: Role) -> Result<(), Problem> {
    if role <= acting {
        Ok(())
    } else {
        Err(forbidden(format!(
            "{acting} cannot give {role}: nobody gives more than they have"
        )))
    }
}
