//! Machines as lists and pages show them, and what agents say of themselves. All of it under row-level security.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contract::agent::{Inventory, Sample};
use contract::metrics::MachineSort;
use database::DatabaseError;
use domain::MachineId;
use domain::labels::{LabelFilter, Labels};
use sqlx::types::Json;
use sqlx::{PgConnection, Postgres};
use uuid::Uuid;

/// What the database says about the machine that speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may speak.
    Known,
    /// The mirror does not know it yet.
    Unknown,
    /// It was revoked.
    Revoked,
    /// It speaks over HTTP, and is quarantined.
    Quarantined,
}

// The pages of a list, one statement per order. Each has the same filters: `$1` status, `$2` health, `$3` labels that
// must be there, `$4` keys that must be, `$5` keys that must not, `$6` labels that must not be. `$7` and `$8` are where the
// page before ended, `$9` is the limit. What is absent is null, and the statements are planned for their values
// (`persistent(false)`): so an absent filter costs nothing, and the place in the list is an index condition.

/// By name.
pub const PAGE_BY_HOSTNAME: &str = "
    SELECT m.id, m.hostname FROM metrics.machines m
    WHERE ($1::text IS NULL OR m.status = $1)
        AND ($2::text IS NULL OR EXISTS (SELECT 1 FROM metrics.latest l WHERE l.org_id = m.org_id AND l.machine_id = m.id AND l.health_status = $2))
        AND ($3::jsonb IS NULL OR m.labels @> $3) AND ($4::text[] IS NULL OR m.labels ?& $4)
        AND ($5::text[] IS NULL OR NOT m.labels ?| $5) AND ($6::jsonb[] IS NULL OR NOT m.labels @> ANY ($6))
        AND ($7::text IS NULL OR (m.hostname, m.id) > ($7, $8))
    ORDER BY m.hostname, m.id LIMIT $9";
/// By name, the last first.
pub const PAGE_BY_HOSTNAME_DESC: &str = "
    SELECT m.id, m.hostname FROM metrics.machines m
    WHERE ($1::text IS NULL OR m.status = $1)
        AND ($2::text IS NULL OR EXISTS (SELECT 1 FROM metrics.latest l WHERE l.org_id = m.org_id AND l.machine_id = m.id AND l.health_status = $2))
        AND ($3::jsonb IS NULL OR m.labels @> $3) AND ($4::text[] IS NULL OR m.labels ?& $4)
        AND ($5::text[] IS NULL OR NOT m.labels ?| $5) AND ($6::jsonb[] IS NULL OR NOT m.labels @> ANY ($6))
        AND ($7::text IS NULL OR (m.hostname, m.id) < ($7, $8))
    ORDER BY m.hostname DESC, m.id DESC LIMIT $9";
/// By when it was last seen, the longest ago first.
pub const PAGE_BY_LAST_SEEN: &str = "
    SELECT m.id, l.last_seen_at FROM metrics.latest l JOIN metrics.machines m ON m.org_id = l.org_id AND m.id = l.machine_id
    WHERE ($1::text IS NULL OR m.status = $1)
        AND ($2::text IS NULL OR l.health_status = $2)
        AND ($3::jsonb IS NULL OR m.labels @> $3) AND ($4::text[] IS NULL OR m.labels ?& $4)
        AND ($5::text[] IS NULL OR NOT m.labels ?| $5) AND ($6::jsonb[] IS NULL OR NOT m.labels @> ANY ($6))
        AND ($7::timestamptz IS NULL OR (l.last_seen_at, l.machine_id) > ($7, $8))
    ORDER BY l.last_seen_at, l.machine_id LIMIT $9";
/// By when it was last seen, the latest first.
pub const PAGE_BY_LAST_SEEN_DESC: &str = "
    SELECT m.id, l.last_seen_at FROM metrics.latest l JOIN metrics.machines m ON m.org_id = l.org_id AND m.id = l.machine_id
    WHERE ($1::text IS NULL OR m.status = $1)
        AND ($2::text IS NULL OR l.health_status = $2)
        AND ($3::jsonb IS NULL OR m.labels @> $3) AND ($4::text[] IS NULL OR m.labels ?& $4)
        AND ($5::text[] IS NULL OR NOT m.labels ?| $5) AND ($6::jsonb[] IS NULL OR NOT m.labels @> ANY ($6))
        AND ($7::timestamptz IS NULL OR (l.last_seen_at, l.machine_id) < ($7, $8))
    ORDER BY l.last_seen_at DESC, l.machine_id DESC LIMIT $9";
/// By health, the unknown and the worst first.
pub const PAGE_BY_HEALTH: &str = "
    SELECT m.id, l.health_score FROM metrics.latest l JOIN metrics.machines m ON m.org_id = l.org_id AND m.id = l.machine_id
    WHERE ($1::text IS NULL OR m.status = $1)
        AND ($2::text IS NULL OR l.health_status = $2)
        AND ($3::jsonb IS NULL OR m.labels @> $3) AND ($4::text[] IS NULL OR m.labels ?& $4)
        AND ($5::text[] IS NULL OR NOT m.labels ?| $5) AND ($6::jsonb[] IS NULL OR NOT m.labels @> ANY ($6))
        AND ($7::smallint IS NULL OR (l.health_score, l.machine_id) > ($7, $8))
    ORDER BY l.health_score, l.machine_id LIMIT $9";
/// By health, the best first.
pub const PAGE_BY_HEALTH_DESC: &str = "
    SELECT m.id, l.health_score FROM metrics.latest l JOIN metrics.machines m ON m.org_id = l.org_id AND m.id = l.machine_id
    WHERE ($1::text IS NULL OR m.status = $1)
        AND ($2::text IS NULL OR l.health_status = $2)
        AND ($3::jsonb IS NULL OR m.labels @> $3) AND ($4::text[] IS NULL OR m.labels ?& $4)
        AND ($5::text[] IS NULL OR NOT m.labels ?| $5) AND ($6::jsonb[] IS NULL OR NOT m.labels @> ANY ($6))
        AND ($7::smallint IS NULL OR (l.health_score, l.machine_id) < ($7, $8))
    ORDER BY l.health_score DESC, l.machine_id DESC LIMIT $9";

// What is shown of a machine `m` and what is latest of it, `l`.
macro_rules! shown {
    () => {
        "SELECT m.id, m.change, m.hostname, m.display_name, m.notes, m.transport, m.status, m.quarantine_reason,
        m.labels, m.inventory, m.enrolled_at, l.last_seen_at, l.sample, l.health_score,
        CASE WHEN m.online AND m.unstable_until > now() THEN m.presence_reason || '; it came and went often of late' ELSE m.presence_reason END AS presence_reason
    "
    };
}

/// Machines in full.
pub const DETAILS: &str = concat!(
    shown!(),
    "FROM metrics.machines m JOIN metrics.latest l ON l.org_id = m.org_id AND l.machine_id = m.id WHERE m.id = ANY ($1)"
);

// The first page of a list without a filter, in full: what is asked for again and again. One statement for each order,
// planned once. The limit inside (`FIRST_MAX`) is what makes that good: the planner does not know `$1`, and would expect a
// tenth of all machines and read every one of a large organisation.

/// By name.
pub const FIRST_BY_HOSTNAME: &str = concat!(
    shown!(),
    "FROM (SELECT * FROM metrics.machines ORDER BY hostname, id LIMIT 201) m
    JOIN metrics.latest l ON l.org_id = m.org_id AND l.machine_id = m.id ORDER BY m.hostname, m.id LIMIT $1"
);
/// By name, the last first.
pub const FIRST_BY_HOSTNAME_DESC: &str = concat!(
    shown!(),
    "FROM (SELECT * FROM metrics.machines ORDER BY hostname DESC, id DESC LIMIT 201) m
    JOIN metrics.latest l ON l.org_id = m.org_id AND l.machine_id = m.id ORDER BY m.hostname DESC, m.id DESC LIMIT $1"
);
/// By when it was last seen, the longest ago first.
pub const FIRST_BY_LAST_SEEN: &str = concat!(
    shown!(),
    "FROM (SELECT * FROM metrics.latest ORDER BY last_seen_at, machine_id LIMIT 201) l
    JOIN metrics.machines m ON m.org_id = l.org_id AND m.id = l.machine_id ORDER BY l.last_seen_at, l.machine_id LIMIT $1"
);
/// By when it was last seen, the latest first.
pub const FIRST_BY_LAST_SEEN_DESC: &str = concat!(
    shown!(),
    "FROM (SELECT * FROM metrics.latest ORDER BY last_seen_at DESC, machine_id DESC LIMIT 201) l
    JOIN metrics.machines m ON m.org_id = l.org_id AND m.id = l.machine_id ORDER BY l.last_seen_at DESC, l.machine_id DESC LIMIT $1"
);
/// By health, the unknown and the worst first.
pub const FIRST_BY_HEALTH: &str = concat!(
    shown!(),
    "FROM (SELECT * FROM metrics.latest ORDER BY health_score, machine_id LIMIT 201) l
    JOIN metrics.machines m ON m.org_id = l.org_id AND m.id = l.machine_id ORDER BY l.health_score, l.machine_id LIMIT $1"
);
/// By health, the best first.
pub const FIRST_BY_HEALTH_DESC: &str = concat!(
    shown!(),
    "FROM (SELECT * FROM metrics.latest ORDER BY health_score DESC, machine_id DESC LIMIT 201) l
    JOIN metrics.machines m ON m.org_id = l.org_id AND m.id = l.machine_id ORDER BY l.health_score DESC, l.machine_id DESC LIMIT $1"
);
/// The most that those give.
const FIRST_MAX: i64 = 201;

/// Whether there is such a machine.
const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM metrics.machines WHERE id = $1)";
/// That its agent stops of its own will.
const SET_STOPPING: &str = "UPDATE metrics.machines SET stopping_at = now(), stopping_reason = $2 WHERE id = $1 AND revoked_at IS NULL";
/// That it was heard.
const SET_LAST_SEEN: &str =
    "UPDATE metrics.latest SET last_seen_at = greatest(last_seen_at, now()) WHERE machine_id = $1";

/// Which machines a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only in this status.
    pub status: Option<&'static str>,
    /// Only in this health.
    pub health: Option<&'static str>,
    /// Only with these labels.
    pub labels: LabelFilter,
}

impl Filter {
    /// Whether it lets all machines through.
    fn is_empty(&self) -> bool {
        self.status.is_none() && self.health.is_none() && self.labels == LabelFilter::default()
    }
}

/// By what a list is sorted: the value of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Its name.
    Hostname(String),
    /// When it was last seen.
    LastSeen(DateTime<Utc>),
    /// Its health score; -1 without a sample.
    Health(i16),
}

impl Key {
    fn of(sort: MachineSort, details: &Details) -> Self {
        match sort {
            MachineSort::Hostname | MachineSort::HostnameDesc => {
                Self::Hostname(details.hostname.clone())
            }
            MachineSort::LastSeen | MachineSort::LastSeenDesc => {
                Self::LastSeen(details.last_seen_at)
            }
            MachineSort::Health | MachineSort::HealthDesc => Self::Health(details.health_score),
        }
    }
}

/// A machine in full.
#[derive(Debug, sqlx::FromRow)]
#[allow(missing_docs)] // the columns of `shown`
pub struct Details {
    pub id: Uuid,
    pub change: i64,
    pub hostname: String,
    pub display_name: Option<String>,
    pub notes: Option<String>,
    pub transport: String,
    pub status: String,
    pub quarantine_reason: Option<String>,
    pub presence_reason: String,
    pub labels: Json<Labels>,
    pub inventory: Json<Inventory>,
    pub enrolled_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    pub sample: Option<Json<Sample>>,
    pub health_score: i16,
}

/// A page of machines of the transaction's organisation in full, each with the key by which they are sorted.
///
/// # Errors
/// [`DatabaseError`].
pub async fn list(
    connection: &mut PgConnection,
    sort: MachineSort,
    filter: &Filter,
    after: Option<(Key, MachineId)>,
    limit: i64,
) -> Result<Vec<(Key, Details)>, DatabaseError> {
    if after.is_none() && limit <= FIRST_MAX && filter.is_empty() {
        let found = first(connection, sort, limit).await?;
        let keyed = |details: Details| (Key::of(sort, &details), details);
        return Ok(found.into_iter().map(keyed).collect());
    }
    let places = places(connection, sort, filter, after, limit).await?;
    let ids: Vec<_> = places.iter().map(|(id, _)| id.0).collect();
    let found = details(connection, &ids).await?.into_iter();
    let mut found: HashMap<_, _> = found.map(|details| (details.id, details)).collect();
    let places = places.into_iter();
    Ok(places
        .filter_map(|(id, key)| Some((key, found.remove(&id.0)?)))
        .collect())
}

async fn first(
    connection: &mut PgConnection,
    sort: MachineSort,
    limit: i64,
) -> Result<Vec<Details>, DatabaseError> {
    let sql = match sort {
        MachineSort::Hostname => FIRST_BY_HOSTNAME,
        MachineSort::HostnameDesc => FIRST_BY_HOSTNAME_DESC,
        MachineSort::LastSeen => FIRST_BY_LAST_SEEN,
        MachineSort::LastSeenDesc => FIRST_BY_LAST_SEEN_DESC,
        MachineSort::Health => FIRST_BY_HEALTH,
        MachineSort::HealthDesc => FIRST_BY_HEALTH_DESC,
    };
    Ok(sqlx::query_as(sql)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}

/// The ids of a page's machines, and the keys by which they are sorted.
async fn places(
    connection: &mut PgConnection,
    sort: MachineSort,
    filter: &Filter,
    after: Option<(Key, MachineId)>,
    limit: i64,
) -> Result<Vec<(MachineId, Key)>, DatabaseError> {
    let sql = match sort {
        MachineSort::Hostname => PAGE_BY_HOSTNAME,
        MachineSort::HostnameDesc => PAGE_BY_HOSTNAME_DESC,
        MachineSort::LastSeen => PAGE_BY_LAST_SEEN,
        MachineSort::LastSeenDesc => PAGE_BY_LAST_SEEN_DESC,
        MachineSort::Health => PAGE_BY_HEALTH,
        MachineSort::HealthDesc => PAGE_BY_HEALTH_DESC,
    };
    let id = after.as_ref().map(|(_, id)| id.0);
    let key = after.map(|(key, _)| key);
    match sort {
        MachineSort::Hostname | MachineSort::HostnameDesc => {
            let key = key.and_then(|key| {
                if let Key::Hostname(name) = key {
                    Some(name)
                } else {
                    None
                }
            });
            page(connection, sql, filter, key, id, limit, Key::Hostname).await
        }
        MachineSort::LastSeen | MachineSort::LastSeenDesc => {
            let key = key.and_then(|key| {
                if let Key::LastSeen(at) = key {
                    Some(at)
                } else {
                    None
                }
            });
            page(connection, sql, filter, key, id, limit, Key::LastSeen).await
        }
        MachineSort::Health | MachineSort::HealthDesc => {
            let key = key.and_then(|key| {
                if let Key::Health(score) = key {
                    Some(score)
                } else {
                    None
                }
            });
            page(connection, sql, filter, key, id, limit, Key::Health).await
        }
    }
}

async fn page<K>(
    connection: &mut PgConnection,
    sql: &'static str,
    filter: &Filter,
    key: Option<K>,
    id: Option<Uuid>,
    limit: i64,
    wrap: fn(K) -> Key,
) -> Result<Vec<(MachineId, Key)>, DatabaseError>
where
    K: for<'q> sqlx::Encode<'q, Postgres>
        + for<'r> sqlx::Decode<'r, Postgres>
        + sqlx::Type<Postgres>
        + Send
        + Sync
        + Unpin
        + 'static,
{
    let labels = &filter.labels;
    let differs = || labels.differs.iter().map(Json).collect::<Vec<_>>();
    let rows: Vec<(Uuid, K)> = sqlx::query_as(sql)
        .bind(filter.status)
        .bind(filter.health)
        .bind((!labels.equals.is_empty()).then_some(Json(&labels.equals)))
        .bind((!labels.has.is_empty()).then_some(&labels.has))
        .bind((!labels.lacks.is_empty()).then_some(&labels.lacks))
        .bind((!labels.differs.is_empty()).then(differs))
        .bind(key)
        .bind(id)
        .bind(limit)
        .persistent(false)
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, key)| (id.into(), wrap(key)))
        .collect())
}

/// Machines of the transaction's organisation in full, in no order.
///
/// # Errors
/// [`DatabaseError`].
pub async fn details(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Details>, DatabaseError> {
    Ok(sqlx::query_as(DETAILS)
        .bind(ids)
        .fetch_all(connection)
        .await?)
}

/// Whether the transaction's organisation has such a machine.
///
/// # Errors
/// [`DatabaseError`].
pub async fn exists(
    connection: &mut PgConnection,
    machine: MachineId,
) -> Result<bool, DatabaseError> {
    Ok(sqlx::query_scalar(EXISTS)
        .bind(machine.0)
        .fetch_one(connection)
        .await?)
}

/// Notes that a machine's agent stops of its own will.
///
/// # Errors
/// [`DatabaseError`].
pub async fn set_stopping(
    connection: &mut PgConnection,
    machine: MachineId,
    reason: &str,
) -> Result<Standing, DatabaseError> {
    let set = sqlx::query(SET_STOPPING)
        .bind(machine.0)
        .bind(reason)
        .execute(&mut *connection)
        .await?;
    heard(connection, machine, set.rows_affected()).await
}

async fn heard(
    connection: &mut PgConnection,
    machine: MachineId,
    rows: u64,
) -> Result<Standing, DatabaseError> {
    if rows == 0 {
        return Ok(if exists(connection, machine).await? {
            Standing::Revoked
        } else {
            Standing::Unknown
        });
    }
    sqlx::query(SET_LAST_SEEN)
        .bind(machine.0)
        .execute(connection)
        .await?;
    Ok(Standing::Known)
}
