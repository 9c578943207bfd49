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

#[tokio::test]
async fn the_install_scripts_are_open_and_say_where_and_whose_orders() {
    let world = World::new().await;
    for path in ["/install.sh", "/install.ps1"] {
        let script = world.get_as("", path).await;
        assert_eq!(script.status, 200, "{}", script.text);
        assert!(script.text.contains(&world.base) && script.text.contains("'0123abcd'"));
        for place in ["@URL@", "@ACTION_KEY@", "@BINARIES@", "@UNIT@", "@LAUNCHD@"] {
            assert!(!script.text.contains(place), "{place} in {path}");
        }
        assert!(
            script.text.contains("does not offer the agent's program") || path.ends_with("ps1")
        );
    }
    let bad = world
        .send("GET", "/install.sh", &[("host", b"a'b$(id)")], "")
        .await;
    assert!((400..500).contains(&bad.status) && !bad.text.contains("$(id)"));
    let missing = world
        .get_as("", "/download/dashfleet-agent-linux-x86_64")
        .await;
    assert_eq!(missing.status, 404);
    assert!(missing.text.contains("DASHFLEET_AGENT_BINARIES"));
}

#[tokio::test]
async fn programs_come_from_the_folder_that_is_configured_and_from_no_other() {
    let folder = testkit::Folder::new("binaries");
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    std::fs::write(
        folder.path().join("dashfleet-agent-linux-x86_64"),
        "program",
    )
    .unwrap();
    std::fs::write(folder.path().join(".hidden"), "secret").unwrap();
    let path = folder.path().display().to_string();
    let world = World::with(
        crate::world::patience(),
        &[
            ("DASHFLEET_AGENT_BINARIES", path.as_str()),
            ("DASHFLEET_PUBLIC_URL", "https://fleet.example.com/"),
        ],
    )
    .await;
    let script = world.get_as("", "/install.sh").await;
    assert!(
        script
            .text
            .contains("binaries='https://fleet.example.com/download'")
    );
    let program = world
        .get_as("", "/download/dashfleet-agent-linux-x86_64")
        .await;
    assert_eq!((program.status, program.text.as_str()), (200, "program"));
    for name in [".hidden", "inner", "..%2Fsecret", "..%5Csecret", "nothing"] {
        let refused = world.get_as("", &format!("/download/{name}")).await;
        assert_eq!(refused.status, 404, "{name}");
    }
}
