//! Which port each process listens on: the default where it is free, else another, and the same one at every start.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;

/// Replacements come from here: below the range from which the kernel takes the ports of outgoing connections, so that
/// none of those can take a service's port while the service is being restarted.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// The ports of one product, by what listens on them, remembered in `<data>/ports.json`.
#[derive(Debug)]
pub struct Ports {
    path: PathBuf,
    remembered: BTreeMap<String, u16>,
    chosen: BTreeMap<String, Promise>,
}

/// A chosen port. Until a server listens on it, and whenever that server is being restarted, only this keeps another
/// launcher from choosing it too: a socket name, which the kernel releases with this process.
#[derive(Debug)]
struct Promise {
    port: u16,
    _name: Option<UnixListener>,
}

/// A port, and the one that was wanted when that is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The port to use.
    pub port: u16,
    /// The busy one that it replaces.
    pub instead_of: Option<u16>,
}

impl Ports {
    /// Reads what earlier starts chose.
    pub fn open(path: &Path) -> Result<Self> {
        let remembered = files::read_json(path)?.unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            remembered,
            chosen: BTreeMap::new(),
        })
    }

    /// Chooses the port of `what` (once for each run): the asked-for one, else the remembered one, else the default
    /// (0: any free one); a busy port is replaced by a free one.
    pub fn choose(&mut self, what: &str, asked: Option<u16>, default: u16) -> Result<Choice> {
        if let Some(promise) = self.chosen.get(what) {
            return Ok(Choice {
                port: promise.port,
                instead_of: None,
            });
        }
        let wanted = asked
            .or_else(|| self.remembered.get(what).copied())
            .unwrap_or(default);
        let (promise, instead_of) = match self.promise(what, wanted) {
            Some(promise) => (promise, None),
            None => (self.any_free(what)?, Some(wanted).filter(|port| *port != 0)),
        };
        let choice = Choice {
            port: promise.port,
            instead_of,
        };
        self.chosen.insert(what.to_owned(), promise);
        self.remembered.insert(what.to_owned(), choice.port);
        files::replace_json(&self.path, &self.remembered)?;
        Ok(choice)
    }

    /// Takes the port when it is free and belongs to nothing else of the same product, also not to what does not run
    /// now.
    fn promise(&self, what: &str, port: u16) -> Option<Promise> {
        let of_another = self
            .remembered
            .iter()
            .any(|(name, other)| name != what && *other == port);
        if port == 0 || of_another {
            return None;
        }
        let name = SocketAddr::from_abstract_name(format!("dashfleet-port-{port}")).ok()?;
        let name = match UnixListener::bind_addr(&name) {
            Ok(name) => Some(name),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return None,
            // A sandbox without such names: the port itself still tells.
            Err(_) => None,
        };
        is_free(port).then_some(Promise { port, _name: name })
    }

    fn any_free(&self, what: &str) -> Result<Promise> {
        // Begin anywhere: the standard library's hash keys are random.
        let random = RandomState::new().build_hasher().finish() % u64::from(COUNT);
        let offset = u16::try_from(random).unwrap_or(0);
        (0..COUNT)
            .find_map(|step| self.promise(what, FIRST + (offset + step) % COUNT))
            .ok_or_else(|| Error::failed(format!("no port is free for {what}")))
    }
}

/// Whether nobody listens on this port of the loopback address.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
