//! The calls that [`super`] tries.

use contract::run::{Finish, LogChunk, Offer, Place};
use contract::work::Lane;
use dashfleet_scheduler::store::claim::{Claim, Claimed, Claims};
use dashfleet_scheduler::store::enqueue::{self, Asker, Deduplication};
use dashfleet_scheduler::store::finish::{Ending, Finishes, lost_in_tx};
use dashfleet_scheduler::store::page::{self, Wanted};
use dashfleet_scheduler::store::{change, chores, chunk, execution, lanes, limits, session};
use database::{Batch, Pools};
use domain::execution::Outcome;
use domain::job::POOL_DEFAULT;
use domain::{ExecutionId, JobId, OrgId};
use uuid::Uuid;

/// Every call that finds rows by their ids, pages of lists, and what time and leases do; with how many rows it finds.
pub const CALLS: [(&str, usize); 32] = [
    ("cancel", 3),
    ("stop", 3),
    ("any open", 0),
    ("ended", 1),
    ("again", 3),
    ("again of a job", 3),
    ("retry", 3),
    ("rows", 9),
    ("summaries", 9),
    ("page", 3),
    ("page of a job", 3),
    ("open page", 3),
    ("open page of a job", 3),
    ("jobs", 3),
    ("job configs", 3),
    ("keys", 3),
    ("keys free", 3),
    ("limits", 0),
    ("limits of keys", 3),
    ("claim", 3),
    ("claim again", 3),
    ("claim what is limited", 3),
    ("finish", 3),
    ("fail", 3),
    ("lost", 3),
    ("log", 6),
    ("place", 1),
    ("progress", 3),
    ("lanes", 2),
    ("first of lanes", 10),
    ("due", 3),
    ("forget keys", 3),
];

/// Three executions of each kind, and three jobs.
pub struct Ids {
    pub org: OrgId,
    pub job: Uuid,
    pub session: Uuid,
    pub token: Uuid,
    pub waiting: Vec<Uuid>,
    pub running: Vec<Uuid>,
    pub ended: Vec<Uuid>,
    pub jobs: Vec<Uuid>,
    /// What waits of a job with a limit.
    pub limited: Vec<Uuid>,
}

impl Ids {
    fn all(&self) -> Vec<Uuid> {
        [&*self.waiting, &*self.running, &*self.ended].concat()
    }

    fn places(&self, ids: &[Uuid]) -> Vec<Place> {
        let place = |id: &Uuid| Place {
            org: self.org,
            id: ExecutionId(*id),
            attempt: 1,
            token: self.token,
        };
        ids.iter().map(place).collect()
    }
}

/// Does it, and takes it back where that is possible; how many rows it found.
pub async fn call(name: &str, pools: &Pools, ids: &Ids) -> usize {
    let (org, system) = (ids.org, pools.system());
    match name {
        "claim" => claimed(pools, ids, &ids.waiting, true).await,
        "claim again" => claimed(pools, ids, &ids.waiting, false).await,
        "claim what is limited" => claimed(pools, ids, &ids.limited, true).await,
        "finish" | "fail" => {
            let outcome = match name {
                "finish" => Outcome::Completed,
                _ => Outcome::Failed,
            };
            // Those that have ended are looked for where they are now.
            let places = ids.places(&[&*ids.running, &*ids.ended].concat());
            let ending = |place: Place| Ending {
                finish: Finish {
                    place,
                    outcome,
                    duration_ms: 1,
                    result: None,
                    error: None,
                    permanent: false,
                    unbegun: false,
                },
                jitter: 0.5,
                event_id: Uuid::new_v4(),
            };
            let endings: Vec<Ending> = places.into_iter().map(ending).collect();
            let endings: Vec<&Ending> = endings.iter().collect();
            let mut tx = pools.system_tx().await.unwrap();
            let answers = Finishes.write(&mut tx, &endings).await.unwrap();
            answers
                .iter()
                .filter(|answer| answer.moved.is_some())
                .count()
        }
        "lost" => {
            let mut tx = pools.system_tx().await.unwrap();
            let lost = lost_in_tx(&mut tx, ids.session, Outcome::Lost, 500).await;
            lost.unwrap().len()
        }
        "log" => {
            let chunk = |place: Place| LogChunk {
                place,
                first: 1,
                lines: vec!["another".into()],
            };
            let places = ids.places(&[&*ids.running, &*ids.ended].concat());
            let chunks: Vec<LogChunk> = places.into_iter().map(chunk).collect();
            let mut tx = pools.system_tx().await.unwrap();
            let kept = chunk::chunks_keep_in_tx(&mut tx, &chunks).await.unwrap();
            kept.iter().filter(|(meant, _)| *meant).count()
        }
        "place" => {
            let place = ids.places(&ids.running)[0];
            let found = session::place_get(system, "default", &place).await;
            usize::from(found.unwrap().is_some())
        }
        "progress" => {
            let word = |place: Place| session::Word {
                place,
                progress: serde_json::json!(1),
            };
            let words: Vec<_> = ids.places(&ids.running).into_iter().map(word).collect();
            let found = session::progress_put(system, ids.session, &words).await;
            found.unwrap().put.len()
        }
        "lanes" => {
            let found = lanes::lanes_look(system, POOL_DEFAULT, None, 3).await;
            found.unwrap().len()
        }
        "first of lanes" => {
            // In two of them something waits.
            let lane = |job: &Uuid| {
                let lane = Lane {
                    org,
                    job: JobId(*job),
                    key: String::new(),
                };
                (lane, 3)
            };
            let of: Vec<_> = ids.jobs.iter().chain([&ids.job]).map(lane).collect();
            let found = lanes::lanes_first(system, POOL_DEFAULT, &of).await.unwrap();
            let waiting: usize = found.iter().map(|first| first.waiting.len()).sum();
            waiting + found.len()
        }
        "due" => chores::due_make(system, 3).await.unwrap().len(),
        "forget keys" => usize::try_from(chores::keys_forget(system, 3).await.unwrap()).unwrap(),
        _ => as_tenant(name, pools, ids).await,
    }
}

/// Claims these, and once more unless what begins by it is wanted.
async fn claimed(pools: &Pools, ids: &Ids, of: &[Uuid], wanted: bool) -> usize {
    let claim = |id: &Uuid| Claim {
        pool: POOL_DEFAULT.into(),
        session: ids.session,
        offer: Offer {
            org: ids.org,
            id: ExecutionId(*id),
            turn: 0,
        },
        token: Uuid::new_v4(),
    };
    let claims: Vec<Claim> = of.iter().map(claim).collect();
    let claims: Vec<&Claim> = claims.iter().collect();
    let mut tx = pools.system_tx().await.unwrap();
    let mut answers = Claims.write(&mut tx, &claims).await.unwrap();
    if !wanted {
        answers = Claims.write(&mut tx, &claims).await.unwrap();
    }
    let given =
        |answer: &&Claimed| matches!(answer, Claimed::Granted { fresh, .. } if *fresh == wanted);
    answers.iter().filter(given).count()
}

async fn as_tenant(name: &str, pools: &Pools, ids: &Ids) -> usize {
    let org = ids.org;
    let mut tx = pools.tenant_tx(org).await.unwrap();
    match name {
        "cancel" => {
            let cancelled = change::waiting_cancel_in_tx(&mut tx, org, &ids.waiting).await;
            cancelled.unwrap().len()
        }
        "stop" => {
            let stopped = change::running_stop_in_tx(&mut tx, org, &ids.running).await;
            stopped.unwrap().len()
        }
        "any open" => {
            // Of what has ended nothing is open, so both tables are asked for each.
            let open = change::any_open_in_tx(&mut tx, org, &ids.ended).await;
            usize::from(open.unwrap())
        }
        "ended" => {
            let ended = change::ended_get_in_tx(&mut tx, org, ExecutionId(ids.ended[0])).await;
            usize::from(ended.unwrap().is_some())
        }
        "retry" => {
            let asker = Asker {
                kind: "API_KEY",
                id: ids.token,
                credential: ids.token,
                traceparent: None,
            };
            let jobs = [ids.job];
            let again = change::ended_retry_in_tx(&mut tx, org, &ids.ended, &jobs, &asker).await;
            again.unwrap().len()
        }
        "rows" => {
            let rows = execution::executions_get_in_tx(&mut tx, org, &ids.all()).await;
            rows.unwrap().len()
        }
        "summaries" => {
            let rows = execution::summaries_get_in_tx(&mut tx, org, &ids.all()).await;
            rows.unwrap().len()
        }
        "again" | "again of a job" => {
            let wanted = Wanted {
                job: name.ends_with("of a job").then_some(JobId(ids.job)),
                waiting: false,
                running: false,
                ended: vec!["FAILED"],
                from: Uuid::nil(),
                below: Uuid::max(),
            };
            let pools = ["default".to_owned()];
            let found = change::ended_find_in_tx(&mut tx, org, &wanted, &pools, 3).await;
            found.unwrap().len()
        }
        "jobs" => {
            let jobs = enqueue::jobs_share_in_tx(&mut tx, org, &ids.jobs, false).await;
            jobs.unwrap().len()
        }
        "job configs" => {
            let configs = enqueue::job_configs_in_tx(&mut tx, org, &ids.jobs).await;
            configs.unwrap().len()
        }
        "keys" | "keys free" => {
            // The keys of what waits.
            let key = |(at, id): (usize, &Uuid)| Deduplication {
                job_id: ids.job,
                key: format!("key {}", at + 1),
                execution_id: *id,
            };
            let keys: Vec<_> = ids.waiting.iter().enumerate().map(key).collect();
            if name == "keys free" {
                let freed = enqueue::keys_free_in_tx(&mut tx, org, &keys).await;
                return freed.map(|()| keys.len()).unwrap();
            }
            let held = enqueue::keys_get_in_tx(&mut tx, org, &keys).await;
            held.unwrap().len()
        }
        "limits" => {
            let job = JobId(ids.job);
            let set = limits::limits_set_in_tx(&mut tx, org, job).await;
            set.map(|()| 0).unwrap()
        }
        "limits of keys" => {
            let keys = ["a", "b", "c"].map(String::from);
            let job = JobId(ids.jobs[0]);
            let made = limits::limits_key_in_tx(&mut tx, org, job, &keys).await;
            made.map(|()| keys.len()).unwrap()
        }
        _ => {
            assert!(name.contains("page"), "no call {name}");
            let open = name.starts_with("open");
            let wanted = Wanted {
                job: name.ends_with("of a job").then_some(JobId(ids.job)),
                waiting: open,
                running: true,
                ended: if open { vec![] } else { vec!["FAILED"] },
                from: Uuid::nil(),
                below: Uuid::max(),
            };
            let found = page::executions_find_in_tx(&mut tx, org, &wanted, 3).await;
            found.unwrap().len()
        }
    }
}
