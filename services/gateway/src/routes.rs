//! What the router knows, for those outside of it: from a matched pattern to its template and its methods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderValue, Method};
use poem::{IntoEndpoint, Route, RouteMethod};
use poem_openapi::OpenApi;

/// The template of requests that match nothing: paths as they came are without number.
pub const UNMATCHED: &str = "unmatched";

/// One path.
#[derive(Clone, Debug)]
pub struct Known {
    /// The path as the document writes it: `/api/v1/machines/{id}`.
    pub template: Arc<str>,
    /// The value of `Allow`.
    pub allow: Option<HeaderValue>,
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
    let mut templates = HashMap::new();
    for path in A::meta().into_iter().flat_map(|api| api.paths) {
        templates.insert(pattern(&path.path), path.path);
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
        let template = templates
            .remove(&pattern)
            .unwrap_or_else(|| template(&pattern));
        routes.by_pattern.insert(
            pattern.as_str().into(),
            Known {
                template: template.into(),
                allow: allow(methods.keys()),
            },
        );
        let methods = methods
            .into_iter()
            .fold(RouteMethod::new(), |all, (method, endpoint)| {
                all.method(method, endpoint)
            });
        route = route.at(pattern, methods.into_endpoint());
    }
    (route, routes)
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
