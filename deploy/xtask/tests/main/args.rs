//! The command line.

use launcher::args::{Command, Up, parse};
use launcher::error::Error;

fn read(line: &str) -> Result<Command, Error> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&words)
}

#[test]
fn up_takes_all_its_options_in_both_forms() {
    let wanted = Up {
        data: Some("/tmp/x".into()),
        http: Some(9000),
        replicas: Some("3,worker=4".parse().unwrap()),
        detach: true,
        release: true,
    };
    let line = "up --data /tmp/x --http=9000 --replicas 3,worker=4 --detach --release";
    assert_eq!(read(line).unwrap(), Command::Up(wanted));
    assert_eq!(read("up").unwrap(), Command::Up(Up::default()));
}

#[test]
fn the_other_commands_are_read() {
    assert_eq!(
        read("down --data d").unwrap(),
        Command::Down {
            data: Some("d".into())
        }
    );
    assert_eq!(read("status").unwrap(), Command::Status { data: None });
    assert_eq!(read("test --long").unwrap(), Command::Test { long: true });
    let names = vec!["latency".to_owned(), "load".to_owned()];
    assert_eq!(
        read("bench latency load").unwrap(),
        Command::Bench { names }
    );
    assert_eq!(
        read("openapi --check").unwrap(),
        Command::Openapi { check: true }
    );
    assert_eq!(
        read("keys --dir k").unwrap(),
        Command::Keys { dir: "k".into() }
    );
    assert_eq!(read("").unwrap(), Command::Help);
    assert_eq!(read("up --help").unwrap(), Command::Help);
}

#[test]
fn what_is_wrong_is_refused_by_name_and_exits_64() {
    for (line, named) in [
        ("fly", "`fly`"),
        ("up --fast", "`--fast`"),
        ("up --http", "--http"),
        ("up --http 70000", "`70000`"),
        ("up --http 0", "`0`"),
        ("up --replicas 0", "`0`"),
        ("up --replicas 17", "`17`"),
        ("up --replicas 2,cook=3", "`cook`"),
        ("up --data=", "--data"),
        ("keys", "--dir"),
        ("down now", "`now`"),
        ("bench --all", "`--all`"),
    ] {
        let error = read(line).expect_err(line);
        assert_eq!(error.exit_code(), 64, "{line}");
        assert!(error.to_string().contains(named), "{line}: {error}");
    }
}
