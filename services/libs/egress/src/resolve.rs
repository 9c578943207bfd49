//! Names to addresses: the system's resolver, or another one in tests.

use std::io;
use std::net::IpAddr;

use futures::future::BoxFuture;

/// Resolves names. It is asked once for each connection, and what it said then is what is judged and connected to.
pub trait Resolve: Send + Sync {
    /// All addresses of a name, in the order in which they should be tried.
    ///
    /// # Errors
    /// When the name is not known or nobody answers.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // The port is not asked for, and the lookup wants one.
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in tokio::net::lookup_host((host, 0)).await? {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            Ok(addresses)
        })
    }
}
