//! What identity asks of the audit's signatures.

use std::sync::Arc;

use bus::{BusError, Caller, Context, Service};
use contract::audit::{AuditSigned, AuditSignedPage};
use contract::{Problem, ProblemKind};

use crate::app::App;

/// Answers `audit.signed`.
///
/// # Errors
/// [`BusError`] when the client is closed.
pub async fn serve(service: &Service, app: &Arc<App>) -> Result<(), BusError> {
    let this = app.clone();
    service
        .answer(move |context, request| signed(this.clone(), context, request))
        .await
}

async fn signed(
    app: Arc<App>,
    context: Context,
    request: AuditSigned,
) -> Result<AuditSignedPage, Problem> {
    if context.caller != Caller::Service(contract::identity::SERVICE.to_owned()) {
        return Err(Problem::new(
            ProblemKind::Forbidden,
            "this service may not ask that",
        ));
    }
    Ok(app.audit_signed(&request).await?)
}
