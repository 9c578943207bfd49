//! `Idempotency-Key`: by it an owner knows a repetition from a second wish.

use contract::{FieldError, Problem, ProblemKind};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::error::Refused;

/// The header.
pub const HEADER: &str = "Idempotency-Key";
/// The longest key.
const KEY_MAX_BYTES: usize = 128;

/// The key of a request, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];

    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            min_length: Some(1),
            max_length: Some(KEY_MAX_BYTES),
            pattern: Some("^[!-~]+$".to_owned()),
            ..MetaSchema::new("string")
        })))
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let mut values = request.headers().get_all(HEADER).iter();
        let key = match (values.next(), values.next()) {
            (None, _) => return Ok(Self(None)),
            (Some(value), None) => value.to_str().ok().filter(|key| is_key(key)),
            (Some(_), Some(_)) => None,
        };
        match key {
            Some(key) => Ok(Self(Some(key.to_owned()))),
            None => {
                let message =
                    format!("must be 1 to {KEY_MAX_BYTES} visible ASCII characters, once");
                Err(Refused::invalid(vec![FieldError {
                    path: HEADER.to_owned(),
                    message,
                }])
                .into())
            }
        }
    }
}

/// Without a key, "repeat with the same key" helps nobody.
#[must_use]
pub fn explain(problem: Problem, has_key: bool, thing: &str) -> Problem {
    if problem.kind != ProblemKind::OutcomeUnknown || has_key {
        return problem;
    }
    let detail = format!(
        "{}; this request had none, so look whether the {thing} exists before repeating it",
        problem.detail
    );
    Problem { detail, ..problem }
}

fn is_key(text: &str) -> bool {
    (1..=KEY_MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
