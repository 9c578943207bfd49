//! `dashfleet-bootstrap`: keys, database, bus. Each command can be run again.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dashfleet_bootstrap::{BootstrapError, bus, database, keys, pools};
use runtime::Reader;
use runtime::config::EXIT_CONFIG;

#[derive(Parser)]
#[command(
    version,
    about = "Makes what must be there before the first service starts."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the keys folder: seeds of all services and pools (DASHFLEET_SCHEDULER_POOLS), passwords of all database roles.
    Keys {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Put the next key for grants into use, and make a new next one. Then restart identity.
    RotateJwt {
        /// The keys folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Put a new key before those that seal secrets at rest; what is sealed from then on is sealed with it. Then restart
    /// what reads the file.
    RotateDataKey {
        /// The keys folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Make roles and database (DASHFLEET_DATABASE_ADMIN_URL: a superuser's URL), then migrate.
    Database {
        /// The keys folder, for the roles' passwords.
        #[arg(long)]
        keys: PathBuf,
    },
    /// Migrate (DASHFLEET_DATABASE_OWNER_URL).
    Migrate,
    /// Make streams and consumers (DASHFLEET_NATS_URLS, DASHFLEET_KEYS, DASHFLEET_SCHEDULER_POOLS).
    Bus,
    /// Print the bus server's configuration, made from the permission table and the list of pools (DASHFLEET_SCHEDULER_POOLS).
    NatsConfig,
}

async fn run(command: Command) -> Result<(), BootstrapError> {
    let mut reader = Reader::from_environment();
    match command {
        Command::Keys { dir } => keys::ensure(&dir, &pools::read(&mut reader)?),
        Command::RotateJwt { dir } => keys::rotate_jwt(&dir),
        Command::RotateDataKey { dir } => keys::rotate_data(&dir),
        Command::Database { keys } => database::ensure(&mut reader, &keys).await,
        Command::Migrate => database::migrate(&mut reader).await,
        Command::Bus => bus::ensure(&mut reader).await,
        Command::NatsConfig => {
            let pools = pools::read(&mut reader)?;
            print!("{}", contract::server_config::server_config(&pools));
            Ok(())
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashfleet-bootstrap: {error}");
            match error {
                BootstrapError::Config(_) => ExitCode::from(u8::try_from(EXIT_CONFIG).unwrap_or(1)),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
