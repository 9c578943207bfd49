//! Sessions: connections of agents, written by group commit together with what follows for presence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use database::DatabaseError;
use database::group_commit::{Batch, Written};
use domain::{MachineId, OrgId};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::metrics::{Measure, Metrics};
use crate::store::presence::{self, PresenceChange};
use crate::store::server;
use crate::timing::Graces;

/// Connections that began. One that is known stays as it is: it may have ended already. The servers' clocks differ, and
/// a machine's connections are compared over all of them: a connection began as long ago by our clock as it had lasted
/// by its server's when that told of it.
const OPEN: &str = "
    INSERT INTO metrics.sessions (org_id, machine_id, server_id, cid, started_at, recorded_at)
    SELECT t.org_id, t.machine_id, t.server_id, t.cid,
        coalesce(coalesce(t.asked_at, now()) - make_interval(secs => extract(epoch FROM t.said_at - t.started_at)::float8), t.started_at),
        coalesce(t.asked_at, now())
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[])
        AS t(org_id, machine_id, server_id, cid, started_at, said_at, asked_at)
    ON CONFLICT DO NOTHING";
/// Connections that a list shows and whose end was only inferred, before that list was asked for.
const REOPEN: &str = "
    UPDATE metrics.sessions s SET closed_at = NULL, closed_by = NULL, reason = NULL, inferred = false, recorded_at = t.asked_at
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[]) AS t(org_id, machine_id, server_id, cid, asked_at)
    WHERE s.org_id = t.org_id AND s.machine_id = t.machine_id AND s.server_id = t.server_id AND s.cid = t.cid
        AND s.inferred AND s.closed_at < t.asked_at";
/// Connections that ended. One that is not known leaves a tombstone: its beginning comes later and changes nothing.
const CLOSE: &str = "
    INSERT INTO metrics.sessions AS s (org_id, machine_id, server_id, cid, started_at, recorded_at, closed_at, closed_by, reason)
    SELECT t.org_id, t.machine_id, t.server_id, t.cid,
        coalesce(now() - make_interval(secs => extract(epoch FROM t.said_at - t.started_at)::float8), t.started_at),
        now(), now(), t.closed_by, t.reason
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[])
        AS t(org_id, machine_id, server_id, cid, started_at, said_at, closed_by, reason)
    ON CONFLICT (org_id, machine_id, server_id, cid) DO UPDATE
    SET closed_at = coalesce(s.closed_at, excluded.closed_at), closed_by = excluded.closed_by, reason = excluded.reason, inferred = false
    WHERE s.closed_at IS NULL OR s.inferred";
/// Connections that a list does not show although they were recorded before it was asked for.
const MISS: &str = "
    UPDATE metrics.sessions s SET closed_at = now(), closed_by = 'CLIENT', reason = 'connection lost', inferred = true
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[]) AS t(org_id, machine_id, server_id, cid, asked_at)
    WHERE s.org_id = t.org_id AND s.machine_id = t.machine_id AND s.server_id = t.server_id AND s.cid = t.cid
        AND s.closed_at IS NULL AND s.recorded_at < t.asked_at";
/// Machines that were heard: they came. An update takes rows in the order of its plan, so they are taken before, by key.
const SET_LAST_SEEN: &str = "
    WITH taken AS (
        SELECT l.org_id, l.machine_id FROM unnest($1::uuid[], $2::uuid[]) AS t(org_id, machine_id)
        JOIN metrics.latest l ON l.org_id = t.org_id AND l.machine_id = t.machine_id
        ORDER BY l.org_id, l.machine_id FOR NO KEY UPDATE OF l
    )
    UPDATE metrics.latest l SET last_seen_at = greatest(l.last_seen_at, now())
    FROM taken t WHERE l.org_id = t.org_id AND l.machine_id = t.machine_id";
/// Ends the connections of a server, some thousands at a time.
const CLOSE_OF_SERVER: &str = "
    WITH closing AS (SELECT org_id, machine_id, cid FROM metrics.sessions WHERE server_id = $1 AND closed_at IS NULL LIMIT 5000)
    UPDATE metrics.sessions s SET closed_at = now(), closed_by = 'SERVER', reason = $2, inferred = $3
    FROM closing c
    WHERE s.org_id = c.org_id AND s.machine_id = c.machine_id AND s.server_id = $1 AND s.cid = c.cid
    RETURNING s.org_id, s.machine_id";
/// Connections of a server that its list does not show, although they were recorded before it was asked for.
pub const MISSING: &str = "
    SELECT s.org_id, s.machine_id, s.cid, s.started_at FROM metrics.sessions s
    WHERE s.server_id = $1 AND s.closed_at IS NULL AND s.recorded_at < $2
        AND NOT EXISTS (SELECT 1 FROM unnest($3::bigint[]) AS listed(cid) WHERE listed.cid = s.cid)";
/// Connections that a list shows and that are not recorded, or whose end was inferred. By their place in the list.
pub const UNRECORDED: &str = "
    SELECT t.place FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) WITH ORDINALITY AS t(org_id, machine_id, cid, place)
    LEFT JOIN metrics.sessions s ON s.org_id = t.org_id AND s.machine_id = t.machine_id AND s.server_id = $1 AND s.cid = t.cid
    WHERE s.cid IS NULL OR s.inferred";
/// Forgets sessions that ended long ago: no advisory of them comes any more.
const PURGE: &str =
    "DELETE FROM metrics.sessions WHERE closed_at < now() - make_interval(hours => 1)";

/// Who ended a connection; it decides how long the machine may take to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The client, by closing it or by its silence.
    Client,
    /// The server, of its own will.
    Server,
}

impl ClosedBy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "CLIENT",
            Self::Server => "SERVER",
        }
    }
}

/// What was heard of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It began.
    Opened,
    /// It ended.
    Closed {
        /// By whose doing.
        by: ClosedBy,
        /// Why, in words.
        reason: String,
    },
    /// A list that was asked for at this time (the database's clock) shows it.
    Listed(DateTime<Utc>),
    /// A list that was asked for at this time does not show it.
    Missed(DateTime<Utc>),
}

/// A connection, and what was heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionWrite {
    /// The machine's organisation.
    pub org: OrgId,
    /// The machine.
    pub machine: MachineId,
    /// The server's id.
    pub server_id: String,
    /// The server's name.
    pub server_name: String,
    /// The connection's number on the server.
    pub cid: i64,
    /// When it began, by the server's clock.
    pub started_at: DateTime<Utc>,
    /// When the server told of it, by the same clock; where that is not known, its clock counts as right.
    pub said_at: Option<DateTime<Utc>>,
    /// When its word came here.
    pub came_at: Instant,
    /// What was heard.
    pub heard: Heard,
}

/// The group commit of sessions. Its answer is the change of the machine's presence, if there is one.
pub struct SessionWrites {
    /// Batch sizes are noted here.
    pub metrics: Arc<Metrics>,
    /// How long a machine without a connection counts as online.
    pub graces: Graces,
}

impl Batch for SessionWrites {
    type Item = SessionWrite;
    type Answer = Option<PresenceChange>;
    type Key = (Uuid, Uuid);
    const ONE_STATEMENT: bool = false;

    fn key(item: &Self::Item) -> Self::Key {
        (item.org.0, item.machine.0)
    }

    fn write<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        items: &'a [&'a Self::Item],
    ) -> Written<'a, Self::Answer> {
        Box::pin(async move {
            presence::lock_in_tx(connection).await?;
            self.metrics
                .observe(Measure::SessionBatchSize, items.len() as f64);
            let heard: HashMap<&str, &str> = items
                .iter()
                .map(|item| (item.server_id.as_str(), item.server_name.as_str()))
                .collect();
            server::heard_in_tx(connection, &heard).await?;
            let only = |wanted: fn(&Heard) -> bool| {
                items
                    .iter()
                    .copied()
                    .filter(|item| wanted(&item.heard))
                    .collect::<Vec<_>>()
            };
            open(
                connection,
                &only(|heard| matches!(heard, Heard::Opened | Heard::Listed(_))),
            )
            .await?;
            at(
                connection,
                REOPEN,
                &only(|heard| matches!(heard, Heard::Listed(_))),
            )
            .await?;
            close(
                connection,
                &only(|heard| matches!(heard, Heard::Closed { .. })),
            )
            .await?;
            at(
                connection,
                MISS,
                &only(|heard| matches!(heard, Heard::Missed(_))),
            )
            .await?;
            let machines: Vec<_> = items.iter().map(|item| (item.org, item.machine)).collect();
            let changes = presence::decide_in_tx(connection, &machines, self.graces).await?;
            // Last: machines before what is latest of them, as an inventory takes them (`store::machine`).
            seen(
                connection,
                &only(|heard| matches!(heard, Heard::Opened | Heard::Listed(_))),
            )
            .await?;
            let mut changes: HashMap<(Uuid, Uuid), PresenceChange> = changes
                .into_iter()
                .map(|change| ((change.org_id, change.id), change))
                .collect();
            Ok(items
                .iter()
                .map(|item| changes.remove(&Self::key(item)))
                .collect())
        })
    }
}

struct Columns {
    orgs: Vec<Uuid>,
    machines: Vec<Uuid>,
    servers: Vec<String>,
    cids: Vec<i64>,
    started: Vec<DateTime<Utc>>,
    said: Vec<Option<DateTime<Utc>>>,
    asked: Vec<Option<DateTime<Utc>>>,
}

fn columns(items: &[&SessionWrite]) -> Columns {
    Columns {
        orgs: items.iter().map(|item| item.org.0).collect(),
        machines: items.iter().map(|item| item.machine.0).collect(),
        servers: items.iter().map(|item| item.server_id.clone()).collect(),
        cids: items.iter().map(|item| item.cid).collect(),
        started: items.iter().map(|item| item.started_at).collect(),
        // A clock that was turned back meanwhile does not make a connection begin in the future; and what waited here to be
        // written began so much longer ago. (What a list shows counts from when that was asked for.)
        said: items
            .iter()
            .map(|item| {
                let said = item.said_at?.max(item.started_at);
                Some(match item.heard {
                    Heard::Listed(_) | Heard::Missed(_) => said,
                    Heard::Opened | Heard::Closed { .. } => said + item.came_at.elapsed(),
                })
            })
            .collect(),
        asked: items
            .iter()
            .map(|item| match item.heard {
                Heard::Listed(asked_at) | Heard::Missed(asked_at) => Some(asked_at),
                Heard::Opened | Heard::Closed { .. } => None,
            })
            .collect(),
    }
}

async fn open(connection: &mut PgConnection, items: &[&SessionWrite]) -> Result<(), sqlx::Error> {
    if items.is_empty() {
        return Ok(());
    }
    let columns = columns(items);
    sqlx::query(OPEN)
        .bind(columns.orgs)
        .bind(columns.machines)
        .bind(columns.servers)
        .bind(columns.cids)
        .bind(columns.started)
        .bind(columns.said)
        .bind(columns.asked)
        .execute(connection)
        .await?;
    Ok(())
}

async fn at(
    connection: &mut PgConnection,
    sql: &'static str,
    items: &[&SessionWrite],
) -> Result<(), sqlx::Error> {
    if items.is_empty() {
        return Ok(());
    }
    let columns = columns(items);
    sqlx::query(sql)
        .bind(columns.orgs)
        .bind(columns.machines)
        .bind(columns.servers)
        .bind(columns.cids)
        .bind(columns.asked)
        .execute(connection)
        .await?;
    Ok(())
}

async fn close(connection: &mut PgConnection, items: &[&SessionWrite]) -> Result<(), sqlx::Error> {
    if items.is_empty() {
        return Ok(());
    }
    let columns = columns(items);
    let (by, reasons): (Vec<_>, Vec<_>) = items
        .iter()
        .filter_map(|item| match &item.heard {
            Heard::Closed { by, reason } => Some((by.as_str(), reason.as_str())),
            _ => None,
        })
        .unzip();
    let query = sqlx::query(CLOSE)
        .bind(columns.orgs)
        .bind(columns.machines)
        .bind(columns.servers)
        .bind(columns.cids)
        .bind(columns.started)
        .bind(columns.said)
        .bind(by)
        .bind(reasons);
    query.execute(connection).await?;
    Ok(())
}

async fn seen(connection: &mut PgConnection, items: &[&SessionWrite]) -> Result<(), sqlx::Error> {
    if items.is_empty() {
        return Ok(());
    }
    let columns = columns(items);
    sqlx::query(SET_LAST_SEEN)
        .bind(columns.orgs)
        .bind(columns.machines)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends some of the connections of a server; gives their machines, none when all are ended. Under the lock.
///
/// # Errors
/// [`DatabaseError`].
pub async fn close_of_server_in_tx(
    connection: &mut PgConnection,
    server_id: &str,
    reason: &str,
    inferred: bool,
) -> Result<Vec<(OrgId, MachineId)>, DatabaseError> {
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(CLOSE_OF_SERVER)
        .bind(server_id)
        .bind(reason)
        .bind(inferred)
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(org, machine)| (org.into(), machine.into()))
        .collect())
}

/// Connections of a server that its list does not show.
///
/// # Errors
/// [`DatabaseError`].
pub async fn missing(
    pool: &PgPool,
    server_id: &str,
    asked_at: DateTime<Utc>,
    listed: &[i64],
) -> Result<Vec<(Uuid, Uuid, i64, DateTime<Utc>)>, DatabaseError> {
    Ok(sqlx::query_as(MISSING)
        .bind(server_id)
        .bind(asked_at)
        .bind(listed)
        .fetch_all(pool)
        .await?)
}

/// Places (from 0) of the listed connections that are not recorded as open, or whose end was inferred.
///
/// # Errors
/// [`DatabaseError`].
pub async fn unrecorded(
    pool: &PgPool,
    server_id: &str,
    listed: &[(OrgId, MachineId, i64)],
) -> Result<Vec<usize>, DatabaseError> {
    let orgs: Vec<Uuid> = listed.iter().map(|(org, _, _)| org.0).collect();
    let machines: Vec<Uuid> = listed.iter().map(|(_, machine, _)| machine.0).collect();
    let cids: Vec<i64> = listed.iter().map(|(_, _, cid)| *cid).collect();
    let places: Vec<i64> = sqlx::query_scalar(UNRECORDED)
        .bind(server_id)
        .bind(orgs)
        .bind(machines)
        .bind(cids)
        .fetch_all(pool)
        .await?;
    Ok(places
        .into_iter()
        .filter_map(|place| usize::try_from(place - 1).ok())
        .collect())
}

/// Forgets sessions that ended long ago.
///
/// # Errors
/// [`DatabaseError`].
pub async fn purge(pool: &PgPool) -> Result<(), DatabaseError> {
    sqlx::query(PURGE).execute(pool).await?;
    Ok(())
}
