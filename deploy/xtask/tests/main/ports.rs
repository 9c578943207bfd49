//! The choice of ports.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;

use launcher::ports::{Choice, Ports, is_free};

use crate::Scratch;

/// A listener on a free port: one that neither connections of other tests nor products get, which would take it once it is let go.
fn busy() -> (TcpListener, u16) {
    let begin = RandomState::new().build_hasher().finish() % 4_000;
    let begin = 15_000 + u16::try_from(begin).unwrap();
    (begin..19_999)
        .find_map(|port| Some((TcpListener::bind(("127.0.0.1", port)).ok()?, port)))
        .expect("a free port")
}

#[test]
fn a_busy_port_is_replaced_by_a_free_one_and_said() {
    let scratch = Scratch::new();
    let (_listener, taken) = busy();
    assert!(!is_free(taken));
    let mut ports = Ports::open(&scratch.join("ports.json")).unwrap();
    let choice = ports.choose("gateway", None, taken).unwrap();
    assert_eq!(choice.instead_of, Some(taken));
    assert_ne!(choice.port, taken);
    assert!(is_free(choice.port));
    assert!(
        (20_000..30_000).contains(&choice.port),
        "within the range of outgoing connections"
    );
}

#[test]
fn the_same_ports_are_chosen_at_the_next_start() {
    let scratch = Scratch::new();
    let path = scratch.join("ports.json");
    let (listener, taken) = busy();
    let first = Ports::open(&path)
        .unwrap()
        .choose("nats", None, taken)
        .unwrap()
        .port;
    drop(listener);
    let again = Ports::open(&path)
        .unwrap()
        .choose("nats", None, taken)
        .unwrap();
    assert_eq!(
        again,
        Choice {
            port: first,
            instead_of: None
        }
    );
}

#[test]
fn an_asked_for_port_wins_over_the_remembered_one() {
    let scratch = Scratch::new();
    let path = scratch.join("ports.json");
    Ports::open(&path)
        .unwrap()
        .choose("gateway", None, 0)
        .unwrap();
    let (listener, asked) = busy();
    drop(listener);
    let choice = Ports::open(&path)
        .unwrap()
        .choose("gateway", Some(asked), 8080)
        .unwrap();
    assert_eq!(
        choice,
        Choice {
            port: asked,
            instead_of: None
        }
    );
}

#[test]
fn two_processes_of_one_product_never_get_the_same_port() {
    let scratch = Scratch::new();
    let mut ports = Ports::open(&scratch.join("ports.json")).unwrap();
    let (listener, wanted) = busy();
    drop(listener);
    let first = ports.choose("action-admin", None, wanted).unwrap().port;
    let second = ports.choose("action-2-admin", None, wanted).unwrap().port;
    assert_eq!(first, wanted);
    assert_ne!(second, first);
    assert_eq!(ports.choose("action-admin", None, 0).unwrap().port, first);
}

#[test]
fn two_products_that_start_at_once_never_get_the_same_port() {
    let scratch = Scratch::new();
    let (listener, wanted) = busy();
    drop(listener);
    let mut first = Ports::open(&scratch.join("first.json")).unwrap();
    let mut second = Ports::open(&scratch.join("second.json")).unwrap();
    assert_eq!(first.choose("gateway", None, wanted).unwrap().port, wanted);
    // Nobody listens yet, and still it is taken.
    assert!(is_free(wanted));
    assert_eq!(
        second.choose("gateway", None, wanted).unwrap().instead_of,
        Some(wanted)
    );
    drop(first);
    let third = Ports::open(&scratch.join("third.json"))
        .unwrap()
        .choose("gateway", None, wanted);
    assert_eq!(third.unwrap().port, wanted);
}
