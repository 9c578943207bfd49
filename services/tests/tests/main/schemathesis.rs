//! Schemathesis, which knows nothing of us but the document, on the running gateway: no 5xx, and no answer that the
//! document does not have.

use std::path::Path;
use std::process::Command;

use dashfleet_tests::product::repository;
use dashfleet_tests::{Product, TestAgent};

/// How many requests it makes up for each operation and phase.
const EXAMPLES: &str = "50";
/// What an answer must be.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

fn run(command: &mut Command) -> String {
    let output = command.output().expect("python3 is there");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}:\n{said}");
    said
}

/// The program, in an environment of its own, made once for each list of packages.
fn schemathesis() -> std::path::PathBuf {
    let list =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main/schemathesis/requirements.txt");
    let wanted = std::fs::read_to_string(&list).expect("the list of packages");
    let folder = repository().join("target/schemathesis-venv");
    let made_for = folder.join("made-for");
    if std::fs::read_to_string(&made_for).is_ok_and(|made| made == wanted) {
        return folder.join("bin/schemathesis");
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder));
    run(Command::new(folder.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--requirement",
        ])
        .arg(&list));
    std::fs::write(&made_for, wanted).expect("a file");
    folder.join("bin/schemathesis")
}

#[test]
fn whatever_is_asked_the_document_has_the_answer() {
    let program = schemathesis();
    // It asks as fast as it can.
    let product = Product::start_with(1, &[("DASHFLEET_REQUESTS_PER_SECOND", "100000")]);
    let dev = product.dev();
    let text = |name: &str| dev[name].as_str().expect("a text").to_owned();
    let mut agent = TestAgent::enroll(&product, "asked");
    agent.start();
    let said = run(Command::new(program)
        .arg("run")
        .arg(repository().join("openapi/openapi.json"))
        .args(["--url", &text("url")])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", text("apiKey")),
        ])
        .args([
            "--checks",
            CHECKS,
            "--max-examples",
            EXAMPLES,
            "--seed",
            "1",
        ])
        .args(["--phases", "examples,coverage,fuzzing", "--workers", "1"])
        .args([
            "--generation-database",
            "none",
            "--no-color",
            "--warnings",
            "off",
        ])
        .current_dir(&agent.folder));
    println!("{said}");
    agent.kill();
}
