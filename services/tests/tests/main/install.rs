//! The install script in a clean Debian: it leaves a running, enrolled agent, and uninstalling leaves nothing.

use std::io::Write;
use std::process::{Command, Stdio};

use dashfleet_tests::Product;
use dashfleet_tests::product::{program, repository};

/// What `deploy/check/chroot.sh` ends with where it cannot run.
const NOT_RUN: i32 = 77;

#[test]
fn the_install_script_leaves_an_agent_at_work_and_uninstall_leaves_nothing() {
    let product = Product::start(1);
    let agent = program("dashfleet-agent");
    let output = Command::new("bash")
        .arg(repository().join("deploy/check/chroot.sh"))
        .arg("--data")
        .arg(product.folder())
        .arg("--binaries")
        .arg(agent.parent().expect("a folder"))
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    println!("{said}{complained}");
    if output.status.code() == Some(NOT_RUN) {
        // Past the capture of tests' output: what was not shown must not look as if it had been.
        drop(writeln!(std::io::stderr(), "install: {complained}"));
        return;
    }
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("PASSED"), "{said}");
}
