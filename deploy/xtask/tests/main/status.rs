//! The table of `status`, and other small texts.

use launcher::clock;
use launcher::commands::openapi::first_difference;
use launcher::commands::status::row;
use launcher::health::Probe;
use launcher::process::Identity;
use launcher::supervisor::record::Entry;
use launcher::supervisor::spec::Group;

#[test]
fn a_line_fits_80_columns_whatever_it_says() {
    let entry = Entry {
        name: "identity-16".to_owned(),
        kind: "identity".to_owned(),
        group: Group::Service,
        identity: Some(Identity {
            pid: 4_194_304,
            start: 1,
            boot: String::new(),
        }),
        since: 0,
        deaths: 123_456,
        port: Some(65_535),
        probe: Probe::Alive,
    };
    for health in [
        "ready",
        "a very long reason that no terminal of eighty columns could show",
    ] {
        let line = row(&entry, health);
        assert!(
            line.chars().count() <= 80,
            "{} columns: {line}",
            line.chars().count()
        );
    }
}

#[test]
fn times_are_what_they_should_be() {
    assert_eq!(clock::text_of(0), "1970-01-01T00:00:00Z");
    assert_eq!(clock::text_of(951_782_399), "2000-02-28T23:59:59Z");
    assert_eq!(clock::text_of(951_782_400), "2000-02-29T00:00:00Z");
    assert_eq!(clock::text_of(4_107_542_400), "2100-03-01T00:00:00Z");
    assert_eq!(clock::span_text(119), "119s");
    assert_eq!(clock::span_text(3600), "60m");
    assert_eq!(clock::span_text(7200), "2h");
    assert_eq!(clock::span_text(200_000), "2d");
}

#[test]
fn a_difference_of_documents_is_shown_by_its_first_line() {
    let text = first_difference(b"{\n  \"a\": 1\n}", b"{\n  \"a\": 2\n}");
    assert_eq!(text, "line 2: `\"a\": 1` became `\"a\": 2`");
    assert_eq!(first_difference(b"", b"{"), "line 1: nothing became `{`");
}
