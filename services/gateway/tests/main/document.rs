//! The document: valid, complete, and the same as the one that is committed.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use dashfleet_gateway::document;
use dashfleet_gateway::inbound::Api;
use poem_openapi::OpenApi;
use serde_json::Value;

fn parsed() -> Value {
    serde_json::from_str(document::text()).unwrap()
}

/// Everything in the document, with where it is.
fn walk(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, value);
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, field)| walk(field, &format!("{path}/{name}"), visit)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| walk(item, &format!("{path}/{index}"), visit));
        }
        _ => {}
    }
}

#[test]
fn the_committed_document_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/openapi.json");
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == document::text(),
        "run `cargo xtask openapi` and commit openapi/openapi.json"
    );
    let others = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .filter_map(Result::ok);
    let json = others.filter(|entry| {
        entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "json")
    });
    assert_eq!(
        json.count(),
        1,
        "exactly one JSON file lies directly in openapi/"
    );
}

#[test]
fn paths_are_in_full_and_the_server_is_this_one() {
    let document = parsed();
    assert_eq!(document["servers"], serde_json::json!([{ "url": "/" }]));
    for path in document["paths"].as_object().unwrap().keys() {
        let known = path.starts_with("/api/v1/")
            || path == "/api/status"
            || path == "/.well-known/jwks.json";
        assert!(known && !path.ends_with('/'), "{path}");
    }
}

#[test]
fn no_operation_has_two_responses_of_one_status() {
    for api in Api::meta() {
        for path in api.paths {
            for operation in path.operations {
                let mut seen = HashSet::new();
                for response in operation.responses.responses {
                    assert!(
                        seen.insert(response.status),
                        "{} has {:?} twice",
                        path.path,
                        response.status
                    );
                }
                assert!(
                    seen.iter()
                        .flatten()
                        .any(|status| (200..300).contains(status)),
                    "{}",
                    path.path
                );
            }
        }
    }
}

#[test]
fn every_operation_has_its_own_id_words_and_refusals() {
    let document = parsed();
    let mut ids = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(
                id.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{id}"
            );
            assert!(ids.insert(id), "{id} twice");
            assert!(
                operation["summary"].is_string() && operation["tags"].is_array(),
                "{method} {path}"
            );
            let open = [
                "/auth/login",
                "/auth/refresh",
                "/auth/password/reset",
                "/auth/invitations/",
                "/agents/",
                "/api/status",
                "/jwks.json",
            ];
            let secured = operation.get("security").is_some();
            assert_eq!(
                secured,
                !open.iter().any(|part| path.contains(part)),
                "{method} {path}"
            );
            let responses = operation["responses"].as_object().unwrap();
            assert_eq!(
                responses.contains_key("401"),
                // What needs no proof of any kind cannot fail for want of one.
                !["/enroll/challenge", "/api/status", "/jwks.json"]
                    .iter()
                    .any(|part| path.ends_with(part)),
                "{path}"
            );
            for (status, response) in responses {
                assert!(
                    !response["description"].as_str().unwrap().is_empty(),
                    "{method} {path} {status}"
                );
                if status.starts_with(['4', '5']) {
                    let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(
                        schema, "#/components/schemas/Problem",
                        "{method} {path} {status}"
                    );
                }
            }
            assert!(
                responses.contains_key("500") && responses.contains_key("503"),
                "{method} {path}"
            );
        }
    }
    for id in [
        "auth_login",
        "agent_enroll",
        "machine_list",
        "machine_sample_list",
        "action_create",
    ] {
        assert!(
            ids.contains(id),
            "clients are generated with these names: {id}"
        );
    }
}

#[test]
fn every_reference_resolves_and_bounds_of_integers_are_integers() {
    let document = parsed();
    walk(&document, "", &mut |path, value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            assert!(
                document
                    .pointer(reference.trim_start_matches('#'))
                    .is_some(),
                "{path}: {reference}"
            );
        }
        if value.get("type").is_some_and(|name| name == "integer") {
            for bound in ["minimum", "maximum"] {
                assert!(
                    value.get(bound).is_none_or(|bound| !bound.is_f64()),
                    "{path}: {value}"
                );
            }
        }
        let wrapped = value.get("allOf").and_then(Value::as_array).is_some();
        assert!(
            !wrapped,
            "{path}: generators of clients make a type of its own of this"
        );
    });
}

#[test]
fn the_program_prints_the_document() {
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_dashfleet-gateway"))
        .arg("--print-openapi")
        .output()
        .unwrap();
    assert!(printed.status.success());
    assert!(printed.stdout == document::text().as_bytes());
}
