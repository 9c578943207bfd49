//! Pages that are no part of the API: the document, the page that shows it, and the catalogue of refusals. Everything
//! comes from this server; the pages' policy allows nothing else.

use std::sync::Arc;

use bytes::Bytes;
use poem::endpoint::{BoxEndpoint, make_sync};
use poem::http::{HeaderValue, StatusCode, header};
use poem::middleware::Compression;
use poem::web::{CompressionAlgo, CompressionLevel, Path};
use poem::{EndpointExt, Request, Response, handler};

use crate::document;
use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::routes::Page;

/// The policy of pages. The page that shows the document sets styles on its elements.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; connect-src 'self'; \
     form-action 'none'; frame-ancestors 'none'; img-src 'self' data:; object-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'";

const DOCS: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DashFleet API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<noscript>This page needs JavaScript. The document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

/// Without a validator the page asks nobody else about the document.
const START: &str = "SwaggerUIBundle({\n    dom_id: '#ui',\n    url: '/openapi.json',\n    deepLinking: true,\n    \
     validatorUrl: null,\n});\n";

/// All pages.
#[must_use]
pub fn all() -> Vec<Page> {
    let swagger = document::swagger_page();
    let script = between(&swagger, "<script charset=\"UTF-8\">", "</script>");
    let style = between(&swagger, "<style charset=\"UTF-8\">", "</style>");
    vec![
        ("/", make_sync(|_| redirect("/docs")).boxed()),
        ("/openapi.json", file("application/json", document::text())),
        ("/docs", file(HTML, DOCS)),
        ("/docs/start.js", file(SCRIPT, START)),
        ("/docs/swagger-ui.js", file(SCRIPT, script)),
        (
            "/docs/swagger-ui.css",
            file("text/css; charset=utf-8", style),
        ),
        ("/problems", file(HTML, &catalogue_page())),
        ("/problems/:name", problem.boxed()),
    ]
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The framework brings the viewer inside of its own page, with scripts in the page itself; ours are files, so that
/// the policy can forbid the others.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    text.split_once(begin)
        .and_then(|(_, rest)| rest.split_once(end))
        .map_or("", |(inner, _)| inner)
}

/// A text that never changes while we run: compressed on the way, asked for again only when it changed.
fn file(content_type: &'static str, text: &str) -> BoxEndpoint<'static> {
    let body = Bytes::copy_from_slice(text.as_bytes());
    let tag = format!("W/\"{}\"", digest(text));
    let tag: Option<Arc<HeaderValue>> = HeaderValue::from_str(&tag).ok().map(Arc::new);
    make_sync(move |request: Request| {
        let known = request.headers().get(header::IF_NONE_MATCH);
        let mut response = if tag.is_some() && known == tag.as_deref() {
            StatusCode::NOT_MODIFIED.into()
        } else {
            page(content_type, body.clone())
        };
        if let Some(tag) = &tag {
            response.headers_mut().insert(header::ETAG, (**tag).clone());
        }
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    })
    .with(
        Compression::new()
            .algorithms([CompressionAlgo::GZIP])
            .with_quality(CompressionLevel::Fastest),
    )
    .map_to_response()
    .boxed()
}

fn digest(text: &str) -> String {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(text.as_bytes());
    hash.iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn page(content_type: &str, body: impl Into<poem::Body>) -> Response {
    Response::builder()
        .header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)
        .header(header::REFERRER_POLICY, "no-referrer")
        .content_type(content_type)
        .body(body)
}

fn redirect(to: &'static str) -> Response {
    Response::builder()
        .status(StatusCode::TEMPORARY_REDIRECT)
        .header(header::LOCATION, to)
        .finish()
}

#[handler]
fn problem(Path(name): Path<String>) -> poem::Result<Response> {
    let kind = Kind::of_name(&name)
        .ok_or_else(|| Refused::new(Kind::NotFound, "there is no such class of refusal"))?;
    Ok(page(HTML, html(kind.title(), &entry(kind))))
}

fn catalogue_page() -> String {
    let entries: String = Kind::ALL.into_iter().map(entry).collect();
    html("Refusals", &entries)
}

fn entry(kind: Kind) -> String {
    let text = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<h2 id=\"{name}\">{title}</h2>\n<p><code>{reference}</code>, status {status}</p>\n<p>{meaning}</p>\n",
        name = kind.name(),
        title = text(kind.title()),
        reference = kind.reference(),
        status = kind.status().as_u16(),
        meaning = text(kind.meaning()),
    )
}

fn html(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}
