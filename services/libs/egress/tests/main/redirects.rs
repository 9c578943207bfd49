//! Redirects: each is looked at anew, and nothing secret goes along to another origin.

use bytes::Bytes;
use egress::{EgressError, Method, Refusal};

use super::server::{Names, Server, answer, client, get, redirect};

const FIRST: &str = "127.0.0.1";

#[tokio::test]
async fn a_redirect_to_what_is_not_public_is_refused() {
    for place in [
        "http://127.0.0.2:80/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://inside.example/",
        "//inside.example/",
    ] {
        let server = Server::start(move |_| redirect(place)).await;
        let names = Names::default().with("inside.example", &[&["192.168.0.1"]]);
        let refused = client(FIRST, &names)
            .fetch(get(FIRST, server.port(), "/"))
            .await;
        assert!(
            matches!(
                refused,
                Err(EgressError::Refused(
                    Refusal::NotPublic(_) | Refusal::Never(_)
                ))
            ),
            "{place}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_after_the_redirect_is_refused() {
    let server = Server::start(|_| redirect("/again")).await;
    let names = Names::default().with("shop.example", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let refused = client(FIRST, &names)
        .fetch(get("shop.example", server.port(), "/"))
        .await;
    assert!(
        matches!(refused, Err(EgressError::Refused(Refusal::NotPublic(_)))),
        "{refused:?}"
    );
    assert_eq!((server.heard().len(), names.asked().len()), (1, 2));
}

#[tokio::test]
async fn a_redirect_to_another_port_or_scheme_is_refused_unless_it_is_named() {
    let other = Server::start(|_| answer("200 OK", "", "other")).await;
    for (place, scheme) in [
        (format!("http://127.0.0.1:{}/", other.port()), false),
        ("ftp://127.0.0.1/".to_owned(), true),
    ] {
        let server = Server::start(move |_| redirect(&place)).await;
        let refused = client(FIRST, &Names::default())
            .fetch(get(FIRST, server.port(), "/"))
            .await;
        match refused {
            Err(EgressError::Refused(Refusal::Port { .. })) if !scheme => {}
            Err(EgressError::Refused(Refusal::Scheme(_))) if scheme => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(other.heard().is_empty());
}

#[tokio::test]
async fn credentials_stay_within_their_origin() {
    let other = Server::start(|_| answer("200 OK", "", "other")).await;
    let port = other.port();
    let server = Server::start(move |request| {
        if request.starts_with("GET /first") {
            redirect("/second")
        } else {
            redirect(&format!("http://127.0.0.1:{port}/third"))
        }
    })
    .await;
    let mut request = get(FIRST, server.port(), "/first");
    request.policy = request.policy.with_port(port);
    for (name, value) in [
        ("Authorization", "Bearer secret"),
        ("Cookie", "session=secret"),
        ("X-Api-Key", "secret"),
        ("Accept", "text/plain"),
    ] {
        request.headers.push((name.into(), value.into()));
    }
    let response = client(FIRST, &Names::default())
        .fetch(request)
        .await
        .unwrap();
    assert_eq!(response.url, format!("http://127.0.0.1:{port}/third"));
    let own = server.heard();
    assert_eq!(own.len(), 2);
    for heard in own {
        let lower = heard.to_lowercase();
        for name in [
            "authorization: ",
            "cookie: ",
            "x-api-key: ",
            "accept: text/plain",
        ] {
            assert!(lower.contains(name), "{name} in {heard}");
        }
    }
    let foreign = other.heard().remove(0).to_lowercase();
    assert!(!foreign.contains("secret"), "{foreign}");
    assert!(foreign.contains("accept: text/plain"), "{foreign}");
}

#[tokio::test]
async fn no_cookie_is_kept() {
    let server = Server::start(|request| {
        if request.starts_with("GET /set") {
            answer("302 Found", "set-cookie: a=b\r\nlocation: /next\r\n", "")
        } else {
            answer("200 OK", "", "")
        }
    })
    .await;
    let client = client(FIRST, &Names::default());
    for path in ["/set", "/next"] {
        client.fetch(get(FIRST, server.port(), path)).await.unwrap();
    }
    assert_eq!(server.heard().len(), 3);
    assert!(
        server
            .heard()
            .iter()
            .all(|heard| !heard.to_lowercase().contains("cookie"))
    );
}

#[tokio::test]
async fn five_redirects_are_followed_and_no_sixth() {
    let server = Server::start(|request| {
        let left: usize = request[5..6].parse().unwrap();
        match left {
            0 => answer("200 OK", "", "the end"),
            left => redirect(&format!("/{}", left - 1)),
        }
    })
    .await;
    let client = client(FIRST, &Names::default());
    let response = client.fetch(get(FIRST, server.port(), "/5")).await.unwrap();
    assert_eq!(&response.body[..], b"the end");
    let refused = client.fetch(get(FIRST, server.port(), "/6")).await;
    assert!(
        matches!(refused, Err(EgressError::Redirects(5))),
        "{refused:?}"
    );
    // Whoever wants none is given the redirect itself.
    let mut request = get(FIRST, server.port(), "/5");
    request.redirects = 0;
    let response = client.fetch(request).await.unwrap();
    assert_eq!(response.status, 302);
    assert!(response.headers.contains(&("location".into(), "/4".into())));
}

#[tokio::test]
async fn what_is_sent_changes_with_the_kind_of_redirect() {
    for (status, method) in [
        ("301 Moved Permanently", "GET"),
        ("302 Found", "GET"),
        ("303 See Other", "GET"),
        ("307 Temporary Redirect", "POST"),
        ("308 Permanent Redirect", "POST"),
    ] {
        let server = Server::start(move |request| {
            if request.contains(" /first ") {
                answer(status, "location: /second\r\n", "")
            } else {
                answer("200 OK", "", "")
            }
        })
        .await;
        let mut request = get(FIRST, server.port(), "/first");
        request.method = Method::POST;
        request.body = Bytes::from_static(b"body");
        request.headers = vec![("Content-Type".into(), "text/plain".into())];
        client(FIRST, &Names::default())
            .fetch(request)
            .await
            .unwrap();
        let second = server.heard().remove(1);
        assert!(
            second.starts_with(&format!("{method} /second")),
            "{status}: {second}"
        );
        let kept = method == "POST";
        assert_eq!(second.ends_with("\r\n\r\nbody"), kept, "{status}: {second}");
        assert_eq!(
            second.to_lowercase().contains("content-type"),
            kept,
            "{status}"
        );
    }
}
