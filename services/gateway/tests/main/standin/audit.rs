//! Identity's stand-in, as far as the audit goes: a chain of so many entries, which breaks off where a test wants it to.

use std::sync::Arc;

use bus::Service;
use contract::Problem;
use contract::audit::{
    Actor, AuditEntry, AuditEvent, AuditExport, AuditExported, AuditList, AuditPage, AuditRefused,
    AuditVerified, AuditVerify, Resource,
};
use contract::identity::Done;
use domain::OrgId;
use domain::access::AUDIT_READ;
use serde_json::json;

use super::Identity;

/// How many entries the chain has.
pub const ENTRIES: i64 = 1_234;
/// A resource of which an export cannot be finished.
pub const BROKEN: &str = "broken";

/// The entry at a place.
pub fn event(seq: i64) -> AuditEvent {
    let resource = Resource::of("machine", seq).named("web-1");
    let entry = AuditEntry::new(
        OrgId::new(),
        Actor::service("action"),
        "machine.revoke",
        resource,
    );
    AuditEvent {
        seq,
        service: "identity".into(),
        entry: entry.after(json!({ "text": "line\nbreak" })),
        hash: [7; 32],
    }
}

impl Identity {
    pub(super) async fn answer_audit(self: &Arc<Self>, service: &Service) {
        let this = self.clone();
        let list = move |ctx: bus::Context, list: AuditList| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(AUDIT_READ)?;
                this.origins.lock().unwrap().push(ctx.origin().address);
                this.lists.lock().unwrap().push(list);
                Ok(AuditPage {
                    items: vec![event(2), event(1)],
                    next_cursor: None,
                })
            }
        };
        service.answer(list).await.unwrap();
        let this = self.clone();
        let refused = move |ctx: bus::Context, refused: AuditRefused| {
            let this = this.clone();
            async move {
                let told = (ctx.grant()?.credential, ctx.origin().address, refused);
                this.turned_away.lock().unwrap().push(told);
                Ok(Done {})
            }
        };
        service.answer(refused).await.unwrap();
        let this = self.clone();
        let export = move |ctx: bus::Context, export: AuditExport| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(AUDIT_READ)?;
                this.origins.lock().unwrap().push(ctx.origin().address);
                let broken = export.filter.resource.as_deref() == Some(BROKEN);
                if broken && export.after > 0 {
                    return Err(Problem::unavailable("identity's database is away"));
                }
                let to = (export.after + i64::from(export.limit)).min(ENTRIES);
                Ok(AuditExported {
                    items: (export.after + 1..=to).map(event).collect(),
                    next: (to < ENTRIES).then_some(to),
                })
            }
        };
        service.answer(export).await.unwrap();
        let verify = |ctx: bus::Context, asked: AuditVerify| async move {
            ctx.grant()?.require(AUDIT_READ)?;
            Ok(AuditVerified {
                ok: true,
                entries: 1,
                first_seq: asked.from,
                last_seq: asked.to,
                signed_through: None,
                problems: Vec::new(),
                next: None,
            })
        };
        service.answer(verify).await.unwrap();
    }
}
