//! `audit.append`, `audit.heads` and `audit.countersign` of services; `audit.list`, `audit.export` and `audit.verify` of users;
//! `audit.refused` of the gateway, for the user whom it refused.

use std::sync::Arc;

use bus::{BusError, Caller, Context, Service};
use contract::audit::{
    AuditAppend, AuditAppended, AuditCountersign, AuditExport, AuditExported, AuditHeads,
    AuditHeadsPage, AuditList, AuditPage, AuditRefused, AuditVerified, AuditVerify,
};
use contract::identity::Done;
use contract::{Problem, ProblemKind};

use crate::app::App;
use crate::inbound::{require_caller, with};

pub(super) async fn answer(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    service.answer(with(app, append)).await?;
    service.answer(with(app, refused)).await?;
    service.answer(with(app, list)).await?;
    service.answer(with(app, export)).await?;
    service.answer(with(app, verify)).await?;
    service.answer(with(app, heads)).await?;
    service.answer(with(app, countersign)).await
}

async fn append(
    app: Arc<App>,
    context: Context,
    request: AuditAppend,
) -> Result<AuditAppended, Problem> {
    // Whoever it is: what it tells is told by it, and its name goes into the chain.
    let Caller::Service(service) = &context.caller else {
        return Err(Problem::new(ProblemKind::Forbidden, "services append"));
    };
    Ok(app.audit_append(service, request).await?)
}

async fn refused(app: Arc<App>, context: Context, request: AuditRefused) -> Result<Done, Problem> {
    Ok(app.audit_refused(context.grant()?, &request)?)
}

async fn list(app: Arc<App>, context: Context, request: AuditList) -> Result<AuditPage, Problem> {
    Ok(app.audit_list(context.grant()?, &request).await?)
}

async fn export(
    app: Arc<App>,
    context: Context,
    request: AuditExport,
) -> Result<AuditExported, Problem> {
    Ok(app.audit_export(context.grant()?, &request).await?)
}

async fn verify(
    app: Arc<App>,
    context: Context,
    request: AuditVerify,
) -> Result<AuditVerified, Problem> {
    Ok(app.audit_verify(context.grant()?, &request).await?)
}

async fn heads(
    app: Arc<App>,
    context: Context,
    request: AuditHeads,
) -> Result<AuditHeadsPage, Problem> {
    require_caller(&context, &["action"])?;
    Ok(app.audit_heads(&request).await?)
}

async fn countersign(
    app: Arc<App>,
    context: Context,
    request: AuditCountersign,
) -> Result<Done, Problem> {
    require_caller(&context, &["action"])?;
    Ok(app.audit_countersign(&request).await?)
}
