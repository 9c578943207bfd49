//! Servers are tried first to last, at each return from the first again, and one that a firewall hides costs little.

use std::time::{Duration, Instant};

use bus::{Bus, BusConfig, BusState};
use testkit::{Nats, eventually};
use tokio::net::{TcpSocket, TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(nats: &Nats, urls: Vec<String>) -> Bus {
    let config = BusConfig::service(urls, None, nats.seed("action"), "action");
    Bus::connect(config).await.unwrap()
}

async fn is_at(bus: &Bus, nats: &Nats) {
    eventually("it is connected there", PATIENCE, || async {
        (bus.server() == Some(nats.url())).then_some(())
    })
    .await;
}

/// An address that answers no connection at all, as behind a firewall that drops: its queue is full.
async fn hidden() -> (String, Vec<TcpStream>, tokio::net::TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await
    {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue is never full");
    }
    (format!("nats://{address}"), waiting, listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_its_server_begins_with_the_first_again() {
    let mut servers = Nats::start_cluster(2).await;
    let urls = vec![servers[0].url(), servers[1].url()];
    let bus = connect(&servers[0], urls).await;
    is_at(&bus, &servers[0]).await;
    servers[0].kill();
    is_at(&bus, &servers[1]).await;
    // The first is back, and nobody leaves a connection that stands for it.
    servers[0].launch_again();
    tokio::time::sleep(Duration::from_secs(2)).await;
    is_at(&bus, &servers[1]).await;
    servers[1].kill();
    is_at(&bus, &servers[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_firewall_hides_does_not_hold_up_the_others() {
    let mut nats = Nats::start().await;
    let (hidden, _waiting, _listener) = hidden().await;
    let nowhere = "nats://nowhere.invalid:4222".to_owned();
    let bus = connect(&nats, vec![nowhere, hidden, nats.url()]).await;
    let began = Instant::now();
    is_at(&bus, &nats).await;
    assert!(
        began.elapsed() < Duration::from_secs(12),
        "{:?}",
        began.elapsed()
    );
    for n in 2..4 {
        nats.kill_and_restart().await;
        let began = Instant::now();
        let mut state = bus.state();
        let back = state.wait_for(|state| *state == BusState::Connected(n));
        tokio::time::timeout(PATIENCE, back)
            .await
            .expect("it comes back")
            .unwrap();
        is_at(&bus, &nats).await;
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
    }
}
