//! The tiny HTTP client.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use launcher::http::{get, parse};

#[test]
fn answers_with_and_without_chunks_are_read() {
    let plain = parse(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nhello").unwrap();
    assert_eq!((plain.status, plain.body.as_str()), (200, "hello"));
    let chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
    let chunked = parse(chunked).unwrap();
    assert_eq!(
        (chunked.status, chunked.body.as_str()),
        (404, "hello world")
    );
}

#[test]
fn what_is_cut_short_or_no_http_is_no_answer() {
    assert!(parse(b"").is_none());
    assert!(parse(b"INFO {}\r\n\r\n").is_none());
    assert!(parse(b"HTTP/1.1 200 OK\r\n").is_none());
    let cut = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhel";
    assert!(parse(cut).is_none());
}

#[test]
fn the_key_goes_along_and_a_silent_server_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0_u8; 1024];
        let count = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"a\":1}")
            .unwrap();
        drop(stream);
        let (silent, _) = listener.accept().unwrap();
        (
            String::from_utf8_lossy(&request[..count]).into_owned(),
            silent,
        )
    });
    let url = format!("http://{address}/path?x=1");
    let answer = get(&url, Some("dfk_x"), Duration::from_secs(5)).unwrap();
    assert_eq!(answer.json()["a"], 1);
    let started = Instant::now();
    assert!(get(&url, None, Duration::from_millis(300)).is_err());
    assert!(started.elapsed() < Duration::from_secs(3));
    let (request, _silent) = server.join().unwrap();
    assert!(
        request.starts_with("GET /path?x=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("Authorization: Bearer dfk_x\r\n"),
        "{request}"
    );
}
