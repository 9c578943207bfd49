//! The agents' way to the bus through the gateway's own port: what goes through, what is refused, and how it ends.

use std::time::{Duration, Instant};

use bus::{Bus, BusConfig};
use dashfleet_gateway::Patience;
use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Reply, World, patience};

const URLS: &str = "DASHFLEET_NATS_WEBSOCKET_URLS";
const PATIENCE: Duration = Duration::from_secs(20);

/// A world whose gateway is a way to its bus; the port of nats-server is known only once there is one.
async fn world(patience: Patience, extra: &[(&'static str, &str)]) -> World {
    World::with_bus(patience, |nats| {
        let mut pairs = vec![(URLS, nats.websocket_url())];
        pairs.extend(
            extra
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        pairs
    })
    .await
}

fn url(world: &World) -> String {
    world.base.replacen("http", "ws", 1) + "/nats"
}

/// A client of the bus by way of these servers, as the action service: it may publish and hear what the test needs.
async fn client(world: &World, urls: Vec<String>) -> Bus {
    let config = BusConfig::service(urls, None, world.nats.seed("action"), "action");
    Bus::connect(config).await.unwrap()
}

/// What goes there comes back, byte for byte.
async fn echoes(bus: &Bus, size: usize) {
    let payload: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
    let subject = "_INBOX.s.action.echo";
    let mut heard = bus.subscribe(subject).await.unwrap();
    bus.publish(subject.to_owned(), payload.clone())
        .await
        .unwrap();
    let message = tokio::time::timeout(PATIENCE, futures::StreamExt::next(&mut heard))
        .await
        .expect("in time")
        .unwrap();
    assert!(message.payload == payload, "{size} bytes");
}

/// An upgrade as agents ask for it; the head of the answer, and the connection.
async fn upgrade(world: &World, extra: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(world.base.trim_start_matches("http://"))
        .await
        .unwrap();
    let request = format!(
        "GET /nats HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut byte))
            .await
            .expect("in time")
            .unwrap();
        head.push(byte[0]);
    }
    (String::from_utf8(head).unwrap(), stream)
}

/// The same by a client that shows refusals.
async fn refused(world: &World) -> Reply {
    let headers: [(&str, &[u8]); 4] = [
        ("connection", b"Upgrade"),
        ("upgrade", b"websocket"),
        ("sec-websocket-version", b"13"),
        ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    world.send("GET", "/nats", &headers, "").await
}

fn is_problem(reply: &Reply, status: u16, words: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let problem = reply.json();
    assert_eq!(problem["instance"], "/nats");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{detail}");
}

async fn open_tunnels(world: &World) -> String {
    let metrics = world.client.get(format!("{}/metrics", world.admin));
    let text = metrics.send().await.unwrap().text().await.unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("dashfleet_gateway_nats_tunnels "))
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_bus_is_served_as_on_any_other_way() {
    let world = world(patience(), &[]).await;
    let closed = format!("nats://127.0.0.1:{}", testkit::folder::free_port());
    let bus = client(&world, vec![closed, url(&world)]).await;
    assert!(bus.wait_connected(PATIENCE).await);
    assert_eq!(bus.server(), Some(url(&world)), "the second of the list");
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000, 3_000_000] {
        echoes(&bus, size).await;
    }
    assert_eq!(open_tunnels(&world).await, "1");
    // The requests of others go on beside it, on connections of their own.
    assert_eq!(world.get_as("", "/api/status").await.status, 200);
    bus.drain().await;
    eventually("the tunnel is gone", PATIENCE, || async {
        (open_tunnels(&world).await == "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_websocket_is_told_what_it_must_be() {
    let world = world(patience(), &[]).await;
    let plain = world.get_as("", "/nats").await;
    is_problem(&plain, 400, "Upgrade: must be `websocket`");
    assert_eq!(plain.paths(), ["Upgrade"]);
    is_problem(&world.send("POST", "/nats", &[], "").await, 405, "method");
    assert_eq!(world.get_as("", "/nats/more").await.status, 404);
    for (missing, value, named) in [
        ("connection", "close", "Connection"),
        ("sec-websocket-version", "8", "Sec-Websocket-Version"),
        ("sec-websocket-key", "short", "Sec-Websocket-Key"),
    ] {
        let mut headers: Vec<(&str, &[u8])> = vec![
            ("connection", b"Upgrade"),
            ("upgrade", b"websocket"),
            ("sec-websocket-version", b"13"),
            ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        headers.retain(|(name, _)| *name != missing);
        headers.push((missing, value.as_bytes()));
        let reply = world.send("GET", "/nats", &headers, "").await;
        assert_eq!((reply.status, reply.paths()), (400, vec![named.to_owned()]));
    }
    // Nothing but the handshake goes on: a path of nats-server's own, or a credential, cannot be smuggled in.
    let (head, _stream) = upgrade(&world, "X-Other: 1\r\nCookie: a=b\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let head = head.to_lowercase();
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
}

#[tokio::test]
async fn there_is_no_way_where_none_is_configured() {
    let world = World::new().await;
    is_problem(&refused(&world).await, 404, URLS);
    is_problem(&world.get_as("", "/nats").await, 404, URLS);
}

#[tokio::test]
async fn tunnels_are_bounded_in_number_and_pace_and_who_is_refused_hears_why() {
    let limits = [
        ("DASHFLEET_NATS_TUNNELS", "2"),
        ("DASHFLEET_NATS_TUNNELS_PER_ADDRESS", "2"),
    ];
    let full = world(patience(), &limits).await;
    let (first, _one) = upgrade(&full, "").await;
    let (second, two) = upgrade(&full, "").await;
    assert!(first.contains(" 101 ") && second.contains(" 101 "));
    let reply = refused(&full).await;
    is_problem(&reply, 503, "holds 2 connections");
    assert_eq!(reply.header("retry-after"), "10");
    // The API has room of its own.
    assert_eq!(full.get_as("", "/api/status").await.status, 200);
    drop(two);
    eventually("there is room again", PATIENCE, || async {
        upgrade(&full, "").await.0.contains(" 101 ").then_some(())
    })
    .await;

    let limits = [("DASHFLEET_NATS_TUNNELS_PER_SECOND", "0")];
    let paced = world(patience(), &limits).await;
    let reply = refused(&paced).await;
    is_problem(&reply, 429, "more than 0 connections");
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn one_address_does_not_get_all_tunnels() {
    let limits = [
        ("DASHFLEET_NATS_TUNNELS", "8"),
        ("DASHFLEET_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let world = world(patience(), &limits).await;
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    // An IPv6 host has a whole /64 of addresses, and is one.
    let (first, one) = upgrade(&world, &from("2001:db8::1")).await;
    let (second, _two) = upgrade(&world, &from("2001:db8::2")).await;
    assert!(first.contains(" 101 ") && second.contains(" 101 "));
    let (third, _) = upgrade(&world, &from("2001:db8::3")).await;
    assert!(third.starts_with("HTTP/1.1 429 "), "{third}");
    assert!(third.to_lowercase().contains("retry-after: 10"), "{third}");
    let (other, _three) = upgrade(&world, &from("192.0.2.1")).await;
    assert!(other.contains(" 101 "), "{other}");
    drop(one);
    eventually("it has a place again", PATIENCE, || async {
        let (again, _) = upgrade(&world, &from("2001:db8::4")).await;
        again.contains(" 101 ").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bus_that_does_not_answer_is_said_in_time() {
    let short = Patience {
        tunnel_handshake: Duration::from_millis(300),
        ..patience()
    };
    // Takes connections and says nothing.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("ws://{}", deaf.local_addr().unwrap());
    let world = World::with(short, &[(URLS, &address)]).await;
    let began = Instant::now();
    let reply = refused(&world).await;
    is_problem(&reply, 503, "the bus does not take the connection");
    assert!(began.elapsed() < Duration::from_secs(3));
    drop(deaf);
    is_problem(&refused(&world).await, 503, "the bus does not take");

    // One of several is away: the others take it.
    let closed = format!("ws://127.0.0.1:{}", testkit::folder::free_port());
    let mixed = World::with_bus(patience(), |nats| {
        vec![(URLS, format!("{closed},{}", nats.websocket_url()))]
    })
    .await;
    for _ in 0..8 {
        assert!(upgrade(&mixed, "").await.0.contains(" 101 "));
    }
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_is_ended() {
    let short = Patience {
        tunnel_idle: Duration::from_millis(500),
        ..patience()
    };
    let world = world(short, &[]).await;
    let (_, mut stream) = upgrade(&world, "").await;
    let began = Instant::now();
    let mut said = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said))
        .await
        .expect("an end")
        .unwrap();
    // nats-server's greeting came; its first ping would be later than this.
    assert!(said.windows(5).any(|part| part == b"INFO "));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_gateway_ends_its_tunnels_and_the_end_of_the_bus_those_to_it() {
    let mut world = world(patience(), &[]).await;
    let bus = client(&world, vec![url(&world)]).await;
    assert!(bus.wait_connected(PATIENCE).await);
    world.nats.kill_and_restart().await;
    let mut state = bus.state();
    let again = state.wait_for(|state| *state == bus::BusState::Connected(2));
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("it comes back")
        .unwrap();
    echoes(&bus, 100).await;

    let began = Instant::now();
    world.end().await.expect("everything ends in time");
    assert!(began.elapsed() < Duration::from_secs(5));
    eventually("the client noticed", PATIENCE, || async {
        (!bus.is_connected()).then_some(())
    })
    .await;
}
