//! TLS: the name goes into SNI and is what the certificate must be for, wherever the connection goes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;

use egress::{Client, EgressError, Rules};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::Folder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::server::{Names, get};

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const CURVE: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
];

/// An authority, and a certificate of its for this name: `authority.pem`, `server.pem`, `server.key`.
fn certificates(folder: &Path, name: &str) {
    let authority = [
        "-days",
        "2",
        "-subj",
        "/CN=authority",
        "-keyout",
        "authority.key",
        "-out",
        "authority.pem",
    ];
    openssl(
        folder,
        &[&["req", "-x509"][..], &CURVE, &authority].concat(),
    );
    let server = [
        "-subj",
        "/CN=server",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    ];
    openssl(folder, &[&["req"][..], &CURVE, &server].concat());
    std::fs::write(folder.join("names"), format!("subjectAltName=DNS:{name}\n")).unwrap();
    let signed = [
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "authority.pem",
        "-CAkey",
        "authority.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    ];
    openssl(folder, &signed);
}

/// A server with that certificate; it remembers the names that clients said.
async fn server(folder: &Path) -> (u16, Arc<Mutex<Vec<Option<String>>>>) {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(folder.join("server.pem"))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = Arc::new(Mutex::new(Vec::new()));
    let names = said.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let name = stream.get_ref().1.server_name().map(ToOwned::to_owned);
            names.lock().unwrap().push(name);
            let mut request = [0; 4096];
            drop(stream.read(&mut request).await);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsafe";
            drop(stream.write_all(answer).await);
            drop(stream.shutdown().await);
        }
    });
    (port, said)
}

#[tokio::test]
async fn the_name_is_what_is_said_and_what_the_certificate_must_be_for() {
    let folder = Folder::new("egress");
    certificates(folder.path(), "shop.example");
    let (port, said) = server(folder.path()).await;
    let names = Names::default()
        .with("shop.example", &[&["127.0.0.1"]])
        .with("other.example", &[&["127.0.0.1"]]);
    let rules = Rules::read("127.0.0.1", "").unwrap();
    let authority = std::fs::read(folder.path().join("authority.pem")).unwrap();
    let trusting = Client::with_resolver(rules.clone(), Some(&authority), names.clone()).unwrap();
    let to = |host: &str| {
        let mut request = get(host, port, "/");
        request.url = request.url.replacen("http", "https", 1);
        request
    };
    let response = trusting.fetch(to("shop.example")).await.unwrap();
    assert_eq!(&response.body[..], b"safe");
    assert_eq!(*said.lock().unwrap(), [Some("shop.example".to_owned())]);
    let foreign = trusting.fetch(to("other.example")).await;
    assert!(
        matches!(foreign, Err(EgressError::Tls { .. })),
        "{foreign:?}"
    );
    let stranger = Client::with_resolver(rules, None, names).unwrap();
    let untrusted = stranger.fetch(to("shop.example")).await;
    assert!(
        matches!(untrusted, Err(EgressError::Tls { .. })),
        "{untrusted:?}"
    );
}

#[test]
fn a_file_without_certificates_is_refused() {
    for bad in [
        &b""[..],
        b"nothing",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let refused = Client::new(Rules::default(), Some(bad));
        assert!(matches!(refused, Err(EgressError::Setup(_))), "{refused:?}");
    }
}
