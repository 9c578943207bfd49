//! The install scripts, and the agent's programs where the gateway has a folder of them. All of it is open: a script has
//! nothing in it that is secret, and the enrolment token comes from whoever runs it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::identity::ActionKeysGet;
use poem::endpoint::{BoxEndpoint, make};
use poem::http::{StatusCode, header};
use poem::{Body, EndpointExt, Request, Response};

use crate::error::Refused;
use crate::error::catalogue::Kind;
use crate::owners::Owners;
use crate::routes::Page;

const SHELL: &str = include_str!("install/install.sh");
const POWERSHELL: &str = include_str!("install/install.ps1");
const UNIT: &str = include_str!("../../../../deploy/systemd/dashfleet-agent.service");
const LAUNCHD: &str = include_str!("install/launchd.plist");
/// The longest name of a program.
const NAME_MAX: usize = 100;

/// Where the agent's programs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binaries {
    /// From a folder of this gateway's, under `/download/`.
    Folder(PathBuf),
    /// From there.
    Url(String),
}

/// What scripts say.
#[derive(Clone, Debug)]
pub struct Install {
    /// This installation as machines reach it; what the request names when absent.
    pub public_url: Option<String>,
    /// Where the agent's programs come from, if anywhere.
    pub binaries: Option<Binaries>,
    /// How long identity may take to say which key signs orders.
    pub patience: Duration,
}

/// The pages.
#[must_use]
pub fn all(owners: &Owners, install: Install) -> Vec<Page> {
    let install = Arc::new(install);
    let script = |template: &'static str| -> BoxEndpoint<'static> {
        let (owners, install) = (owners.clone(), install.clone());
        make(move |request: Request| {
            let (owners, install) = (owners.clone(), install.clone());
            async move {
                let filled = install.fill(template, &request, &owners).await;
                filled.map_err(poem::Error::from)
            }
        })
        .map_to_response()
        .boxed()
    };
    let folder = install.clone();
    let download = make(move |request: Request| {
        let folder = folder.clone();
        async move {
            let name = request.path_params::<String>().unwrap_or_default();
            folder.download(&name).await.map_err(poem::Error::from)
        }
    });
    vec![
        ("/install.sh", script(SHELL)),
        ("/install.ps1", script(POWERSHELL)),
        ("/download/:name", download.map_to_response().boxed()),
    ]
}

impl Install {
    async fn fill(
        &self,
        template: &str,
        request: &Request,
        owners: &Owners,
    ) -> Result<Response, Refused> {
        let url = match &self.public_url {
            Some(url) => url.clone(),
            None => format!("http://{}", host(request)?),
        };
        let keys = owners.read_open(&ActionKeysGet {}, self.patience).await?;
        let key = keys.fingerprints.first().cloned().unwrap_or_default();
        let binaries = match &self.binaries {
            None => String::new(),
            Some(Binaries::Folder(_)) => format!("{url}/download"),
            Some(Binaries::Url(from)) => from.clone(),
        };
        let script = template
            .replace("@UNIT@", UNIT.trim_end())
            .replace("@LAUNCHD@", LAUNCHD.trim_end())
            .replace("@URL@", &url)
            .replace("@ACTION_KEY@", &key)
            .replace("@BINARIES@", &binaries);
        Ok(Response::builder()
            .content_type("text/plain; charset=utf-8")
            .header(header::CACHE_CONTROL, "no-store")
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .body(script))
    }

    async fn download(&self, name: &str) -> Result<Response, Refused> {
        let Some(Binaries::Folder(folder)) = &self.binaries else {
            return Err(Refused::new(
                Kind::NotFound,
                "this installation does not offer the agent's program: DASHFLEET_AGENT_BINARIES of the gateway is not a folder",
            ));
        };
        let missing = || Refused::new(Kind::NotFound, "there is no such program");
        if !is_name(name) {
            return Err(missing());
        }
        let file = tokio::fs::File::open(folder.join(name))
            .await
            .map_err(|_| missing())?;
        let meta = file.metadata().await.map_err(|_| missing())?;
        if !meta.is_file() {
            return Err(missing());
        }
        Ok(Response::builder()
            .status(StatusCode::OK)
            .content_type("application/octet-stream")
            .header(header::CONTENT_LENGTH, meta.len())
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .body(Body::from_async_read(file)))
    }
}

/// A name that stays in its folder.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('.') && name.chars().all(plain)
}

/// The host that the request names, which becomes part of a script: nothing in it may mean anything to a shell.
fn host(request: &Request) -> Result<String, Refused> {
    let host = request
        .header(header::HOST)
        .or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str())
        })
        .unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '[' | ']');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(Refused::new(
            Kind::Invalid,
            "the host that was asked cannot be written into a script: set DASHFLEET_PUBLIC_URL of the gateway",
        ));
    }
    Ok(host.to_owned())
}
