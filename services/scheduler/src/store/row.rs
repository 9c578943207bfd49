//! What several tables hold in the same form.

use contract::grant::PrincipalKind;

/// A principal's kind as it is stored.
#[must_use]
pub fn principal_name(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "USER",
        PrincipalKind::ApiKey => "API_KEY",
        PrincipalKind::Service => "SERVICE",
        PrincipalKind::Module => "MODULE",
    }
}

/// The kind that is stored under this name.
///
/// # Errors
/// [`sqlx::Error::Decode`] for what no service wrote.
pub fn principal_kind(name: &str) -> Result<PrincipalKind, sqlx::Error> {
    [
        PrincipalKind::User,
        PrincipalKind::ApiKey,
        PrincipalKind::Service,
        PrincipalKind::Module,
    ]
    .into_iter()
    .find(|kind| principal_name(*kind) == name)
    .ok_or_else(|| sqlx::Error::Decode(format!("a principal's kind `{name}`").into()))
}
