//! API keys, and those of Dash-Fleet's agents and scripts. A key never has more than whoever made it has now
//! ([`super::grant`] sees to that); what is asked for in vain is refused here, so that nobody wonders later.

use contract::audit::Resource;
use contract::identity::{
    ApiKey, ApiKeyCreate, ApiKeyCreated, ApiKeyEdit, ApiKeyGet, ApiKeyList, ApiKeyPage,
    ApiKeyRevoke, Done, KeyKind,
};
use contract::{Author, Grant, Problem};
use database::OutboxRow;
use domain::access::{API_KEYS_READ, API_KEYS_WRITE, LEGACY_SCOPES, PEOPLE_ONLY, Role, SCOPES};
use domain::network::Network;
use domain::text::check_name;
use domain::{CredentialId, Timestamp, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::app::acting;
use crate::app::idempotency::{Key, secret_gone};
use crate::app::member::key_revoked;
use crate::app::page::Page;
use crate::app::secret::{self, SecretKind};
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::store;
use crate::store::api_key::KeyView;

/// What idempotency keys are filed under.
const ROUTE: &str = "api-keys.create";
/// The most scopes and networks of a key.
const LIST_MAX: usize = 64;
/// The most machines that may be bound to a legacy key.
const MACHINE_CAP_MAX: u32 = 100_000;

fn api_key(row: KeyView) -> Result<ApiKey, IdentityError> {
    let legacy = row.kind == "LEGACY";
    let role = acting::role(&row.role)?;
    Ok(ApiKey {
        id: CredentialId(row.id),
        name: row.name,
        kind: if legacy {
            KeyKind::Legacy
        } else {
            KeyKind::Api
        },
        role: (!legacy).then_some(role),
        scopes: row.scopes,
        networks: row.networks,
        machine_cap: row.machine_cap.and_then(|cap| u32::try_from(cap).ok()),
        created_by: row.created_by.map(UserId),
        created_at: row.created_at.into(),
        expires_at: row.expires_at.map(Into::into),
        last_used_at: row.last_used_at.map(Into::into),
        revoked_at: row.revoked_at.map(Into::into),
    })
}

fn not_found() -> Problem {
    Problem::not_found("API key")
}

fn secret_kind(kind: KeyKind) -> SecretKind {
    match kind {
        KeyKind::Api => SecretKind::ApiKey,
        KeyKind::Legacy => SecretKind::LegacyKey,
    }
}

/// Checks what is asked for, and gives the key's role.
fn check(request: &ApiKeyCreate) -> Result<Role, Problem> {
    check_name(&request.name).map_err(|message| Problem::invalid("name", message))?;
    if request.expires_at.is_some_and(|at| at <= Timestamp::now()) {
        return Err(Problem::invalid("expiresAt", "is not in the future"));
    }
    if let Some(networks) = &request.networks {
        check_length("networks", networks.len(), 1)?;
        for (index, network) in networks.iter().enumerate() {
            let checked = network.parse::<Network>();
            checked.map_err(|message| Problem::invalid(format!("networks[{index}]"), message))?;
        }
    }
    match request.kind {
        KeyKind::Api => check_api(request),
        KeyKind::Legacy => check_legacy(request),
    }
}

fn check_length(path: &str, length: usize, least: usize) -> Result<(), Problem> {
    if (least..=LIST_MAX).contains(&length) {
        return Ok(());
    }
    let message = format!("has {length} items; {least} to {LIST_MAX}");
    Err(Problem::invalid(path, message))
}

fn check_api(request: &ApiKeyCreate) -> Result<Role, Problem> {
    let role = request
        .role
        .ok_or_else(|| Problem::invalid("role", "is required"))?;
    if request.machine_cap.is_some() {
        return Err(Problem::invalid(
            "machineCap",
            "is for keys of the kind LEGACY",
        ));
    }
    let scopes = request.scopes.as_deref().unwrap_or_default();
    check_length("scopes", scopes.len(), 0)?;
    let allowed = role.scopes();
    for (index, scope) in scopes.iter().enumerate() {
        let message = if PEOPLE_ONLY.contains(&scope.as_str()) {
            format!("`{scope}` is for people only: no key has it")
        } else if LEGACY_SCOPES.contains(&scope.as_str()) {
            format!("`{scope}` is for keys of the kind LEGACY")
        } else if !SCOPES.iter().any(|(known, _)| known == scope) {
            "is no scope that is known here".to_owned()
        } else if !allowed.allows(scope) {
            format!("{role} does not have `{scope}`")
        } else {
            continue;
        };
        return Err(Problem::invalid(format!("scopes[{index}]"), message));
    }
    Ok(role)
}

fn check_legacy(request: &ApiKeyCreate) -> Result<Role, Problem> {
    if request.role.is_some() {
        return Err(Problem::invalid(
            "role",
            "a key of the kind LEGACY has none",
        ));
    }
    let scopes = request.scopes.as_deref().unwrap_or_default();
    check_length("scopes", scopes.len(), 1)?;
    for (index, scope) in scopes.iter().enumerate() {
        if !LEGACY_SCOPES.contains(&scope.as_str()) {
            let message = format!("must be one of {}", LEGACY_SCOPES.join(", "));
            return Err(Problem::invalid(format!("scopes[{index}]"), message));
        }
    }
    match request.machine_cap {
        None => Err(Problem::invalid("machineCap", "is required")),
        Some(cap) if (1..=MACHINE_CAP_MAX).contains(&cap) => Ok(Role::Viewer),
        Some(_) => {
            let message = format!("must be from 1 to {MACHINE_CAP_MAX}");
            Err(Problem::invalid("machineCap", message))
        }
    }
}

/// What the audit says of a key.
fn told(key: &KeyView) -> serde_json::Value {
    json!({
        "kind": key.kind, "role": key.role, "scopes": key.scopes, "networks": key.networks,
        "expiresAt": key.expires_at,
    })
}

impl App {
    /// Keys, the newest first; revoked ones too.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `limit` or `cursor`, UNAVAILABLE.
    pub async fn key_list(
        &self,
        grant: &Grant,
        request: &ApiKeyList,
    ) -> Result<ApiKeyPage, IdentityError> {
        grant.require(API_KEYS_READ)?;
        let page = Page::newest_first(request.limit, request.cursor.as_deref())?;
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let rows = store::api_key::list_in_tx(&mut tx, grant.org, page.from, page.rows()).await?;
        drop(tx);
        let (items, next_cursor) = page.cut(rows, |row| row.id, api_key);
        let items = items.into_iter().collect::<Result<_, _>>()?;
        Ok(ApiKeyPage { items, next_cursor })
    }

    /// A key.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn key_get(
        &self,
        grant: &Grant,
        request: &ApiKeyGet,
    ) -> Result<ApiKey, IdentityError> {
        grant.require(API_KEYS_READ)?;
        self.key_of(grant, request.key_id).await
    }

    async fn key_of(&self, grant: &Grant, id: CredentialId) -> Result<ApiKey, IdentityError> {
        let mut tx = self.pools.tenant_read(grant.org).await?;
        let row = store::api_key::get_in_tx(&mut tx, grant.org, id).await?;
        api_key(row.ok_or_else(not_found)?)
    }

    /// Makes a key. With an idempotency key the same again gives the same key and the same secret.
    ///
    /// # Errors
    /// FORBIDDEN without the scope (no key has it) and above one's own role; INVALID naming the field; CONFLICT when the
    /// idempotency key was used for another body; UNAVAILABLE.
    pub async fn key_create(
        &self,
        grant: &Author,
        mut request: ApiKeyCreate,
    ) -> Result<ApiKeyCreated, IdentityError> {
        grant.require(API_KEYS_WRITE)?;
        let role = check(&request)?;
        let idempotency_key = request.idempotency_key.take();
        let idempotency_key = Key::of(ROUTE, idempotency_key, grant.sub, &request)?;
        let (org, kind) = (grant.org, secret_kind(request.kind));
        let mut tx = self.pools.tenant_tx(org).await?;
        // Held until the commit: who is being removed leaves no key behind.
        let acting = acting::role_in_tx(&mut tx, grant, API_KEYS_WRITE).await?;
        acting::check_within(role, acting)?;
        let id = Uuid::now_v7();
        if let Some(key) = &idempotency_key
            && let Some(made) = key.take_in_tx(&mut tx, org, id).await?
        {
            drop(tx);
            return self.key_again(grant, kind, made, key).await;
        }
        let secret = self.secret_of(kind, id, idempotency_key.as_ref())?;
        let new = KeyView {
            id,
            name: request.name,
            kind: match request.kind {
                KeyKind::Api => "API".into(),
                KeyKind::Legacy => "LEGACY".into(),
            },
            role: role.to_string(),
            scopes: request.scopes,
            networks: request.networks,
            machine_cap: request.machine_cap.and_then(|cap| i32::try_from(cap).ok()),
            expires_at: request.expires_at.map(Timestamp::utc),
            created_by: Some(grant.sub),
            created_at: Timestamp::now().utc(),
            last_used_at: None,
            revoked_at: None,
        };
        store::api_key::create_in_tx(&mut tx, org, &new, &secret::hash(&secret)).await?;
        let row = store::api_key::get_in_tx(&mut tx, org, CredentialId(id)).await?;
        let data = json!({ "by": grant.sub, "name": new.name, "credential": id });
        // The first of its events: those after it have versions from the sequence.
        let event = OutboxRow::new(org, "key", "created", id, 0, data);
        event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
        let entry = grant.did("key.create", Resource::of("key", id).named(&new.name));
        audit::note_in_tx(&mut tx, entry.after(told(&new))).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        tracing::info!(%org, key = %id, by = %grant.sub, "an API key was made");
        Ok(ApiKeyCreated {
            api_key: api_key(row.ok_or_else(not_found)?)?,
            key: secret,
        })
    }

    /// What a repetition gets.
    async fn key_again(
        &self,
        grant: &Grant,
        kind: SecretKind,
        id: Uuid,
        key: &Key,
    ) -> Result<ApiKeyCreated, IdentityError> {
        for (secret, hash) in self.secrets_of(kind, id, key)? {
            if store::api_key::has_hash(self.pools.system(), grant.org, id, &hash).await? {
                return Ok(ApiKeyCreated {
                    api_key: self.key_of(grant, CredentialId(id)).await?,
                    key: secret,
                });
            }
        }
        Err(secret_gone())
    }

    /// Gives a key another name.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `name`, NOT_FOUND, UNAVAILABLE.
    pub async fn key_edit(
        &self,
        grant: &Author,
        request: &ApiKeyEdit,
    ) -> Result<ApiKey, IdentityError> {
        grant.require(API_KEYS_WRITE)?;
        check_name(&request.name).map_err(|message| Problem::invalid("name", message))?;
        let (org, id) = (grant.org, request.key_id);
        let mut tx = self.pools.tenant_tx(org).await?;
        acting::role_in_tx(&mut tx, grant, API_KEYS_WRITE).await?;
        let before = store::api_key::lock_in_tx(&mut tx, org, id).await?;
        let before = before.ok_or_else(not_found)?;
        let after = KeyView {
            name: request.name.clone(),
            ..before.clone()
        };
        if after.name != before.name {
            store::api_key::rename_in_tx(&mut tx, org, id, &after.name).await?;
            let entry = grant.did("key.edit", Resource::of("key", id).named(&after.name));
            let entry = entry.before(json!({ "name": before.name }));
            audit::note_in_tx(&mut tx, entry.after(json!({ "name": after.name }))).await?;
        }
        tx.commit().await?;
        self.audit_relay.wake();
        api_key(after)
    }

    /// Revokes a key: it is never accepted again. Again, it changes nothing.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn key_revoke(
        &self,
        grant: &Author,
        request: &ApiKeyRevoke,
    ) -> Result<Done, IdentityError> {
        grant.require(API_KEYS_WRITE)?;
        let (org, id) = (grant.org, request.key_id);
        let mut tx = self.pools.tenant_tx(org).await?;
        acting::role_in_tx(&mut tx, grant, API_KEYS_WRITE).await?;
        let before = store::api_key::lock_in_tx(&mut tx, org, id).await?;
        let before = before.ok_or_else(not_found)?;
        if before.revoked_at.is_none() {
            let version = store::api_key::revoke_in_tx(&mut tx, org, id).await?;
            let event = key_revoked(org, id.0, version);
            event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
            let entry = grant.did("key.revoke", Resource::of("key", id).named(&before.name));
            audit::note_in_tx(&mut tx, entry).await?;
            tracing::info!(%org, key = %id, by = %grant.sub, "an API key was revoked");
        }
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        Ok(Done {})
    }
}
