//! A service's two roles: the tenant role, whose transactions see one organisation, and the system role, for
//! work across organisations (group commits, dispatch, look-ups), with its own policies.

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::Duration;

use domain::OrgId;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

use crate::error::DatabaseError;

/// How long a request waits for a free connection before it says that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that was idle for longer is tried before it is used: those that died with a server that was restarted
/// would each cost a request. A busy one is not: a broken one shows in the first statement, and a test before each
/// would cost a round trip.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// A statement of a service that runs longer is ended by the server.
const STATEMENT_TIMEOUT: &str = "15s";
/// A transaction whose service forgot it is ended by the server.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "30s";
/// Statements here are short: translating one to machine code takes longer than running it, and a large one of estimated cost
/// would be translated each time.
const JIT: (&str, &str) = ("jit", "off");
/// Services whose rows move from table to table: a table is empty one moment and has a hundred thousand rows the next. A plan
/// that was made while it was empty reads all of it, since there is nothing to read, and is kept until autovacuum has been there.
/// Their statements find rows by indexes, so they are told to.
const BY_INDEX: [&str; 1] = ["scheduler"];
/// How they are told. And each statement is planned once: its arrays say nothing that could make a better plan, and planning a
/// claim anew takes four times as long as a small claim itself.
const PLANNED_ONCE: [(&str, &str); 2] = [
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];
/// How soon the server ends the session of a host that is gone (seconds, and milliseconds for what it sent and nobody
/// took): a session's advisory lock lives as long.
const KEEPALIVES: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "15000"),
];
/// After this time the server is gone, with whatever it was asked: a little more than a statement may take. Nobody tells
/// when a host vanishes, and TCP itself would wait for a quarter of an hour.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long connections in use may take to come back at the end. Less than a whole service has for closing.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A service's pools.
#[derive(Clone, Debug)]
pub struct Pools {
    tenant: PgPool,
    system: PgPool,
}

/// A transaction. Dropped without [`Tx::commit`], it never was.
#[derive(Debug)]
pub struct Tx(Transaction<'static, Postgres>);

impl Deref for Tx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl Tx {
    /// Commits.
    ///
    /// # Errors
    /// [`DatabaseError::Ambiguous`] when the connection was lost meanwhile; a deferred constraint's refusal.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        self.0
            .commit()
            .await
            .map_err(|error| match DatabaseError::from(error) {
                DatabaseError::Unavailable(reason) => DatabaseError::Ambiguous(reason),
                other => other,
            })
    }
}

impl Pools {
    /// Makes the pools without connecting: a service starts while its database is away.
    ///
    /// # Errors
    /// [`DatabaseError::Bug`] when a URL cannot be parsed; the text has no password.
    pub fn connect(
        service: &str,
        url: &str,
        system_url: &str,
        connections: u32,
    ) -> Result<Self, DatabaseError> {
        let settings: &[_] = if BY_INDEX.contains(&service) {
            &PLANNED_ONCE
        } else {
            &[]
        };
        Ok(Self {
            tenant: pool(service, url, connections, settings)?,
            system: pool(
                &format!("{service}-system"),
                system_url,
                connections,
                settings,
            )?,
        })
    }

    /// A transaction that sees and writes one organisation only.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn tenant_tx(&self, org: OrgId) -> Result<Tx, DatabaseError> {
        self.tenant_begin("BEGIN", org).await
    }

    /// A transaction that sees one organisation only, and is dropped when all is read: nobody waits for its end, which
    /// travels with the message by which the pool tries a connection that comes back, and nobody gets that connection
    /// before. It is refused to write: what was never committed would be lost without a word.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn tenant_read(&self, org: OrgId) -> Result<Tx, DatabaseError> {
        self.tenant_begin("BEGIN READ ONLY", org).await
    }

    async fn tenant_begin(&self, begin: &str, org: OrgId) -> Result<Tx, DatabaseError> {
        // One round trip, and nothing to plan. The value is a UUID's own text, so nothing can be injected; whichever way
        // the transaction ends, the setting ends with it.
        let begin = format!("{begin}; SET LOCAL df.org = '{}'", org.0.hyphenated());
        let pool = self.tenant.clone();
        begun(async move { pool.begin_with(AssertSqlSafe(begin)).await }).await
    }

    /// A transaction across organisations.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn system_tx(&self) -> Result<Tx, DatabaseError> {
        let pool = self.system.clone();
        begun(async move { pool.begin().await }).await
    }

    /// Connections across organisations, for single statements.
    #[must_use]
    pub fn system(&self) -> &PgPool {
        &self.system
    }

    /// Whether the database answers now.
    pub async fn answers(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.system).await.is_ok()
    }

    /// Gives out no connection any more, and closes those that there are, after what runs on them; at most a second. Who still
    /// holds one then keeps it until it is dropped or the process ends: the server rolls back what was not committed.
    pub async fn close(&self) {
        let closed = async { tokio::join!(self.tenant.close(), self.system.close()) };
        if tokio::time::timeout(CLOSE_MAX, closed).await.is_err() {
            tracing::warn!("connections to the database are still in use and are left");
        }
    }
}

/// Begins a transaction, also when nobody waits for it any more: it is rolled back then. Given up halfway, its connection would
/// go back to the pool inside it, since sqlx counts it from the answer on, and whoever had it next would not commit.
async fn begun(
    begin: impl Future<Output = Result<Transaction<'static, Postgres>, sqlx::Error>> + Send + 'static,
) -> Result<Tx, DatabaseError> {
    match tokio::spawn(begin).await {
        Ok(transaction) => Ok(Tx(transaction?)),
        Err(error) => Err(DatabaseError::Unavailable(error.to_string())),
    }
}

/// What the server answers, unless it is gone. Who gives up must also let go of the connection: nothing that it says
/// later belongs to the next question.
///
/// # Errors
/// [`DatabaseError::Ambiguous`] when no answer came in time.
pub(crate) async fn answered<T, E: Into<DatabaseError>>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, DatabaseError> {
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(answered) => answered.map_err(Into::into),
        Err(_) => Err(DatabaseError::Ambiguous(format!(
            "no answer within {} s",
            ANSWER_MAX.as_secs()
        ))),
    }
}

fn pool(
    name: &str,
    url: &str,
    connections: u32,
    settings: &[(&'static str, &'static str)],
) -> Result<PgPool, DatabaseError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| DatabaseError::Bug("the database URL cannot be parsed".into()))?
        .application_name(&format!("dashfleet-{name}"))
        .statement_cache_capacity(256)
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION_TIMEOUT,
            ),
        ])
        .options([JIT])
        .options(settings.iter().copied())
        .options(KEEPALIVES);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(Duration::from_secs(1_800))
        .test_before_acquire(false)
        .before_acquire(|connection, idle| {
            Box::pin(async move {
                if idle.idle_for > IDLE_TRUSTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options))
}
