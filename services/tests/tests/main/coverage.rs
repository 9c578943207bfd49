//! Nobody gets around: every operation of the document is tried by everybody who must not have it, and with another
//! organisation's ids in every path and body field. An operation without an entry in the table fails.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use dashfleet_tests::Api;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use self::table::{Needs, Operation, TABLE};
use self::world::{Things, World};

mod table;
pub mod world;

/// An operation as the document has it.
struct Documented {
    id: String,
    method: Method,
    path: String,
    secured: bool,
    statuses: BTreeSet<String>,
}

fn documented() -> Vec<Documented> {
    let document: Value = serde_json::from_str(include_str!("../../../../openapi/openapi.json"))
        .expect("the document");
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let statuses = operation["responses"].as_object().expect("responses");
            operations.push(Documented {
                id: operation["operationId"].as_str().expect("an id").to_owned(),
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                secured: operation["security"].is_array(),
                statuses: statuses.keys().cloned().collect(),
            });
        }
    }
    operations
}

/// One request, whose status must be one of those that the document has.
async fn attempt(
    documented: &Documented,
    operation: &Operation,
    api: &Api,
    own: &Things,
    meant: &Things,
) -> (StatusCode, Value) {
    let path = match documented.path.contains("{id}") {
        true => documented
            .path
            .replace("{id}", &meant.of_path(&documented.path)),
        false => documented.path.clone(),
    };
    let path = format!(
        "{path}{}",
        operation
            .query
            .map_or_else(String::new, |query| query(meant))
    );
    let body = operation.body.map(|body| body(own, meant));
    let answer = api.send(documented.method.clone(), &path, &[], body).await;
    let (status, body) = answer.expect("an answer");
    assert!(
        documented.statuses.contains(status.as_str()),
        "{} answers {status}, which its document does not have: {body}",
        documented.id
    );
    (status, body)
}

#[test]
fn every_operation_has_an_entry_and_every_entry_an_operation() {
    let documented: BTreeMap<_, _> = documented()
        .into_iter()
        .map(|operation| (operation.id.clone(), operation))
        .collect();
    let listed: BTreeSet<_> = TABLE
        .iter()
        .map(|operation| operation.id.to_owned())
        .collect();
    assert_eq!(
        listed.len(),
        TABLE.len(),
        "an operation stands twice in the table"
    );
    let known: BTreeSet<_> = documented.keys().cloned().collect();
    assert_eq!(
        known.difference(&listed).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "operations without an entry: say what they need in coverage/table.rs"
    );
    assert_eq!(
        listed.difference(&known).count(),
        0,
        "entries without an operation"
    );
    for operation in TABLE {
        let secured = documented[operation.id].secured;
        assert_eq!(
            secured,
            operation.needs != Needs::Nothing,
            "{}",
            operation.id
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_around() {
    let world = World::new().await;
    let documented = documented();
    let (mut operations, mut attempts) = (0, 0);
    let before = world.theirs().await;
    for operation in TABLE {
        let documented = documented
            .iter()
            .find(|documented| documented.id == operation.id)
            .expect("an operation");
        operations += 1;
        for (who, api, wanted) in world.refused(operation.needs) {
            let (status, body) =
                attempt(documented, operation, api, &world.ours, &world.ours).await;
            attempts += 1;
            assert_eq!(status, wanted, "{} as {who}: {body}", operation.id);
        }
        // With every right here, and none there.
        let names_others = documented.path.contains("{id}") || operation.names_others;
        if names_others && !operation.foreign.is_empty() {
            let right = world.right(operation.needs);
            let (status, body) =
                attempt(documented, operation, right, &world.ours, &world.theirs).await;
            attempts += 1;
            assert!(
                operation.foreign.contains(&status.as_u16()),
                "{} of another organisation: {status} {body}",
                operation.id
            );
            assert!(
                !body.to_string().contains(&world.theirs.secret_name),
                "{} tells of another organisation: {body}",
                operation.id
            );
        }
    }
    assert_eq!(
        world.theirs().await,
        before,
        "something of another organisation changed"
    );
    // The entries are right: whoever may, can. Otherwise a refusal above would prove nothing.
    for operation in TABLE {
        let documented = documented
            .iter()
            .find(|documented| documented.id == operation.id)
            .expect("an operation");
        if operation.needs == Needs::Nothing {
            continue;
        }
        let right = world.right(operation.needs);
        let (status, body) = attempt(documented, operation, right, &world.ours, &world.ours).await;
        attempts += 1;
        assert!(
            operation.allowed.contains(&status.as_u16()),
            "{} with every right: {status} {body}",
            operation.id
        );
    }
    // Past the test's harness, which keeps what a test prints: whoever reads the run sees how much was tried.
    drop(writeln!(
        std::io::stderr(),
        "coverage: {operations} operations, {attempts} attempts"
    ));
    assert_eq!(json!(operations), json!(documented.len()));
}
