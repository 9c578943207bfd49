//! How many replicas of each service.

use launcher::folder::Launch;
use launcher::replicas::Replicas;

fn read(text: &str) -> Replicas {
    text.parse().unwrap()
}

#[test]
fn some_services_have_a_number_of_their_own() {
    let two = read("2,worker=3");
    let numbers = ["gateway", "scheduler", "worker"].map(|service| two.of(service));
    assert_eq!(numbers, [2, 2, 3]);
    let one = read("scheduler=2,worker=3");
    let numbers = ["gateway", "scheduler", "worker"].map(|service| one.of(service));
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(Replicas::default(), read("1"));
    for text in ["1", "2,worker=3", "1,scheduler=2,worker=16"] {
        assert_eq!(read(text).to_string(), text);
    }
    for (text, named) in [("2,worker=17", "`17`"), ("cook=2", "`cook`"), ("2,", "``")] {
        let refused = text.parse::<Replicas>().unwrap_err();
        assert!(refused.contains(named), "{text}: {refused}");
    }
}

#[test]
fn whoever_asks_for_more_takes_nothing_away() {
    let more = read("1,worker=3").or_more(&read("2,scheduler=4"));
    let numbers = ["gateway", "scheduler", "worker"].map(|service| more.of(service));
    assert_eq!(numbers, [2, 4, 3]);
    let same = read("2,worker=3");
    assert_eq!(same.or_more(&read("1,worker=2")), same);
}

#[test]
fn the_file_of_an_older_launcher_is_read() {
    let text = r#"{"root":"r","binaries":"b","natsServer":"n","postgresBinaries":"p","http":null,"replicas":2}"#;
    let launch: Launch = serde_json::from_str(text).unwrap();
    assert_eq!(launch.replicas, read("2"));
    let wanted = Launch {
        replicas: read("1,worker=3"),
        ..launch
    };
    let text = serde_json::to_string(&wanted).unwrap();
    assert_eq!(serde_json::from_str::<Launch>(&text).unwrap(), wanted);
}
