//! How a machine joins the fleet.

use std::sync::Arc;

use contract::identity::{Challenge, Challenged, Enroll, Enrolled, Standing, StandingGet};
use poem::Request;
use poem_openapi::{ApiResponse, OpenApi};

use crate::credentials::Credentials;
use crate::document::Tag;
use crate::json::{Given, Shown};
use crate::owners::Owners;
use crate::refusal::{Open, OpenWithBody, Refusal};
use crate::visit::Visit;

/// The operations.
pub struct Enrollments {
    owners: Owners,
    credentials: Arc<Credentials>,
}

/// A machine that joined.
#[derive(ApiResponse)]
pub enum Joined {
    /// The machine belongs to the fleet.
    #[oai(status = 201)]
    Enrolled(Shown<Enrolled>),
}

impl Enrollments {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners, credentials: Arc<Credentials>) -> Self {
        Self {
            owners,
            credentials,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/agents", tag = "Tag::Agents")]
impl Enrollments {
    /// What a machine must sign to enrol
    #[oai(
        path = "/enroll/challenge",
        method = "post",
        operation_id = "agent_enroll_challenge"
    )]
    async fn challenge(&self, request: &Request) -> Result<Shown<Challenged>, Refusal<Open>> {
        let visit = Visit::of(request)?;
        self.credentials.may_try(visit.address)?;
        self.credentials.may_ask(visit.address)?;
        Ok(Shown(self.owners.write_open(&Challenge {}).await?))
    }

    /// Enrol a machine
    ///
    /// The token says which organisation; the signature proves that the machine holds its key. The same request again
    /// gives the same machine.
    #[oai(path = "/enroll", method = "post", operation_id = "agent_enroll")]
    async fn enroll(
        &self,
        request: &Request,
        body: Given<Enroll>,
    ) -> Result<Joined, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        let enrolled = self
            .owners
            .write_open(&body.0)
            .await
            .map_err(|problem| self.credentials.counted(visit.address, problem))?;
        Ok(Joined::Enrolled(Shown(enrolled)))
    }

    /// Why the bus refuses a machine's key
    ///
    /// For the machine itself, which signs a challenge: nobody learns anything about another's key.
    #[oai(path = "/standing", method = "post", operation_id = "agent_standing")]
    async fn standing(
        &self,
        request: &Request,
        body: Given<StandingGet>,
    ) -> Result<Shown<Standing>, Refusal<OpenWithBody>> {
        let visit = Visit::of(request)?;
        self.credentials.may_ask(visit.address)?;
        let standing = self
            .owners
            .write_open(&body.0)
            .await
            .map_err(|problem| self.credentials.counted(visit.address, problem))?;
        Ok(Shown(standing))
    }
}
