//! What the router knows, for those outside of it: from a matched pattern to its template and its methods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use contract::FieldError;
use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderValue, Method};
use poem::{EndpointExt, IntoEndpoint, PathPattern, Request, Route, RouteMethod};
use poem_openapi::__private::UrlQuery;
use poem_openapi::OpenApi;
use poem_openapi::registry::{MetaOperation, MetaParamIn};

use crate::error::Refused;
use crate::limits::class::Weight;

/// The template of requests that match nothing: paths as they came are without number.
pub const UNMATCHED: &str = "unmatched";

/// One path.
#[derive(Clone, Debug)]
pub struct Known {
    /// The path as the document writes it: `/api/v1/machines/{id}`.
    pub template: Arc<str>,
    /// The value of `Allow`.
    pub allow: Option<HeaderValue>,
    /// Its operations, where the document has it.
    operations: Vec<(Method, Arc<Operation>)>,
}

/// What the document says of one operation, as far as it matters before the operation itself is asked.
#[derive(Debug)]
pub struct Operation {
    /// What a request for it weighs.
    pub weight: Weight,
    /// Whether it asks for no credential.
    is_open: bool,
    /// The parameters that its query may have.
    query: Vec<String>,
}

/// The most parameters that one answer names, and the longest name of the client that it repeats.
const NAMED_MAX: usize = 32;
const SHOWN_MAX_CHARS: usize = 64;

impl Operation {
    fn of(template: &str, meta: &MetaOperation) -> Self {
        let query = meta
            .params
            .iter()
            .filter(|parameter| parameter.in_type == MetaParamIn::Query);
        Self {
            weight: Weight::of(&meta.method, template),
            is_open: meta.security.is_empty(),
            query: query.map(|parameter| parameter.name.clone()).collect(),
        }
    }

    /// Refuses a query with parameters that the document does not have, or has once: a misspelt `machineId` must not list
    /// every machine.
    ///
    /// # Errors
    /// 400 naming each.
    pub fn check(&self, request: &Request) -> Result<(), Refused> {
        // The outermost endpoint has read it, for the operations' own parameters.
        let Some(UrlQuery(given)) = request.data::<UrlQuery>() else {
            return Ok(());
        };
        let mut errors = Vec::new();
        for (index, (name, _)) in given.iter().enumerate() {
            let earlier = given.iter().take(index);
            let message = if !self.query.contains(name) {
                "is not a parameter of this"
            } else if earlier.clone().any(|(other, _)| other == name) {
                "is given more than once"
            } else {
                continue;
            };
            errors.push(FieldError {
                path: name.chars().take(SHOWN_MAX_CHARS).collect(),
                message: message.to_owned(),
            });
            if errors.len() == NAMED_MAX {
                break;
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Refused::invalid(errors))
        }
    }
}

/// All paths, by the router's pattern.
#[derive(Debug, Default)]
pub struct Routes {
    by_pattern: HashMap<Arc<str>, Known>,
}

impl Routes {
    /// What is known of a pattern.
    #[must_use]
    pub fn get(&self, pattern: &str) -> Option<&Known> {
        self.by_pattern.get(pattern)
    }

    /// The operation that a request is for.
    #[must_use]
    pub fn operation(&self, request: &Request) -> Option<&Arc<Operation>> {
        let known = self.get(&request.data::<PathPattern>()?.0)?;
        let method = match *request.method() {
            Method::HEAD => &Method::GET,
            ref method => method,
        };
        let mut operations = known.operations.iter();
        operations.find_map(|(known, operation)| (known == method).then_some(operation))
    }
}

impl Routes {
    /// A request's operation by name, as the audit has it: its method and its path's template, and so never what a client
    /// put into a path.
    #[must_use]
    pub fn name(&self, request: &Request) -> String {
        let pattern = request.data::<PathPattern>();
        let known = pattern.and_then(|pattern| self.get(&pattern.0));
        let template = known.map_or(UNMATCHED, |known| &*known.template);
        format!("{} {template}", request.method())
    }
}

/// A page outside of the document: its path and what answers `GET`.
pub type Page = (&'static str, BoxEndpoint<'static>);

/// A route outside of the document: its method, its path, and what answers.
pub type Unversioned = (Method, &'static str, BoxEndpoint<'static>);

/// The router of an API, of pages and of routes without a version, and what it knows.
#[must_use]
pub fn build<A: OpenApi>(
    api: A,
    pages: Vec<Page>,
    unversioned: Vec<Unversioned>,
) -> (Route, Routes) {
    let mut documented = HashMap::new();
    for path in A::meta().into_iter().flat_map(|api| api.paths) {
        let operations: Vec<_> = path
            .operations
            .iter()
            .map(|meta| {
                let operation = Arc::new(Operation::of(&path.path, meta));
                (meta.method.clone(), operation)
            })
            .collect();
        documented.insert(pattern(&path.path), (path.path, operations));
    }
    let mut table: HashMap<String, HashMap<Method, BoxEndpoint<'static>>> = HashMap::new();
    api.add_routes(&mut table);
    let pages = pages
        .into_iter()
        .map(|(path, page)| (Method::GET, path, page));
    for (method, path, endpoint) in pages.chain(unversioned) {
        table
            .entry(path.to_owned())
            .or_default()
            .insert(method, endpoint);
    }
    let mut routes = Routes::default();
    let mut route = Route::new();
    // Sorted, so that two starts build the same tree.
    for (pattern, methods) in table.into_iter().collect::<BTreeMap<_, _>>() {
        let (template, operations) = documented
            .remove(&pattern)
            .unwrap_or_else(|| (template(&pattern), Vec::new()));
        routes.by_pattern.insert(
            pattern.as_str().into(),
            Known {
                template: template.into(),
                allow: allow(methods.keys()),
                operations: operations.clone(),
            },
        );
        let methods = methods
            .into_iter()
            .fold(RouteMethod::new(), |all, (method, endpoint)| {
                let known = operations.iter().find(|(known, _)| *known == method);
                let endpoint = checked(endpoint, known.map(|(_, operation)| operation));
                all.method(method, endpoint)
            });
        route = route.at(pattern, methods.into_endpoint());
    }
    (route, routes)
}

/// An open operation looks at its query first. One that asks for a credential does so after that ([`crate::caller`]):
/// whoever has none learns nothing.
fn checked(
    endpoint: BoxEndpoint<'static>,
    operation: Option<&Arc<Operation>>,
) -> BoxEndpoint<'static> {
    let Some(operation) = operation.filter(|operation| operation.is_open) else {
        return endpoint;
    };
    let operation = operation.clone();
    endpoint
        .before(move |request| {
            let checked = operation.check(&request);
            std::future::ready(checked.map(|()| request).map_err(poem::Error::from))
        })
        .boxed()
}

fn allow<'a>(methods: impl Iterator<Item = &'a Method>) -> Option<HeaderValue> {
    let mut names: Vec<_> = methods.map(Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    HeaderValue::from_str(&names.join(", ")).ok()
}

/// The router's pattern of a documented path: its parameters have no names there, only numbers.
fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for (index, part) in path.split('{').enumerate() {
        match part.split_once('}') {
            Some((_, rest)) if index > 0 => {
                pattern.push_str(&format!(":param{}", index - 1));
                pattern.push_str(rest);
            }
            _ => pattern.push_str(part),
        }
    }
    pattern
}

/// A page's pattern as a template: `/problems/:name` is `/problems/{name}`.
fn template(pattern: &str) -> String {
    let parts: Vec<_> = pattern
        .split('/')
        .map(|part| {
            part.strip_prefix(':')
                .map_or_else(|| part.to_owned(), |name| format!("{{{name}}}"))
        })
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_templates_are_translated() {
        assert_eq!(
            pattern("/api/v1/machines/{id}/samples"),
            "/api/v1/machines/:param0/samples"
        );
        assert_eq!(pattern("/a/{b}/{c}"), "/a/:param0/:param1");
        assert_eq!(pattern("/a"), "/a");
        assert_eq!(template("/problems/:name"), "/problems/{name}");
    }
}
