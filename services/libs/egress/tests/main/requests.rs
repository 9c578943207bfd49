//! Requests to real servers: what goes out, what comes back, and what is refused.

use std::time::{Duration, Instant};

use bytes::Bytes;
use egress::{Client, EgressError, Method, Refusal, Request, Rules, Take};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::server::{Names, Server, answer, client, get};

const LOOPBACK: &str = "127.0.0.0/8";

#[tokio::test]
async fn the_loopback_is_refused_until_it_is_granted_and_nobody_is_connected_to() {
    let server = Server::start(|_| answer("200 OK", "", "inside")).await;
    let names = Names::default().with("shop.example", &[&["127.0.0.1"]]);
    for host in [
        "127.0.0.1",
        "shop.example",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
    ] {
        let refused = client("", &names)
            .fetch(get(host, server.port(), "/"))
            .await;
        assert!(
            matches!(refused, Err(EgressError::Refused(Refusal::NotPublic(_)))),
            "{host}: {refused:?}"
        );
    }
    assert!(server.heard().is_empty());
    for allow in [
        LOOPBACK.to_owned(),
        format!("shop.example:{}", server.port()),
    ] {
        let request = get("shop.example", server.port(), "/");
        let response = client(&allow, &names).fetch(request).await.unwrap();
        assert_eq!((response.status, &response.body[..]), (200, &b"inside"[..]));
    }
    assert_eq!(server.heard().len(), 2);
}

#[tokio::test]
async fn a_request_goes_out_as_it_was_asked_with_the_name_as_its_host() {
    let server = Server::start(|_| answer("201 Created", "x-said: so\r\n", "done")).await;
    let names = Names::default().with("shop.example", &[&["127.0.0.1"]]);
    let mut request = get("SHOP.example.", server.port(), "/a%20b/?q=1&r=|#part");
    request.method = Method::POST;
    request.headers = vec![
        ("Authorization".into(), "Bearer t".into()),
        ("X-Twice".into(), "1".into()),
        ("X-Twice".into(), "2".into()),
    ];
    request.body = Bytes::from_static(b"the body");
    let response = client(LOOPBACK, &names).fetch(request).await.unwrap();
    assert_eq!(response.status, 201);
    assert!(response.headers.contains(&("x-said".into(), "so".into())));
    assert_eq!(&response.body[..], b"done");
    let heard = server.heard().remove(0);
    let lower = heard.to_lowercase();
    assert!(
        heard.starts_with("POST /a%20b/?q=1&r=| HTTP/1.1\r\n"),
        "{heard}"
    );
    assert!(
        lower.contains(&format!("\r\nhost: shop.example:{}\r\n", server.port())),
        "{heard}"
    );
    assert!(lower.contains("\r\nauthorization: bearer t\r\n"), "{heard}");
    assert!(
        lower.contains("x-twice: 1") && lower.contains("x-twice: 2"),
        "{heard}"
    );
    assert!(
        !lower.contains("accept-encoding") && !lower.contains("cookie"),
        "{heard}"
    );
    assert!(heard.ends_with("\r\n\r\nthe body"), "{heard}");
    assert_eq!(names.asked(), ["shop.example"]);
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_address_that_was_judged_is_the_one_connected_to() {
    let server = Server::start(|_| answer("200 OK", "", "the first")).await;
    let names = Names::default().with("shop.example", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let client = client("127.0.0.1", &names);
    let response = client.fetch(get("shop.example", server.port(), "/")).await;
    assert_eq!(&response.unwrap().body[..], b"the first");
    assert_eq!(names.asked().len(), 1, "asked once for one connection");
    // The next connection asks again, and what it hears then is judged anew.
    let rebound = client.fetch(get("shop.example", server.port(), "/")).await;
    assert!(
        matches!(rebound, Err(EgressError::Refused(Refusal::NotPublic(_)))),
        "{rebound:?}"
    );
    assert_eq!(server.heard().len(), 1);
}

#[tokio::test]
async fn one_bad_address_among_good_ones_refuses_the_request() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let names = Names::default().with("shop.example", &[&["127.0.0.1", "10.0.0.1"]]);
    let refused = client("127.0.0.1", &names)
        .fetch(get("shop.example", server.port(), "/"))
        .await;
    assert!(
        matches!(refused, Err(EgressError::Refused(Refusal::NotPublic(_)))),
        "{refused:?}"
    );
    assert!(server.heard().is_empty());
}

#[tokio::test]
async fn an_address_that_does_not_answer_leaves_the_next_one() {
    let server = Server::start_at("127.0.0.2", |_| answer("200 OK", "", "second")).await;
    let names = Names::default().with("shop.example", &[&["127.0.0.1", "127.0.0.2"]]);
    let response = client(LOOPBACK, &names)
        .fetch(get("shop.example", server.port(), "/"))
        .await;
    assert_eq!(&response.unwrap().body[..], b"second");
}

#[tokio::test]
async fn a_port_that_nobody_named_is_refused_and_a_name_that_may_not_be_reached_is_not_resolved() {
    let names = Names::default().with("shop.example", &[&["127.0.0.1"]]);
    let request = Request::get(Uuid::now_v7(), "http://shop.example:5432/");
    let refused = client(LOOPBACK, &names).fetch(request).await;
    assert!(
        matches!(refused, Err(EgressError::Refused(Refusal::Port { .. }))),
        "{refused:?}"
    );
    let mut request = Request::get(Uuid::now_v7(), "http://shop.example/");
    request.policy = egress::Policy::only(Vec::new());
    let refused = client(LOOPBACK, &names).fetch(request).await;
    assert!(
        matches!(refused, Err(EgressError::Refused(Refusal::Host(_)))),
        "{refused:?}"
    );
    assert!(names.asked().is_empty());
}

#[tokio::test]
async fn an_answer_is_read_as_far_as_it_is_wanted() {
    let server = Server::start(|request| {
        if request.starts_with("GET /chunked") {
            let mut chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..64 {
                chunks.extend_from_slice(b"400\r\n");
                chunks.extend_from_slice(&[b'x'; 1024]);
                chunks.extend_from_slice(b"\r\n");
            }
            chunks.extend_from_slice(b"0\r\n\r\n");
            return chunks;
        }
        answer("200 OK", "", &"y".repeat(65_536))
    })
    .await;
    let client = client(LOOPBACK, &Names::default());
    for path in ["/whole", "/chunked"] {
        let ask = |take: Take| {
            let mut request = get("127.0.0.1", server.port(), path);
            request.take = take;
            client.fetch(request)
        };
        let whole = ask(Take::All(65_536)).await.unwrap();
        assert_eq!(
            (whole.body.len(), whole.truncated),
            (65_536, false),
            "{path}"
        );
        let refused = ask(Take::All(65_535)).await;
        assert!(
            matches!(refused, Err(EgressError::TooLarge(65_535))),
            "{path}: {refused:?}"
        );
        let first = ask(Take::First(1_000)).await.unwrap();
        assert_eq!((first.body.len(), first.truncated), (1_000, true), "{path}");
        let exact = ask(Take::First(65_536)).await.unwrap();
        assert_eq!(
            (exact.body.len(), exact.truncated),
            (65_536, false),
            "{path}"
        );
        let head = ask(Take::Head).await.unwrap();
        assert_eq!(
            (head.status, head.body.len(), head.truncated),
            (200, 0, true),
            "{path}"
        );
    }
}

#[tokio::test]
async fn compression_is_not_offered_and_bytes_count_as_they_come() {
    let server =
        Server::start(|_| answer("200 OK", "content-encoding: gzip\r\n", &"z".repeat(100))).await;
    let client = client(LOOPBACK, &Names::default());
    let response = client
        .fetch(get("127.0.0.1", server.port(), "/"))
        .await
        .unwrap();
    assert_eq!(response.body.len(), 100, "as it came, not what it would be");
    assert!(!server.heard()[0].to_lowercase().contains("accept-encoding"));
}

#[tokio::test]
async fn whoever_is_slow_is_left_after_the_time_limit_however_it_is_slow() {
    // One that says nothing, one that says a byte now and then, and one that stops in the middle.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let drips = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = [
        silent.local_addr().unwrap().port(),
        drips.local_addr().unwrap().port(),
    ];
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = drips.accept().await {
            tokio::spawn(async move {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
                drop(stream.write_all(head).await);
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
    });
    let client = client(LOOPBACK, &Names::default());
    for port in ports {
        let mut request = get("127.0.0.1", port, "/");
        request.limit = Duration::from_millis(300);
        let began = Instant::now();
        let left = client.fetch(request).await;
        assert!(matches!(left, Err(EgressError::Timeout(300))), "{left:?}");
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn what_answers_no_http_is_not_quoted() {
    let server = Server::start(|_| b"220 secret.internal ESMTP Postfix\r\n".to_vec()).await;
    let client = client(LOOPBACK, &Names::default());
    let failed = client
        .fetch(get("127.0.0.1", server.port(), "/"))
        .await
        .unwrap_err();
    assert!(matches!(failed, EgressError::Protocol { .. }), "{failed:?}");
    assert!(!failed.to_string().contains("secret"), "{failed}");
    let endless = Server::start(|_| {
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        for n in 0..10_000 {
            head.extend_from_slice(format!("x-{n}: y\r\n").as_bytes());
        }
        head
    })
    .await;
    let failed = client.fetch(get("127.0.0.1", endless.port(), "/")).await;
    assert!(
        matches!(failed, Err(EgressError::Protocol { .. })),
        "{failed:?}"
    );
}

/// Makes a request wrong.
type Edit = fn(&mut Request);

#[tokio::test]
async fn requests_that_cannot_be_made_say_which_part_of_them() {
    let client = client(LOOPBACK, &Names::default());
    let ask = |edit: Edit| {
        let mut request = get("127.0.0.1", 80, "/");
        edit(&mut request);
        client.fetch(request)
    };
    let cases: [(Edit, &str); 10] = [
        (|request| request.url = "nowhere".into(), "url: "),
        (|request| request.url = "http://".into(), "url: "),
        (
            |request| request.url = "http://a:b@127.0.0.1/".into(),
            "url: must not carry a user",
        ),
        (
            |request| request.url = format!("http://x/{}", "a".repeat(9_000)),
            "url: ",
        ),
        (
            |request| request.url = "data:text/plain,hello".into(),
            "url: ",
        ),
        (|request| request.method = Method::CONNECT, "method: "),
        (
            |request| request.headers.push(("Host".into(), "x".into())),
            "headers: `Host`",
        ),
        (
            |request| request.headers.push(("a b".into(), "x".into())),
            "headers: `a b`",
        ),
        (
            |request| request.headers.push(("a".into(), "x\r\ny: z".into())),
            "headers: the value of `a`",
        ),
        (
            |request| request.body = Bytes::from(vec![0; 1024 * 1024 + 1]),
            "body: ",
        ),
    ];
    for (edit, expected) in cases {
        let refused = ask(edit).await.unwrap_err();
        assert!(
            refused.to_string().starts_with(expected) && refused.is_lasting(),
            "{expected}: {refused}"
        );
    }
    let refused = ask(|request| request.url = "ftp://127.0.0.1/".into())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, EgressError::Refused(Refusal::Scheme(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_name_that_is_not_known_and_a_port_that_is_closed_are_said() {
    let client = client(LOOPBACK, &Names::default());
    let failed = client
        .fetch(get("nowhere.example", 80, "/"))
        .await
        .unwrap_err();
    assert_eq!(failed.to_string(), "`nowhere.example` cannot be resolved");
    let port = testkit::folder::free_port();
    let failed = client.fetch(get("127.0.0.1", port, "/")).await.unwrap_err();
    assert!(
        failed.to_string().contains("connection refused"),
        "{failed}"
    );
    assert!(!failed.is_lasting());
}

#[tokio::test]
async fn the_system_resolves_names_too() {
    let server = Server::start(|_| answer("200 OK", "", "here")).await;
    // Whatever `localhost` is here, it is granted as a place.
    let allow = format!("localhost:{}", server.port());
    let client = Client::new(Rules::read(&allow, "").unwrap(), None).unwrap();
    let response = client
        .fetch(get("localhost", server.port(), "/"))
        .await
        .unwrap();
    assert_eq!(&response.body[..], b"here");
}
