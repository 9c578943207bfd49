//! What the processes are told.

use std::collections::BTreeSet;

use launcher::table::{SERVICES, on_loopback, replica_name};
use launcher::workspace::Workspace;

#[test]
fn the_bus_listens_on_the_loopback_address_only() {
    let root = Workspace::find().unwrap().root;
    let committed = std::fs::read_to_string(root.join("deploy/nats/server.conf")).unwrap();
    let own = on_loopback(&committed);
    assert!(own.contains("host: \"127.0.0.1\""), "{own}");
    for line in own.lines().filter(|line| line.contains("host:")) {
        assert!(line.contains("\"127.0.0.1\""), "{line}");
    }
}

#[test]
fn names_and_default_ports_of_services_are_their_own() {
    let names: BTreeSet<_> = SERVICES.iter().map(|one| one.name).collect();
    let ports: BTreeSet<_> = SERVICES.iter().map(|one| one.admin).collect();
    assert_eq!((names.len(), ports.len()), (SERVICES.len(), SERVICES.len()));
    let place = |name: &str| {
        let found = SERVICES.iter().position(|one| one.name == name);
        found.unwrap()
    };
    assert!(place("action") < place("scheduler") && place("scheduler") < place("worker"));
    assert_eq!(replica_name("action", 1), "action");
    assert_eq!(replica_name("action", 2), "action-2");
}
