//! What a link for a new password is worth that an administrator made. It is up to a day old when it is used, and is worth no
//! more than the administrator may do by then: whoever could not make it now cannot have it used now either.

use database::Tx;
use domain::access::MEMBERS_WRITE;
use uuid::Uuid;

use crate::app::acting::{self, forbidden};
use crate::error::IdentityError;
use crate::store;
use crate::store::Hash;
use crate::store::password_reset::{JudgedRow, LinkRow};

/// What whoever opens such a link is told.
pub(crate) const OUTLIVED: &str = "this link outlived the right by which it was made: whoever made it, or the person whose password it sets, \
     has another role or other organisations since; ask for a new one";

/// The refusal of a link that does not work (any more).
pub(crate) fn void() -> IdentityError {
    forbidden("this link was used before, has expired, or was never made; ask for a new one").into()
}

/// Whether a link that an administrator made may be used now, by what everybody is: that stays so until the commit.
///
/// # Errors
/// FORBIDDEN when it was used meanwhile; UNAVAILABLE.
pub(crate) async fn still_may_in_tx(
    tx: &mut Tx,
    hash: &Hash,
    link: &LinkRow,
    person: Uuid,
) -> Result<bool, IdentityError> {
    let (Some(org), Some(by)) = (link.made_in, link.created_by) else {
        return Ok(false);
    };
    // Memberships before the person, as whoever makes a key does.
    store::member::hold_in_tx(tx, person, org, by).await?;
    store::user::lock_in_tx(tx, person).await?;
    match store::password_reset::judged_in_tx(tx, hash).await? {
        Some(row) => may(&row),
        // Taken while this waited for the person.
        None => Err(void()),
    }
}

fn may(row: &JudgedRow) -> Result<bool, IdentityError> {
    let maker = row.maker_role.as_deref().map(acting::role).transpose()?;
    let target = row.target_role.as_deref().map(acting::role).transpose()?;
    let (Some(maker), Some(target)) = (maker, target) else {
        return Ok(false);
    };
    let opens_more = row.organizations > 1 || row.platform_admin;
    let beyond = row.shown && opens_more && !row.maker_platform_admin;
    Ok(row.unchanged && !beyond && target <= maker && maker.scopes().allows(MEMBERS_WRITE))
}
