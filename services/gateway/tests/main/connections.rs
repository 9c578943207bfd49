//! Connections: kept, cut off when they are slow, and finished at the end.

use std::time::{Duration, Instant};

use dashfleet_gateway::Patience;
use serde_json::json;
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::standin::{HERE, SLOW};
use crate::world::{GOOD, World, patience};

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.base.trim_start_matches("http://"))
        .await
        .unwrap()
}

/// Everything until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end too.
    drop(
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut text))
            .await
            .expect("the end"),
    );
    String::from_utf8_lossy(&text).into_owned()
}

/// One response with a length, leaving the connection open.
async fn response(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut byte = [0; 1];
        tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut byte))
            .await
            .expect("in time")
            .unwrap();
        text.push(byte[0]);
        if text.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(text).unwrap();
    let length = head.to_lowercase();
    let length = length
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next())
        .unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn post(path: &str, length: usize, extra: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {GOOD}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{extra}\r\n"
    )
}

#[tokio::test]
async fn a_connection_serves_many_requests_also_after_refusals() {
    let world = World::new().await;
    let mut stream = connect(&world).await;
    let body = json!({ "machineId": HERE, "kind": "ping", "payload": {} }).to_string();
    let good = post("/api/v1/actions", body.len(), "") + &body;
    let large = post("/api/v1/actions", 3 * 1024 * 1024, "");
    let unknown = "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(good.as_bytes()).await.unwrap();
        assert!(response(&mut stream).await.starts_with("HTTP/1.1 201"));
        stream.write_all(large.as_bytes()).await.unwrap();
        stream
            .write_all(&vec![b' '; 3 * 1024 * 1024])
            .await
            .unwrap();
        assert!(response(&mut stream).await.starts_with("HTTP/1.1 413"));
        stream.write_all(unknown.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; 100_000]).await.unwrap();
        assert!(response(&mut stream).await.starts_with("HTTP/1.1 404"));
    }
}

#[tokio::test]
async fn a_body_of_more_than_eight_megabytes_is_not_read_to_its_end() {
    let world = World::new().await;
    let mut stream = connect(&world).await;
    stream
        .write_all(post("/api/v1/actions", 1 << 40, "").as_bytes())
        .await
        .unwrap();
    let (mut read, mut write) = stream.split();
    let mut sent = 0_usize;
    let sending = async {
        while write.write_all(&[b' '; 64 * 1024]).await.is_ok() {
            sent += 64 * 1024;
        }
    };
    let mut answer = Vec::new();
    let reading = async { drop(read.read_to_end(&mut answer).await) };
    tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(sending, reading)
    })
    .await
    .expect("an end");
    // The kernel's buffers hold a few more.
    assert!(sent < 40 * 1024 * 1024, "{sent} bytes were taken");
}

#[tokio::test]
async fn who_waits_for_leave_to_send_a_body_too_large_is_told_no_at_once() {
    let world = World::new().await;
    let mut stream = connect(&world).await;
    let began = Instant::now();
    stream
        .write_all(
            post(
                "/api/v1/actions",
                5 * 1024 * 1024,
                "Expect: 100-continue\r\n",
            )
            .as_bytes(),
        )
        .await
        .unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 413"));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let short = Patience {
        first_request: Duration::from_millis(400),
        next_request: Duration::from_millis(800),
        body: Duration::from_millis(600),
        ..patience()
    };
    let world = World::with(short, &[]).await;
    let within = |limit: u64, began: Instant| {
        assert!(
            began.elapsed() < Duration::from_millis(limit),
            "{:?}",
            began.elapsed()
        );
    };

    // It says nothing.
    let (mut silent, began) = (connect(&world).await, Instant::now());
    assert_eq!(rest(&mut silent).await, "");
    within(2_000, began);

    // It never ends its head, a byte at a time.
    let (mut dripping, began) = (connect(&world).await, Instant::now());
    while began.elapsed() < Duration::from_secs(5) && dripping.write_all(b"G").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    within(2_500, began);

    // It keeps the connection and asks for nothing more.
    let (mut idle, began) = (connect(&world).await, Instant::now());
    idle.write_all(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(response(&mut idle).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut idle).await, "");
    within(3_000, began);

    // It promises a body and does not send it.
    let (mut promising, began) = (connect(&world).await, Instant::now());
    promising
        .write_all(post("/api/v1/actions", 100, "").as_bytes())
        .await
        .unwrap();
    let answer = response(&mut promising).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("/problems/timeout"),
        "{answer}"
    );
    within(2_000, began);
}

#[tokio::test]
async fn at_the_end_what_is_under_way_is_answered_and_nothing_new_begins() {
    let mut world = World::new().await;
    let mut idle = connect(&world).await;
    idle.write_all(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(response(&mut idle).await.starts_with("HTTP/1.1 200"));
    let body = json!({ "machineId": SLOW, "kind": "ping", "payload": {} }).to_string();
    let mut busy = connect(&world).await;
    busy.write_all((post("/api/v1/actions", body.len(), "") + &body).as_bytes())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;

    let running = world.running.take().unwrap();
    world.shutdown.begin();
    let ended = tokio::spawn(running.finished());
    let answer = rest(&mut busy).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("outcome-unknown"),
        "{answer}"
    );
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed");
    ended.await.unwrap().unwrap();
    let address = world.base.trim_start_matches("http://").to_owned();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn readiness_ends_before_the_service_does() {
    let mut world = World::with(
        Patience {
            linger: Duration::from_secs(2),
            ..patience()
        },
        &[],
    )
    .await;
    let running = world.running.take().unwrap();
    world.shutdown.begin();
    let ended = tokio::spawn(running.finished());
    eventually("it is not ready", Duration::from_secs(1), || async {
        let ready = world
            .client
            .get(format!("{}/readyz", world.admin))
            .send()
            .await;
        ready
            .map_or(true, |reply| !reply.status().is_success())
            .then_some(())
    })
    .await;
    let mut late = connect(&world).await;
    late.write_all(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(
        response(&mut late).await.starts_with("HTTP/1.1 200"),
        "who comes now is still served"
    );
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let slow = Patience {
        write: Duration::from_secs(60),
        body: Duration::from_secs(60),
        ..patience()
    };
    let mut world = World::with(slow, &[("DASHFLEET_SHUTDOWN_MS", "500")]).await;
    let mut stuck = connect(&world).await;
    stuck
        .write_all(post("/api/v1/actions", 100, "").as_bytes())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    world.end().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(rest(&mut stuck).await, "");
}

#[tokio::test]
async fn a_body_may_come_in_chunks() {
    let world = World::new().await;
    let body = json!({ "machineId": HERE, "kind": "ping", "payload": {} }).to_string();
    let mut stream = connect(&world).await;
    let head = post("/api/v1/actions", 0, "Transfer-Encoding: chunked\r\n")
        .replace("Content-Length: 0\r\n", "");
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in body.as_bytes().chunks(40) {
        stream
            .write_all(
                format!(
                    "{:x}\r\n{}\r\n",
                    chunk.len(),
                    String::from_utf8_lossy(chunk)
                )
                .as_bytes(),
            )
            .await
            .unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = response(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");

    // Without an end in sight it is refused once it is too large, and the connection goes on.
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 256 * 1024, " ".repeat(256 * 1024));
    for _ in 0..6 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 413"));
    stream
        .write_all(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_begin_with_it() {
    const SETTINGS: u8 = 4;
    let world = World::new().await;
    let mut stream = connect(&world).await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream
        .write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut frame = [0; 9];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut frame))
        .await
        .expect("in time")
        .unwrap();
    assert_eq!(frame[3], SETTINGS);
}

#[tokio::test]
async fn an_http_2_connection_that_asks_for_nothing_more_is_ended() {
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let short = Patience {
        next_request: Duration::from_millis(500),
        ..patience()
    };
    let world = World::with(short, &[]).await;
    let mut stream = connect(&world).await;
    // The preface, empty settings, and `GET /` in indexed header fields (RFC 7541, appendix A).
    let request = [0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84];
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &request,
    ] {
        stream.write_all(bytes).await.unwrap();
    }
    let (began, mut kinds) = (Instant::now(), Vec::new());
    let frames = async {
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut body = vec![0; length as usize];
            stream.read_exact(&mut body).await.unwrap();
            kinds.push(head[3]);
            if head[3] == PING {
                // Answered, as a client that lives does.
                let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], &body[..]].concat();
                stream.write_all(&answer).await.unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), frames)
        .await
        .expect("an end");
    assert!(kinds.contains(&1) && kinds.contains(&GOAWAY), "{kinds:?}");
    assert!(
        began.elapsed() > Duration::from_millis(500),
        "it was used until a moment ago"
    );
}

#[tokio::test]
async fn bodies_of_strangers_take_no_room_from_those_who_have_a_credential() {
    let world = World::new().await;
    let begin = |path: &str, length: usize| {
        let head = post(path, length, "").replace("Authorization: ", "X-Was: ");
        let world = &world;
        async move {
            let mut stream = connect(world).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            stream
        }
    };
    // More than all the room there is, if each could take what it likes.
    let mut slow = Vec::new();
    for _ in 0..300 {
        slow.push(begin("/api/v1/auth/login", 60 * 1024).await);
    }
    let mut greedy = begin("/api/v1/auth/login", 65 * 1024).await;
    greedy.write_all(&vec![b' '; 65 * 1024]).await.unwrap();
    let answer = response(&mut greedy).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let body = json!({ "machineId": HERE, "kind": "ping", "payload": {} }).to_string();
    let mut known = connect(&world).await;
    let padded = format!("{body}{}", " ".repeat(900 * 1024));
    let head = post("/api/v1/actions", padded.len(), "");
    known.write_all(head.as_bytes()).await.unwrap();
    known.write_all(padded.as_bytes()).await.unwrap();
    let answer = response(&mut known).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test]
async fn a_head_has_so_many_headers_and_bytes_and_no_more() {
    let world = World::new().await;
    let ask = |headers: String| {
        let world = &world;
        async move {
            let mut stream = connect(world).await;
            let head = format!("GET /api/status HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            // It may be cut off while it is still speaking.
            drop(stream.write_all(head.as_bytes()).await);
            let mut first = [0; 12];
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut first));
            drop(read.await.expect("in time"));
            String::from_utf8_lossy(&first).into_owned()
        }
    };
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("X-{n}: y\r\n"))
            .collect::<String>()
    };
    assert_eq!(ask(many(90)).await, "HTTP/1.1 200");
    assert_eq!(ask(many(110)).await, "HTTP/1.1 431");
    assert_eq!(
        ask(format!("X: {}\r\n", "y".repeat(50_000))).await,
        "HTTP/1.1 200"
    );
    assert_eq!(
        ask(format!("X: {}\r\n", "y".repeat(70_000))).await,
        "HTTP/1.1 431"
    );
}

#[tokio::test]
async fn a_request_names_one_host_and_presents_one_credential() {
    let world = World::new().await;
    let ask = |headers: String| {
        let world = &world;
        async move {
            let mut stream = connect(world).await;
            let head = format!("GET /api/v1/auth/me HTTP/1.1\r\n{headers}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let answer = response(&mut stream).await;
            answer.get(9..12).unwrap_or_default().to_owned()
        }
    };
    let good = format!("Authorization: Bearer {GOOD}\r\n");
    assert_eq!(ask(format!("Host: x\r\n{good}")).await, "200");
    assert_eq!(ask(good.clone()).await, "400");
    assert_eq!(ask(format!("Host: x\r\nHost: y\r\n{good}")).await, "400");
    assert_eq!(ask(format!("Host: x\r\nHost: x\r\n{good}")).await, "400");
    for other in ["Bearer dfk_other", "Basic eDp5", ""] {
        for both in [
            format!("Host: x\r\n{good}Authorization: {other}\r\n"),
            format!("Host: x\r\nAuthorization: {other}\r\n{good}"),
        ] {
            assert_eq!(ask(both.clone()).await, "401", "{both}");
        }
    }
}
