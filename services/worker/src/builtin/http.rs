//! What `http-check` and `http-request` have in common: a request from a configuration.

use std::time::Duration;

use domain::OrgId;
use domain::builtin::Asked;
use egress::{Method, Request};

use crate::handler::Failure;

/// The request that a configuration describes, with this limit unless it says another. The port of its URL may be used: whoever made
/// the job named it.
pub(super) fn request(
    org: OrgId,
    asked: &Asked<'_>,
    timeout: Duration,
) -> Result<Request, Failure> {
    let mut request = Request::get(org.0, asked.url).naming_its_port();
    request.method = Method::from_bytes(asked.method.as_bytes())
        .map_err(|error| Failure::permanent(format!("config.method: {error}")))?;
    request.headers = asked
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    request.limit = asked.timeout.unwrap_or(timeout);
    Ok(request)
}
