//! The handlers that are always there: [`noop`], [`sleep`], [`http_check`], [`http_request`] ([`http`] is what these two share),
//! [`action`]. What each takes is read by [`domain::builtin`]. The scheduler has looked at it in the same way; here it is looked at
//! again, for the job may be another by now.

use domain::builtin::{Builtin, ConfigError};

use crate::handler::{Failure, Handlers};

pub mod action;
pub mod http;
pub mod http_check;
pub mod http_request;
pub mod noop;
pub mod sleep;

pub(crate) fn all() -> Handlers {
    Handlers::default()
        .with(Builtin::Noop.as_str(), noop::Noop)
        .with(Builtin::Sleep.as_str(), sleep::Sleep)
        .with(Builtin::HttpCheck.as_str(), http_check::HttpCheck)
        .with(Builtin::HttpRequest.as_str(), http_request::HttpRequest)
        .with(Builtin::Action.as_str(), action::Action)
}

/// What is wrong with a configuration is wrong in every attempt.
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::permanent(format!("config.{error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::io;
    use std::net::IpAddr;

    use domain::builtin::examples::{Example, examples};
    use domain::{OrgId, Timestamp};
    use egress::{Client, Request, Resolve, Rules};
    use futures::future::BoxFuture;

    use super::*;

    /// A resolver that knows no name, so that nothing goes out.
    struct Nowhere;

    impl Resolve for Nowhere {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            Box::pin(ready(Err::<Vec<IpAddr>, _>(io::Error::other(
                "nobody has this name",
            ))))
        }
    }

    /// What the handler makes of it: a request, if it is one that makes requests.
    fn read(example: &Example) -> Result<Option<Request>, Failure> {
        let (org, config) = (OrgId::new(), &example.config);
        match example.handler {
            Builtin::Noop => Ok(None),
            Builtin::Sleep => sleep::ms(config).map(|_| None),
            Builtin::HttpCheck => {
                http_check::request(org, config).map(|(request, _)| Some(request))
            }
            Builtin::HttpRequest => http_request::request(org, config).map(Some),
            Builtin::Action => {
                let now = Timestamp::now();
                action::create(config, now, now).map(|_| None)
            }
        }
    }

    #[tokio::test]
    async fn what_the_scheduler_accepts_can_run_and_what_it_refuses_fails_for_good() {
        let client = Client::with_resolver(Rules::default(), None, Nowhere).expect("a client");
        let mut asked = 0;
        for example in examples() {
            match (read(&example), example.wrong) {
                (Ok(None), None) => {}
                (Ok(Some(request)), None) => {
                    // All that it misses is somebody who answers.
                    let error = client.fetch(request).await.expect_err("nobody is there");
                    assert!(!error.is_lasting(), "{example:?}: {error}");
                    asked += 1;
                }
                (Err(failure), Some(path)) => {
                    let expected = format!("config.{path}: ");
                    assert!(
                        failure.permanent && failure.message.starts_with(&expected),
                        "{example:?}: {failure:?}"
                    );
                }
                (read, _) => panic!("{example:?}: {read:?}"),
            }
        }
        assert!(asked > 5, "{asked} requests");
    }

    #[test]
    fn each_has_its_handler() {
        for builtin in Builtin::ALL {
            let name = builtin.as_str();
            assert!(Handlers::builtin().get(name).is_some(), "{name}");
        }
    }
}
