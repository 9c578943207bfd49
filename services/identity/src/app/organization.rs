//! Organisations: whose they are, their names, and their end.

use contract::audit::{AuditEntry, Resource};
use contract::grant::PrincipalKind;
use contract::identity::{
    Organization, OrganizationClose, OrganizationCreate, OrganizationEdit, OrganizationGet,
    OrganizationList, OrganizationPage,
};
use contract::{Author, Grant, Problem, ProblemKind};
use database::{OutboxRow, Tx};
use domain::access::{ORGANIZATION_READ, ORGANIZATION_WRITE, PLATFORM_ADMIN, Role};
use domain::text::check_name;
use domain::{OrgId, Timestamp};
use serde_json::json;

use crate::app::acting;
use crate::app::idempotency::Key;
use crate::app::page::Page;
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::store;
use crate::store::organization::OrganizationRow;

/// What idempotency keys are filed under.
const ROUTE: &str = "organizations.create";

fn organization(row: OrganizationRow) -> Result<Organization, IdentityError> {
    Ok(Organization {
        id: OrgId(row.id),
        name: row.name,
        role: row.role.as_deref().map(acting::role).transpose()?,
        legacy_enabled: row.legacy_enabled,
        created_at: row.created_at.into(),
        closed_at: row.closed_at.map(Into::into),
    })
}

fn not_found() -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "there is no such organisation that you belong to",
    )
}

fn is_platform_admin(grant: &Grant) -> bool {
    grant.scopes.allows(PLATFORM_ADMIN)
}

impl App {
    /// A person's own organisations that are open, a key's one; all for a platform administrator. The oldest first.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `limit` or `cursor`, UNAVAILABLE.
    pub async fn organization_list(
        &self,
        grant: &Grant,
        request: &OrganizationList,
    ) -> Result<OrganizationPage, IdentityError> {
        grant.require(ORGANIZATION_READ)?;
        let page = Page::oldest_first(request.limit, request.cursor.as_deref())?;
        let system = self.pools.system();
        let rows = match grant.kind {
            _ if is_platform_admin(grant) => {
                store::organization::all(system, grant.sub, page.from, page.rows()).await?
            }
            PrincipalKind::User => {
                store::organization::of_person(system, grant.sub, page.from, page.rows()).await?
            }
            _ => {
                let mut tx = self.pools.tenant_tx(grant.org).await?;
                let own = store::organization::get_in_tx(&mut tx, grant.org).await?;
                own.into_iter().filter(|own| own.id > page.from).collect()
            }
        };
        let (items, next_cursor) = page.cut(rows, |row| row.id, organization);
        let items = items.into_iter().collect::<Result<_, _>>()?;
        Ok(OrganizationPage { items, next_cursor })
    }

    /// The organisation of the grant; any for a platform administrator.
    ///
    /// # Errors
    /// FORBIDDEN, NOT_FOUND, UNAVAILABLE.
    pub async fn organization_get(
        &self,
        grant: &Grant,
        request: &OrganizationGet,
    ) -> Result<Organization, IdentityError> {
        grant.require(ORGANIZATION_READ)?;
        let org = request.organization_id;
        if org != grant.org && !is_platform_admin(grant) {
            return Err(not_found().into());
        }
        let mut tx = self.pools.tenant_tx(org).await?;
        let row = store::organization::get_in_tx(&mut tx, org).await?;
        self.shown(grant, &mut tx, row.ok_or_else(not_found)?).await
    }

    /// With what the caller is there.
    async fn shown(
        &self,
        grant: &Grant,
        tx: &mut Tx,
        row: OrganizationRow,
    ) -> Result<Organization, IdentityError> {
        let org = OrgId(row.id);
        let role = match grant.kind {
            PrincipalKind::User => {
                let member = store::member::get_in_tx(tx, org, grant.sub.into()).await?;
                member
                    .map(|member| acting::role(&member.role))
                    .transpose()?
            }
            _ => Some(grant.role),
        };
        Ok(Organization {
            role,
            ..organization(row)?
        })
    }

    /// A new organisation; whoever makes it is its OWNER.
    ///
    /// # Errors
    /// FORBIDDEN for everybody but a platform administrator; INVALID naming `name`; CONFLICT when the idempotency key was
    /// used for another body; UNAVAILABLE.
    pub async fn organization_create(
        &self,
        grant: &Author,
        mut request: OrganizationCreate,
    ) -> Result<Organization, IdentityError> {
        grant.require(PLATFORM_ADMIN)?;
        let owner = acting::person(grant)?;
        check_name(&request.name).map_err(|message| Problem::invalid("name", message))?;
        let key = request.idempotency_key.take();
        let key = Key::of(ROUTE, key, grant.sub, &request)?;
        let org = OrgId::new();
        // The key is filed where the caller is; the system's role, because two organisations are written.
        let mut tx = self.pools.system_tx().await?;
        if let Some(key) = &key
            && let Some(made) = key.take_in_tx(&mut tx, grant.org, org.0).await?
        {
            let row = store::organization::get_in_tx(&mut tx, OrgId(made)).await?;
            drop(tx);
            let mut tx = self.pools.tenant_tx(OrgId(made)).await?;
            return self.shown(grant, &mut tx, row.ok_or_else(not_found)?).await;
        }
        store::organization::insert_in_tx(&mut tx, org, &request.name).await?;
        store::user::membership_ensure_in_tx(&mut tx, org, owner, Role::Owner).await?;
        let row = store::organization::get_in_tx(&mut tx, org).await?;
        let data = json!({ "by": grant.sub, "name": request.name });
        // The first of its events: those after it have versions from the sequence.
        let event = OutboxRow::new(org, "organization", "created", org.0, 0, data);
        event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
        // In both: where it was asked for, and as the first of the new one.
        let resource = Resource::of("organization", org).named(&request.name);
        let asked = grant.did("organization.create", resource.clone());
        let first = AuditEntry {
            org,
            ..grant.did("organization.create", resource)
        };
        audit::note_all_in_tx(&mut tx, vec![asked, first]).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        tracing::info!(%org, by = %grant.sub, "an organisation was made");
        Ok(Organization {
            role: Some(Role::Owner),
            ..organization(row.ok_or_else(not_found)?)?
        })
    }

    /// Changes an organisation's name, or whether it takes agents of Dash-Fleet.
    ///
    /// # Errors
    /// FORBIDDEN, INVALID naming `name`, NOT_FOUND, CONFLICT when it is closed, UNAVAILABLE.
    pub async fn organization_edit(
        &self,
        grant: &Author,
        request: OrganizationEdit,
    ) -> Result<Organization, IdentityError> {
        let org = request.organization_id;
        if !is_platform_admin(grant) {
            grant.require(ORGANIZATION_WRITE)?;
        }
        if let Some(name) = &request.name {
            check_name(name).map_err(|message| Problem::invalid("name", message))?;
        }
        self.organization_change(grant, "organization.edit", org, |before| {
            let mut after = before.clone();
            after.name = request.name.unwrap_or(after.name);
            after.legacy_enabled = request.legacy_enabled.unwrap_or(after.legacy_enabled);
            if before.closed_at.is_some() && after != *before {
                let text = "this organisation is closed";
                return Err(Problem::new(ProblemKind::Conflict, text));
            }
            Ok(after)
        })
        .await
    }

    /// Closes an organisation: none of its credentials is accepted any more, no machine enrols. What it has stays.
    ///
    /// # Errors
    /// FORBIDDEN for everybody but a platform administrator; NOT_FOUND, UNAVAILABLE.
    pub async fn organization_close(
        &self,
        grant: &Author,
        request: &OrganizationClose,
    ) -> Result<Organization, IdentityError> {
        grant.require(PLATFORM_ADMIN)?;
        let org = request.organization_id;
        self.organization_change(grant, "organization.close", org, |before| {
            let mut after = before.clone();
            after.closed_at = after.closed_at.or_else(|| Some(Timestamp::now().utc()));
            Ok(after)
        })
        .await
    }

    async fn organization_change(
        &self,
        grant: &Author,
        call: &str,
        org: OrgId,
        change: impl FnOnce(&OrganizationRow) -> Result<OrganizationRow, Problem>,
    ) -> Result<Organization, IdentityError> {
        if org != grant.org && !is_platform_admin(grant) {
            return Err(not_found().into());
        }
        let mut tx = self.pools.tenant_tx(org).await?;
        let before = store::organization::lock_in_tx(&mut tx, org).await?;
        let before = before.ok_or_else(not_found)?;
        if !is_platform_admin(grant) {
            acting::role_in_tx(&mut tx, grant, ORGANIZATION_WRITE).await?;
        }
        let after = change(&before)?;
        if after != before {
            let version = store::organization::edit_in_tx(&mut tx, &after).await?;
            let verb = match (before.closed_at, after.closed_at) {
                (None, Some(_)) => "closed",
                _ => "updated",
            };
            let told = |row: &OrganizationRow| json!({ "name": row.name, "legacyEnabled": row.legacy_enabled });
            let data = json!({ "by": grant.sub, "before": told(&before), "after": told(&after) });
            let event = OutboxRow::new(org, "organization", verb, org.0, version, data);
            event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
            let entry = AuditEntry {
                org,
                ..grant.did(call, Resource::of("organization", org).named(&after.name))
            };
            let entry = entry.before(told(&before)).after(told(&after));
            audit::note_in_tx(&mut tx, entry).await?;
        }
        let shown = self.shown(grant, &mut tx, after).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        Ok(shown)
    }
}
