//! The refusing side of an operation, with the statuses that the document lists for it.

use std::marker::PhantomData;

use contract::Problem;
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;

use crate::document::problem::Problem as ProblemSchema;
use crate::error::catalogue::Kind;
use crate::error::{PROBLEM_JSON, Refused};

/// Which refusals a group of operations has.
pub trait Refusals: 'static {
    /// Their classes, by status; one for each status.
    const KINDS: &'static [Kind];
}

macro_rules! refusals {
    ($(#[$doc:meta])* $name:ident: $($kind:ident),+) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Refusals for $name {
            const KINDS: &'static [Kind] = &[$(Kind::$kind),+];
        }
    };
}

refusals!(
    /// Open to everybody, without a body.
    Open: Invalid, RateLimited, Internal, Unavailable
);
refusals!(
    /// Open to everybody, with a body.
    OpenWithBody: Invalid, Unauthenticated, Forbidden, Timeout, Conflict, TooLarge, MediaType, RateLimited, Internal, Unavailable
);
refusals!(
    /// About the caller itself.
    Session: Invalid, Unauthenticated, Forbidden, RateLimited, Internal, Unavailable
);
refusals!(
    /// A list.
    Listing: Invalid, Unauthenticated, Forbidden, RateLimited, Internal, Unavailable
);
refusals!(
    /// A question about one thing.
    Question: Invalid, Unauthenticated, Forbidden, NotFound, RateLimited, Internal, Unavailable
);
refusals!(
    /// A change without a body.
    Change: Invalid, Unauthenticated, Forbidden, NotFound, Conflict, RateLimited, Internal, Unavailable
);
refusals!(
    /// A change with a body.
    ChangeWithBody: Invalid, Unauthenticated, Forbidden, NotFound, Timeout, Conflict, TooLarge, MediaType, RateLimited, Internal, Unavailable
);

/// A refusal of a group of operations.
#[derive(Debug)]
pub struct Refusal<G> {
    refused: Refused,
    group: PhantomData<fn() -> G>,
}

impl<G> From<Refused> for Refusal<G> {
    fn from(refused: Refused) -> Self {
        Self {
            refused,
            group: PhantomData,
        }
    }
}

impl<G> From<Problem> for Refusal<G> {
    fn from(problem: Problem) -> Self {
        Refused::from(problem).into()
    }
}

impl<G> From<Refusal<G>> for poem::Error {
    fn from(refusal: Refusal<G>) -> Self {
        refusal.refused.into()
    }
}

impl<G: Refusals> ApiResponse for Refusal<G> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: G::KINDS.iter().map(|kind| response(*kind)).collect(),
        }
    }

    fn register(registry: &mut Registry) {
        ProblemSchema::register(registry);
    }
}

fn response(kind: Kind) -> MetaResponse {
    let header = |name: &str, description: &str, schema| MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: true,
        deprecated: false,
        schema,
    };
    let mut headers = Vec::new();
    if kind == Kind::Unauthenticated {
        headers.push(header(
            "WWW-Authenticate",
            "How to authenticate.",
            String::schema_ref(),
        ));
    }
    if kind.retry() {
        headers.push(header(
            "Retry-After",
            "Seconds until it is worth trying again.",
            u32::schema_ref(),
        ));
    }
    MetaResponse {
        description: kind.meaning(),
        status: Some(kind.status().as_u16()),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: PROBLEM_JSON,
            schema: ProblemSchema::schema_ref(),
        }],
        headers,
    }
}
