//! Enrolment tokens: made, looked at, revoked. What they do is in [`super::enrollment`].

use chrono::Duration;
use contract::audit::Resource;
use contract::identity::{
    Done, EnrollmentToken, EnrollmentTokenCreate, EnrollmentTokenCreated, EnrollmentTokenGet,
    EnrollmentTokenList, EnrollmentTokenPage, EnrollmentTokenRevoke,
};
use contract::{Author, Grant, Problem};
use domain::Timestamp;
use domain::access::{ENROLLMENT_READ, ENROLLMENT_WRITE};
use domain::text::check_name;
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use crate::app::idempotency::{Key, secret_gone};
use crate::app::page::Page;
use crate::app::secret::{self, SecretKind};
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::store;
use crate::store::enrollment_token::TokenView;

/// What idempotency keys are filed under.
const ROUTE: &str = "enrollment-tokens.create";
/// How long a token lives when nobody says.
const LIFE: Duration = Duration::days(30);
/// The longest life, and the most uses.
const LIFE_MAX: Duration = Duration::days(366);
const USES_MAX: u32 = 1_000_000;

fn enrollment_token(row: TokenView) -> EnrollmentToken {
    // Positive by the table's checks.
    let count = |count: i32| u32::try_from(count).unwrap_or_default();
    EnrollmentToken {
        id: row.id,
        name: row.name,
        labels: row.labels.0,
        uses: count(row.uses),
        uses_left: count(row.uses_left),
        hourly_cap: row.hourly_cap.map(count),
        created_by: row.created_by,
        created_at: row.created_at.into(),
        expires_at: row.expires_at.into(),
        revoked_at: row.revoked_at.map(Into::into),
    }
}

fn not_found() -> Problem {
    Problem::not_found("enrolment token")
}

fn check_count(path: &str, count: Option<u32>) -> Result<Option<i32>, Problem> {
    match count {
        None => Ok(None),
        Some(count) if (1..=USES_MAX).contains(&count) => Ok(i32::try_from(count).ok()),
        Some(_) => Err(Problem::invalid(
            path,
            format!("must be from 1 to {USES_MAX}"),
        )),
    }
}

/// The token that is asked for, with this id.
fn checked(grant: &Grant, id: Uuid, request: &EnrollmentTokenCreate) -> Result<TokenView, Problem> {
    check_name(&request.name).map_err(|message| Problem::invalid("name", message))?;
    domain::labels::check(&request.labels)
        .map_err(|error| Problem::invalid(error.path, error.message))?;
    let now = Timestamp::now();
    let expires_at = request.expires_at.unwrap_or_else(|| now.plus(LIFE));
    if expires_at <= now || expires_at > now.plus(LIFE_MAX) {
        let message = format!("must be in the next {} days", LIFE_MAX.num_days());
        return Err(Problem::invalid("expiresAt", message));
    }
    let uses = check_count("uses", request.uses)?.unwrap_or(1);
    Ok(TokenView {
        id,
        name: request.name.clone(),
        labels: Json(request.labels.clone()),
        uses,
        uses_left: uses,
        hourly_cap: check_count("hourlyCap", request.hourly_cap)?,
        created_by: Some(grant.sub),
        created_at: now.utc(),
        expires_at: expires_at.utc(),
        revoked_at: None,
    })
}

impl App {
    /// Tokens, the newest first; used up, expired and revoked ones too.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `limit` or `cursor`, UNAVAILABLE.
    pub async fn token_list(
        &self,
        grant: &Grant,
        request: &EnrollmentTokenList,
    ) -> Result<EnrollmentTokenPage, IdentityError> {
        grant.require(ENROLLMENT_READ)?;
        let page = Page::newest_first(request.limit, request.cursor.as_deref())?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let rows =
            store::enrollment_token::list_in_tx(&mut tx, grant.org, page.from, page.rows()).await?;
        let (items, next_cursor) = page.cut(rows, |row| row.id, enrollment_token);
        Ok(EnrollmentTokenPage { items, next_cursor })
    }

    /// A token.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn token_get(
        &self,
        grant: &Grant,
        request: &EnrollmentTokenGet,
    ) -> Result<EnrollmentToken, IdentityError> {
        grant.require(ENROLLMENT_READ)?;
        self.token_of(grant, request.token_id).await
    }

    async fn token_of(&self, grant: &Grant, id: Uuid) -> Result<EnrollmentToken, IdentityError> {
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let row = store::enrollment_token::get_in_tx(&mut tx, grant.org, id).await?;
        Ok(enrollment_token(row.ok_or_else(not_found)?))
    }

    /// Makes a token. With an idempotency key the same again gives the same token and the same secret.
    ///
    /// # Errors
    /// FORBIDDEN; INVALID naming the field; CONFLICT when the idempotency key was used for another body; UNAVAILABLE.
    pub async fn token_create(
        &self,
        grant: &Author,
        mut request: EnrollmentTokenCreate,
    ) -> Result<EnrollmentTokenCreated, IdentityError> {
        grant.require(ENROLLMENT_WRITE)?;
        let id = Uuid::now_v7();
        let new = checked(grant, id, &request)?;
        let key = request.idempotency_key.take();
        let key = Key::of(ROUTE, key, grant.sub, &request)?;
        let org = grant.org;
        let mut tx = self.pools.tenant_tx(org).await?;
        if let Some(key) = &key
            && let Some(made) = key.take_in_tx(&mut tx, org, id).await?
        {
            drop(tx);
            return self.token_again(grant, made, key).await;
        }
        let secret = self.secret_of(SecretKind::EnrollmentToken, id, key.as_ref())?;
        let hash = secret::hash(&secret);
        store::enrollment_token::create_in_tx(&mut tx, org, &new, &hash).await?;
        let row = store::enrollment_token::get_in_tx(&mut tx, org, id).await?;
        let resource = Resource::of("enrollment-token", id).named(&request.name);
        let after = json!({
            "labels": request.labels, "uses": request.uses, "hourlyCap": request.hourly_cap,
            "expiresAt": request.expires_at,
        });
        let entry = grant.did("token.create", resource).after(after);
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.audit_relay.wake();
        tracing::info!(%org, token = %id, by = %grant.sub, "an enrolment token was made");
        Ok(EnrollmentTokenCreated {
            enrollment_token: enrollment_token(row.ok_or_else(not_found)?),
            token: secret,
        })
    }

    /// What a repetition gets.
    async fn token_again(
        &self,
        grant: &Grant,
        id: Uuid,
        key: &Key,
    ) -> Result<EnrollmentTokenCreated, IdentityError> {
        for (secret, hash) in self.secrets_of(SecretKind::EnrollmentToken, id, key)? {
            let system = self.pools.system();
            if store::enrollment_token::has_hash(system, grant.org, id, &hash).await? {
                return Ok(EnrollmentTokenCreated {
                    enrollment_token: self.token_of(grant, id).await?,
                    token: secret,
                });
            }
        }
        Err(secret_gone())
    }

    /// Revokes a token: no machine enrols with it any more, those that did stay. Again, it changes nothing.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn token_revoke(
        &self,
        grant: &Author,
        request: &EnrollmentTokenRevoke,
    ) -> Result<Done, IdentityError> {
        grant.require(ENROLLMENT_WRITE)?;
        let mut tx = self.pools.tenant_tx(grant.org).await?;
        let id = request.token_id;
        if !store::enrollment_token::revoke_in_tx(&mut tx, grant.org, id).await? {
            return Err(not_found().into());
        }
        let entry = grant.did("token.revoke", Resource::of("enrollment-token", id));
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.audit_relay.wake();
        tracing::info!(org = %grant.org, token = %id, by = %grant.sub, "an enrolment token was revoked");
        Ok(Done {})
    }
}
