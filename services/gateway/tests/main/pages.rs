//! Pages: everything from this server, under a policy that allows nothing else.

use dashfleet_gateway::document;

use crate::world::World;

#[tokio::test]
async fn the_documentation_comes_whole_from_this_server() {
    let world = World::new().await;
    let page = world.get_as("", "/docs").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    assert!(
        !page.text.contains("://") && !page.text.contains("<style"),
        "no other hosts, no style in the page"
    );
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'self'; "), "{policy}");
    let (before, style) = policy.split_once("style-src").unwrap();
    assert!(
        !before.contains("unsafe") && !style.contains(';'),
        "style-src is last, and only there: {policy}"
    );
    for part in page
        .text
        .split("src=\"")
        .chain(page.text.split("href=\""))
        .skip(1)
    {
        let file = part.split('"').next().unwrap();
        if !file.starts_with('/') {
            continue;
        }
        let reply = world.get_as("", file).await;
        assert_eq!(reply.status, 200, "{file}");
        assert!(!reply.text.is_empty(), "{file}");
        assert!(
            reply.headers.contains_key("content-security-policy"),
            "{file}"
        );
    }
    let script = world.get_as("", "/docs/swagger-ui.js").await;
    assert_eq!(
        script.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    assert!(script.text.len() > 1_000_000 && script.text.contains("SwaggerUIBundle"));
    assert!(
        world
            .get_as("", "/docs/swagger-ui.css")
            .await
            .text
            .contains(".swagger-ui")
    );
    assert!(
        world
            .get_as("", "/docs/start.js")
            .await
            .text
            .contains("validatorUrl: null")
    );
}

#[tokio::test]
async fn the_document_is_served_as_it_is_committed_and_not_sent_twice() {
    let world = World::new().await;
    let reply = world.get_as("", "/openapi.json").await;
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(reply.text == document::text());
    let tag = reply.header("etag").to_owned();
    let again = world
        .send(
            "GET",
            "/openapi.json",
            &[("if-none-match", tag.as_bytes())],
            "",
        )
        .await;
    assert_eq!((again.status, again.text.as_str()), (304, ""));
    let packed = world
        .send("GET", "/openapi.json", &[("accept-encoding", b"gzip")], "")
        .await;
    assert_eq!(packed.header("content-encoding"), "gzip");
}

#[tokio::test]
async fn the_root_leads_to_the_documentation() {
    let world = World::new().await;
    let reply = world.get_as("", "/").await;
    assert_eq!((reply.status, reply.header("location")), (307, "/docs"));
}
