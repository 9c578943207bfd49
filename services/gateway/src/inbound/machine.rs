//! The machines, how they are, and how they were; and what operators say of them ([`edit`]).

use chrono::Duration;
use contract::identity::{MachineEdit, MachineEdits, MachineLabel, MachineRelease, MachineRevoke};
use contract::metrics::{
    Machine, MachineGet, MachineList, MachinePage, MachineSort, SampleList, SamplePage,
};
use domain::Timestamp;
use domain::health::HealthStatus;
use domain::machine::MachineStatus;
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use serde::Deserialize;

use self::edit::{Labelled, written};
use self::release::Release;
use super::parameter::{Id, Limit, Maybe, Word, range};
use crate::caller::Caller;
use crate::document::{Tag, machine as documented};
use crate::json::{Documented, Given, Passed, Shown};
use crate::owners::Owners;
use crate::refusal::{Change, ChangeWithBody, Listing, Question, Refusal};

pub mod edit;
pub mod release;

/// Samples from this long ago on, when `from` is absent.
const SAMPLES_SINCE: Duration = Duration::hours(1);

/// The operations.
pub struct Machines {
    owners: Owners,
}

/// The order as the query writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Sort {
    /// By name.
    #[serde(rename = "hostname")]
    Hostname,
    /// By name, Z first.
    #[serde(rename = "-hostname")]
    HostnameDesc,
    /// By when it was last seen, oldest first.
    #[serde(rename = "lastSeen")]
    LastSeen,
    /// By when it was last seen, newest first.
    #[serde(rename = "-lastSeen")]
    LastSeenDesc,
    /// By health score, the worst first.
    #[serde(rename = "health")]
    Health,
    /// By health score, the best first.
    #[serde(rename = "-health")]
    HealthDesc,
}

impl Documented for Sort {
    type Schema = documented::MachineSort;
}

impl From<Sort> for MachineSort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Hostname => Self::Hostname,
            Sort::HostnameDesc => Self::HostnameDesc,
            Sort::LastSeen => Self::LastSeen,
            Sort::LastSeenDesc => Self::LastSeenDesc,
            Sort::Health => Self::Health,
            Sort::HealthDesc => Self::HealthDesc,
        }
    }
}

/// A machine that is no longer accepted.
#[derive(ApiResponse)]
pub enum Revoked {
    /// The machine's key is never accepted again. Its history stays.
    #[oai(status = 204)]
    Done,
}

/// A machine that is trusted again.
#[derive(ApiResponse)]
pub enum Released {
    /// The machine is trusted again, until it contradicts itself anew.
    #[oai(status = 204)]
    Done,
}

impl Machines {
    /// Operations that ask these owners.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[OpenApi(prefix_path = "/api/v1/machines", tag = "Tag::Machines")]
impl Machines {
    /// List machines
    #[oai(path = "/", method = "get", operation_id = "machine_list")]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the query
    async fn list(
        &self,
        caller: Caller,
        /// Labels to choose by: `env=prod,role!=db,gpu,!legacy`.
        selector: Query<Maybe<String>>,
        /// Only in this status.
        status: Query<Maybe<Word<MachineStatus>>>,
        /// Only in this health.
        health: Query<Maybe<Word<HealthStatus>>>,
        /// The order; by name when absent.
        sort: Query<Maybe<Word<Sort>>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<MachinePage>, Refusal<Listing>> {
        let question = MachineList {
            selector: selector.0.0,
            status: status.0.value(),
            health: health.0.value(),
            sort: sort.0.value().map(MachineSort::from).unwrap_or_default(),
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Get a machine
    #[oai(path = "/:id", method = "get", operation_id = "machine_get")]
    async fn get(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
    ) -> Result<Passed<Machine>, Refusal<Question>> {
        let question = MachineGet::from(domain::MachineId::from(id.0.0));
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }

    /// Edit a machine's name, notes and labels
    ///
    /// A merge patch (RFC 7396): what is absent stays, `null` takes away. The same again changes nothing. Labels are
    /// edited one by one, so two edits at once both hold, unless they name the same label or field: then the later one
    /// does. What a machine says when it enrols again changes none of it. Lists and selectors go by the new labels as
    /// soon as this is answered. The credential needs `machines:read` besides.
    #[oai(path = "/:id", method = "patch", operation_id = "machine_edit")]
    async fn edit(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
        body: Given<MachineEdits>,
    ) -> Result<Shown<Machine>, Refusal<ChangeWithBody>> {
        let machine_id = id.0.0.into();
        let edit = MachineEdit {
            machine_id,
            edits: body.0,
        };
        let edited = self.owners.write(&caller, &edit).await?;
        let question = MachineGet {
            machine_id,
            change: Some(edited.change),
        };
        let machine = self.owners.read(&caller, &question).await;
        Ok(Shown(machine.map_err(written)?))
    }

    /// Edit the labels of many machines
    ///
    /// Of all that are meant, or, when this is refused, of none: there is one commit. A selector goes by the labels as
    /// they are at the commit, and a machine of the list that is not there refuses the whole. The same again does no harm.
    /// Lists and selectors follow within a second, mostly as soon as this is answered. The credential needs
    /// `machines:read` besides.
    #[oai(path = "/labels", method = "post", operation_id = "machine_label")]
    async fn label(
        &self,
        caller: Caller,
        body: Given<MachineLabel>,
    ) -> Result<Shown<Labelled>, Refusal<ChangeWithBody>> {
        let labelled = self.owners.write_many(&caller, &body.0).await?;
        let changes = labelled.items.iter();
        let last = changes
            .filter_map(|item| item.change.map(|change| (change, item.machine_id)))
            .max();
        if let Some((change, machine_id)) = last {
            let change = Some(change);
            let question = MachineGet { machine_id, change };
            if let Err(problem) = self.owners.read(&caller, &question).await {
                tracing::debug!(%problem, "labels were edited, and lists do not show it yet");
            }
        }
        Ok(Shown(labelled.into()))
    }

    /// Revoke a machine
    ///
    /// Its connection ends within a second, and its key is never accepted again. What it was told to do and had not been
    /// given yet is cancelled. What there is of it stays readable: its actions, its presence, its samples for as long as
    /// any; in lists it is `REVOKED`, and selectors of actions and edits leave it out. Another machine may enrol with its
    /// `hostname`. (The name of a machine over HTTP is all that it is known by, and stays refused.)
    #[oai(path = "/:id", method = "delete", operation_id = "machine_revoke")]
    async fn revoke(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
    ) -> Result<Revoked, Refusal<Change>> {
        self.owners
            .write(
                &caller,
                &MachineRevoke {
                    machine_id: id.0.0.into(),
                },
            )
            .await?;
        Ok(Revoked::Done)
    }

    /// Trust a quarantined machine again
    ///
    /// Other machines than those over HTTP have a key of their own, and `accept` changes nothing for them. A machine over HTTP keeps
    /// the key and the block of addresses that it was bound to. Only with `NEW` is it bound to those that quarantined it: they may be
    /// anybody's who knows its name and has a key, so look at `statusReason` first. 409 when that key is revoked or has expired, or
    /// has as many machines as it may have.
    #[oai(
        path = "/:id/release",
        method = "post",
        operation_id = "machine_release"
    )]
    async fn release(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
        body: Given<Release>,
    ) -> Result<Released, Refusal<ChangeWithBody>> {
        self.owners
            .write(
                &caller,
                &MachineRelease {
                    machine_id: id.0.0.into(),
                    accept: body.0.accept,
                },
            )
            .await?;
        Ok(Released::Done)
    }

    /// List a machine's samples
    ///
    /// As they were collected, the oldest first. The latest one comes with the machine.
    #[oai(
        path = "/:id/samples",
        method = "get",
        operation_id = "machine_sample_list"
    )]
    #[allow(clippy::too_many_arguments)] // one for each parameter of the query
    async fn samples(
        &self,
        caller: Caller,
        /// The machine.
        id: Path<Id>,
        /// From this time on; an hour ago when absent.
        from: Query<Maybe<Word<Timestamp>>>,
        /// Before this time; now when absent.
        to: Query<Maybe<Word<Timestamp>>>,
        /// At most so many.
        limit: Query<Maybe<Limit>>,
        /// `nextCursor` of the page before.
        cursor: Query<Maybe<String>>,
    ) -> Result<Passed<SamplePage>, Refusal<Question>> {
        let (from, to) = range(from.0, to.0, SAMPLES_SINCE)?;
        let question = SampleList {
            machine_id: id.0.0.into(),
            from,
            to,
            limit: limit.0.or_default(),
            cursor: cursor.0.0,
        };
        Ok(Passed(self.owners.pass(&caller, &question).await?))
    }
}
