//! What the database knows of an order: its job, who has its deduplication key, the limits of its concurrency key. All of it in
//! the transaction that makes the executions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use contract::{Author, FieldError, Problem, ProblemKind};
use database::Tx;
use domain::OrgId;
use domain::builtin::Given;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::item::Item;
use crate::app::handler;
use crate::app::job::refusal;
use crate::error::SchedulerError;
use crate::store::enqueue::{self, Deduplication, JobHead, NewExecution};
use crate::store::limits;

/// How often deduplication keys are tried that change hands meanwhile.
const KEY_TRIES: u32 = 5;
/// Of how many jobs the configurations are looked at in one go: each may have 64 KiB.
const CONFIGS_AT_ONCE: usize = 100;

/// Replacements of items, by their places, that keep more than they said.
pub(super) type Pinned = HashMap<usize, Value>;

/// The jobs of all items, which must be enabled, and in one of the `pools`, which have workers. They stay until the commit; as they
/// are, when there are concurrency keys.
pub(super) async fn jobs_in_tx(
    tx: &mut Tx,
    org: OrgId,
    items: &[Item],
    pools: &[String],
) -> Result<HashMap<Uuid, JobHead>, SchedulerError> {
    let ids: BTreeSet<Uuid> = items.iter().map(|item| item.job.0).collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let has_keys = items
        .iter()
        .any(|item| item.order.concurrency_key.is_some());
    let found = enqueue::jobs_share_in_tx(tx, org, &ids, has_keys).await?;
    let jobs: HashMap<Uuid, JobHead> = found.into_iter().map(|job| (job.id, job)).collect();
    for item in items {
        let problem = match jobs.get(&item.job.0).map(|job| refusal(job, pools)) {
            Some(None) => continue,
            Some(Some(text)) => Problem::new(ProblemKind::Conflict, text),
            None => Problem::not_found("job"),
        };
        return Err(at_job(item, problem).into());
    }
    Ok(jobs)
}

/// Checks what items replace of their jobs' configurations, together with the rest of those, and that their author has the right to what
/// their jobs do. Nothing else is looked at for items that replace nothing: what their jobs say was checked when it was given. What
/// becomes of their replacements is the answer, where they keep more of their jobs' configurations than they say.
pub(super) async fn configs_in_tx(
    tx: &mut Tx,
    author: &Author,
    items: &[Item],
    jobs: &HashMap<Uuid, JobHead>,
) -> Result<Pinned, SchedulerError> {
    let mut pinned = Pinned::new();
    let mut replacing: BTreeMap<Uuid, Vec<(usize, &Item)>> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let job = jobs.get(&item.job.0);
        let matters = |job: &&JobHead| {
            let replaces = item.replaced_fields().is_some();
            replaces && handler::is_particular(&job.handler) || handler::needs_scope(&job.handler)
        };
        if job.is_some_and(|job| matters(&job)) {
            let of_job = replacing.entry(item.job.0).or_default();
            of_job.push((index, item));
        }
    }
    let ids: Vec<Uuid> = replacing.keys().copied().collect();
    // Jobs come in the order of their ids; what is named is the first of the items that are wrong.
    let mut first: Option<(usize, Problem)> = None;
    for ids in ids.chunks(CONFIGS_AT_ONCE) {
        for job in enqueue::job_configs_in_tx(tx, author.org, ids).await? {
            let empty = Map::new();
            let config = job.config.as_object().unwrap_or(&empty);
            for (index, item) in replacing.get(&job.id).into_iter().flatten() {
                if first.as_ref().is_some_and(|(before, _)| before < index) {
                    break;
                }
                match config_check(author, item, &job.handler, config) {
                    Ok(Some(more)) => drop(pinned.insert(*index, more)),
                    Ok(None) => {}
                    Err(problem) => {
                        first = Some((*index, problem));
                        break;
                    }
                }
            }
        }
    }
    match first {
        Some((_, problem)) => Err(problem.into()),
        None => Ok(pinned),
    }
}

/// Checks what an item's execution is given, as [`configs_in_tx`] does; says what it keeps.
fn config_check(
    author: &Author,
    item: &Item,
    handler: &str,
    config: &Map<String, Value>,
) -> Result<Option<Value>, Problem> {
    let mut given = Given::of(config);
    let fields = item.replaced_fields();
    if let Some(fields) = fields {
        handler::check_replaced(handler, config, fields)
            .map_err(|error| handler::wrong(&item.place.path("config"), error))?;
        given = given.replacing(fields);
    }
    handler::require(author, handler, given).map_err(|problem| at_job(item, problem))?;
    Ok(fields.and_then(|fields| handler::pinned(handler, config, fields)))
}

/// What is wrong with the job that an item names: said at its place, in a list.
fn at_job(item: &Item, problem: Problem) -> Problem {
    if !item.place.is_in_list() {
        return problem;
    }
    let error = FieldError {
        path: item.place.path("jobId"),
        message: problem.detail.clone(),
    };
    Problem {
        errors: vec![error],
        ..problem
    }
}

/// The execution of each item: its own, or the one that has its deduplication key, be it of another item before it.
pub(super) async fn keys_in_tx(
    tx: &mut Tx,
    org: OrgId,
    items: &[Item],
) -> Result<Vec<Uuid>, SchedulerError> {
    let mut first: BTreeMap<(Uuid, &str), Uuid> = BTreeMap::new();
    for item in items {
        if let Some(key) = &item.order.deduplication_key {
            first.entry((item.job.0, key.as_str())).or_insert(item.id.0);
        }
    }
    let mut missing: Vec<Deduplication> = first
        .iter()
        .map(|((job_id, key), execution_id)| Deduplication {
            job_id: *job_id,
            key: (*key).to_owned(),
            execution_id: *execution_id,
        })
        .collect();
    let mut holders: HashMap<(Uuid, String), Uuid> = HashMap::new();
    let mut tries = 0;
    while !missing.is_empty() {
        if tries == KEY_TRIES {
            let text = "a deduplication key changes hands too often; try again";
            return Err(Problem::unavailable(text).into());
        }
        tries += 1;
        let got: HashSet<Uuid> = enqueue::keys_take_in_tx(tx, org, &missing)
            .await?
            .into_iter()
            .collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .partition(|key| got.contains(&key.execution_id));
        // Who had one a moment ago may be through by now: then it is free, and tried again.
        let held = if theirs.is_empty() {
            Vec::new()
        } else {
            enqueue::keys_get_in_tx(tx, org, &theirs).await?
        };
        for key in ours.into_iter().chain(held) {
            holders.insert((key.job_id, key.key), key.execution_id);
        }
        missing = theirs;
        missing.retain(|key| !holders.contains_key(&(key.job_id, key.key.clone())));
    }
    let holder = |item: &Item| {
        let key = item.order.deduplication_key.clone()?;
        holders.get(&(item.job.0, key)).copied()
    };
    Ok(items
        .iter()
        .map(|item| holder(item).unwrap_or(item.id.0))
        .collect())
}

/// Makes rows for the limits of concurrency keys that are new.
pub(super) async fn limits_in_tx(
    tx: &mut Tx,
    org: OrgId,
    new: &[NewExecution<'_>],
    jobs: &HashMap<Uuid, JobHead>,
) -> Result<(), SchedulerError> {
    let mut keys: BTreeMap<Uuid, BTreeSet<&str>> = BTreeMap::new();
    for new in new.iter().filter(|new| !new.key.is_empty()) {
        let job = jobs.get(&new.job_id);
        if job.is_some_and(|job| job.key_concurrency.is_some()) {
            keys.entry(new.job_id).or_default().insert(new.key);
        }
    }
    for (job, keys) in keys {
        let keys: Vec<String> = keys.into_iter().map(ToOwned::to_owned).collect();
        limits::limits_key_in_tx(tx, org, job.into(), &keys).await?;
    }
    Ok(())
}
