//! Asking servers whether they are ready.

use std::io::Write;
use std::net::TcpListener;

use launcher::health::Probe;

/// A server that sends these bytes to one client.
fn answering(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0_u8; 1024];
        let _read = std::io::Read::read(&mut stream, &mut request);
        stream.write_all(bytes).unwrap();
    });
    port
}

#[test]
fn a_recovering_database_is_not_ready() {
    assert_eq!(Probe::Postgres(answering(b"R....")).ask(), Ok(()));
    let recovering = Probe::Postgres(answering(b"E...C57P03"));
    assert_eq!(recovering.ask(), Err("starting up".to_owned()));
}

#[test]
fn a_service_says_why_it_is_not_ready() {
    let port = answering(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 13\r\n\r\nno database\r\n");
    assert_eq!(Probe::Ready(port).ask(), Err("no database".to_owned()));
    let port = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(Probe::Ready(port).ask(), Ok(()));
}

#[test]
fn nobody_listening_is_said_with_the_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(
        Probe::Nats(port).ask(),
        Err(format!("not listening on {port}"))
    );
}
