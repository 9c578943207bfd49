//! The handlers that there are, and what each takes ([`domain::builtin`]). A configuration that could never run is refused when it is
//! given, with the field's name; what only the moment shows (a host that does not answer, a right that somebody lost, a job that was
//! edited while an execution waited) is the worker's to find.

use contract::{Author, Problem};
use domain::builtin::{Builtin, ConfigError, Given};
use serde_json::{Map, Value};

/// Checks a handler's name and what it is given.
///
/// # Errors
/// INVALID naming `handler`, or a field of `config`.
pub fn check(handler: &str, config: &Map<String, Value>) -> Result<(), Problem> {
    match Builtin::of(handler) {
        Some(builtin) => builtin
            .check(Given::of(config))
            .map_err(|error| wrong("config", error)),
        None => {
            let shown: String = handler.chars().take(64).collect();
            let known = Builtin::ALL.map(Builtin::as_str).join(", ");
            let message = format!("`{shown}` is unknown; known are {known}");
            Err(Problem::invalid("handler", message))
        }
    }
}

/// Refuses somebody who has no right to what a handler does when it is given this: their executions would act with their right, but so
/// would those that others asked for, or begin again.
///
/// # Errors
/// FORBIDDEN naming the scope.
pub fn require(author: &Author, handler: &str, given: Given<'_>) -> Result<(), Problem> {
    let scope = Builtin::of(handler).and_then(|builtin| builtin.scope(given));
    scope.map_or(Ok(()), |scope| author.require(scope))
}

/// Whether it matters what an execution replaces of its job's configuration.
pub fn is_particular(handler: &str) -> bool {
    Builtin::of(handler).is_some_and(|builtin| !builtin.takes_anything())
}

/// What an execution replaces, with what it keeps of its job's configuration as it is now: what its author has the right to. Whoever
/// edits the job later would else have it do something that neither has asked for.
pub fn pinned(
    handler: &str,
    config: &Map<String, Value>,
    replaced: &Map<String, Value>,
) -> Option<Value> {
    let names = Builtin::of(handler)?.scoped_fields();
    let mut pinned = replaced.clone();
    for name in names {
        if let Some(value) = config.get(*name)
            && !pinned.contains_key(*name)
        {
            pinned.insert((*name).to_owned(), value.clone());
        }
    }
    (pinned.len() > replaced.len()).then_some(Value::Object(pinned))
}

/// Whether it matters who asks for an execution.
pub fn needs_scope(handler: &str) -> bool {
    Builtin::of(handler).is_some_and(Builtin::needs_scope)
}

/// Checks what an execution replaces of its job's configuration, together with the rest of it.
///
/// # Errors
/// [`ConfigError`], for [`wrong`].
pub fn check_replaced(
    handler: &str,
    config: &Map<String, Value>,
    replaced: &Map<String, Value>,
) -> Result<(), ConfigError> {
    match Builtin::of(handler) {
        Some(builtin) => builtin.check(Given::of(config).replacing(replaced)),
        None => Ok(()),
    }
}

/// The refusal of a configuration, which stands at this path of its request.
pub fn wrong(path: &str, error: ConfigError) -> Problem {
    Problem::invalid(format!("{path}.{}", error.path), error.message)
}

#[cfg(test)]
mod tests {
    use domain::builtin::examples::examples;
    use serde_json::json;

    use super::*;

    fn path(problem: &Problem) -> Option<&str> {
        Some(problem.errors.first()?.path.as_str())
    }

    #[test]
    fn what_could_never_run_is_refused_with_its_field() {
        for example in examples() {
            let checked = check(example.handler.as_str(), &example.config);
            let expected = example.wrong.map(|path| format!("config.{path}"));
            let refused = checked.as_ref().err().and_then(path);
            assert_eq!(refused, expected.as_deref(), "{example:?}");
            assert_eq!(checked.is_err(), example.wrong.is_some(), "{example:?}");
        }
        for name in ["builtin/nothing", "crm/sync", ""] {
            let problem = check(name, &Map::new()).expect_err(name);
            assert_eq!(path(&problem), Some("handler"), "{name}");
        }
    }

    #[test]
    fn what_is_replaced_is_refused_where_it_stands() {
        let (job, bad) = (json!({ "ms": 5 }), json!({ "ms": "x" }));
        let (job, bad) = (job.as_object(), bad.as_object());
        let (job, bad) = (job.expect("an object"), bad.expect("an object"));
        let error = check_replaced("builtin/sleep", job, bad).expect_err("no number");
        let problem = wrong("items[3].config", error);
        assert_eq!(path(&problem), Some("items[3].config.ms"));
        // What a module's handler takes is the module's to say.
        assert_eq!(check_replaced("crm/sync", job, bad), Ok(()));
        assert!(is_particular("builtin/sleep"));
        assert!(!is_particular("builtin/noop") && !is_particular("crm/sync"));
    }
}
