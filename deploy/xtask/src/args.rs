//! The command line: a dozen options, read by hand so that the launcher needs no crate for it.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::replicas::Replicas;

/// What `cargo xtask help` prints.
pub const HELP: &str = "\
cargo xtask <command>

  up       build everything and run the whole product on this machine
             --data DIR      where everything lies (default: .dashfleet in the clone)
             --http PORT     the gateway's port (default: 8080)
             --replicas N    of each service (default: 1); `2,worker=3` says another number for one
             --detach        return once it runs; `down` stops it
             --release       optimised binaries
  down     stop it                                       [--data DIR]
  status   each process, its pid, port and health        [--data DIR]
  test     the whole suite, from a fresh clone
             --long          ledgers for three minutes instead of half a minute
  bench    the benches, or those named                   [NAME...]
  openapi  write openapi/openapi.json from the code      [--check]
  keys     make the keys of a deployment                 --dir DIR
  help     this text

Logs are in <data>/logs, addresses and credentials in <data>/dev.json.";

/// One command with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the product.
    Up(Up),
    /// Stop it.
    Down {
        /// Its folder; `None` is the default one.
        data: Option<PathBuf>,
    },
    /// Show it.
    Status {
        /// Its folder; `None` is the default one.
        data: Option<PathBuf>,
    },
    /// Run the suite.
    Test {
        /// With the long ledgers.
        long: bool,
    },
    /// Run benches.
    Bench {
        /// Which; empty means all.
        names: Vec<String>,
    },
    /// Write or check the OpenAPI document.
    Openapi {
        /// Check only.
        check: bool,
    },
    /// Make a deployment's keys.
    Keys {
        /// Where.
        dir: PathBuf,
    },
    /// Be the supervisor of `up --detach`. Not for people.
    Supervise {
        /// The product's folder.
        data: PathBuf,
    },
    /// Print the help text.
    Help,
}

/// The options of `up`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Up {
    /// The product's folder; `None` is the default one.
    pub data: Option<PathBuf>,
    /// The gateway's port, when it was asked for.
    pub http: Option<u16>,
    /// How many of each service, when it was asked for.
    pub replicas: Option<Replicas>,
    /// Return once it runs.
    pub detach: bool,
    /// Optimised binaries.
    pub release: bool,
}

/// Reads the arguments after `cargo xtask`.
pub fn parse(arguments: &[String]) -> Result<Command> {
    let Some((name, rest)) = arguments.split_first() else {
        return Ok(Command::Help);
    };
    if rest
        .iter()
        .any(|argument| argument == "--help" || argument == "-h")
    {
        return Ok(Command::Help);
    }
    let mut options = Options::new(name, rest);
    let command = match name.as_str() {
        "up" => parse_up(&mut options)?,
        "down" => Command::Down {
            data: options.value("--data")?.map(PathBuf::from),
        },
        "status" => Command::Status {
            data: options.value("--data")?.map(PathBuf::from),
        },
        "test" => Command::Test {
            long: options.flag("--long"),
        },
        "bench" => Command::Bench {
            names: options.names()?,
        },
        "openapi" => Command::Openapi {
            check: options.flag("--check"),
        },
        "keys" => Command::Keys {
            dir: options.required("--dir")?,
        },
        "supervise" => Command::Supervise {
            data: options.required("--data")?,
        },
        "help" | "--help" | "-h" => Command::Help,
        other => return Err(Error::Usage(format!("there is no command `{other}`"))),
    };
    options.finish()?;
    Ok(command)
}

fn parse_up(options: &mut Options) -> Result<Command> {
    let http = match options.value("--http")? {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(Error::Usage(format!("--http takes a port, not `{text}`"))),
        },
    };
    let replicas = match options.value("--replicas")? {
        None => None,
        Some(text) => match text.parse::<Replicas>() {
            Ok(replicas) => Some(replicas),
            Err(wanted) => return Err(Error::Usage(format!("--replicas takes {wanted}"))),
        },
    };
    Ok(Command::Up(Up {
        data: options.value("--data")?.map(PathBuf::from),
        http,
        replicas,
        detach: options.flag("--detach"),
        release: options.flag("--release"),
    }))
}

/// The arguments of one command that nobody has taken yet.
struct Options {
    command: String,
    left: Vec<String>,
}

impl Options {
    fn new(command: &str, arguments: &[String]) -> Self {
        Self {
            command: command.to_owned(),
            left: arguments.to_vec(),
        }
    }

    /// Takes a switch: whether it was given.
    fn flag(&mut self, name: &str) -> bool {
        let before = self.left.len();
        self.left.retain(|argument| argument != name);
        self.left.len() < before
    }

    /// Takes `--name VALUE` or `--name=VALUE`; the last one counts.
    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let mut found = None;
        let mut left = Vec::new();
        let mut arguments = std::mem::take(&mut self.left).into_iter();
        while let Some(argument) = arguments.next() {
            if argument == name {
                let missing = || Error::Usage(format!("{name} needs a value"));
                found = Some(arguments.next().ok_or_else(missing)?);
            } else if let Some(value) = argument
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='))
            {
                found = Some(value.to_owned());
            } else {
                left.push(argument);
            }
        }
        self.left = left;
        match found {
            Some(value) if value.is_empty() => Err(Error::Usage(format!("{name} needs a value"))),
            other => Ok(other),
        }
    }

    fn required(&mut self, name: &str) -> Result<PathBuf> {
        let missing = || Error::Usage(format!("`{}` needs {name}", self.command));
        let missing = missing();
        self.value(name)?.map(PathBuf::from).ok_or(missing)
    }

    /// Takes everything as plain names.
    fn names(&mut self) -> Result<Vec<String>> {
        match self.left.iter().find(|argument| argument.starts_with('-')) {
            Some(_) => self.finish().map(|()| Vec::new()),
            None => Ok(std::mem::take(&mut self.left)),
        }
    }

    fn finish(&self) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some(argument) => {
                let command = &self.command;
                Err(Error::Usage(format!(
                    "`{command}` does not take `{argument}`"
                )))
            }
        }
    }
}
