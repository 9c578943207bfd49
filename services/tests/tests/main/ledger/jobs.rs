//! The jobs of the ledger: some that do nothing, some that take time, some that fail, some that never end by themselves; and a few that
//! outlast a lease, so that whoever gives one to a second worker too early is seen.

use dashfleet_tests::Api;
use serde_json::{Value, json};

/// A job, and how its executions end unless they lose their worker too often.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Their status then.
    pub ends: &'static str,
    /// How many attempts their handlers end until then.
    pub attempts: usize,
}

/// Of twenty executions eight, six, three, two and one; the last kind is where [`Lasting`] says so.
pub const KINDS: [Kind; 6] = [
    Kind {
        name: "instant",
        ends: "COMPLETED",
        attempts: 1,
    },
    Kind {
        name: "short",
        ends: "COMPLETED",
        attempts: 1,
    },
    Kind {
        name: "long",
        ends: "COMPLETED",
        attempts: 1,
    },
    Kind {
        name: "refused",
        ends: "FAILED",
        attempts: 1,
    },
    Kind {
        name: "late",
        ends: "TIMEOUT",
        attempts: 3,
    },
    Kind {
        name: "lasting",
        ends: "COMPLETED",
        attempts: 1,
    },
];

/// Which executions outlast a lease: one of so many, among the first so many.
#[derive(Clone, Copy, Debug)]
pub struct Lasting {
    /// One of so many.
    pub of: usize,
    /// Among so many.
    pub among: usize,
}

/// Of which kind the execution at this place is.
pub fn kind_of(place: usize, lasting: Lasting) -> usize {
    if place < lasting.among && place % lasting.of == lasting.of / 2 {
        return 5;
    }
    match place % 20 {
        0..8 => 0,
        8..14 => 1,
        14..17 => 2,
        17..19 => 3,
        _ => 4,
    }
}

fn body(kind: &Kind) -> Value {
    let sleep = |ms: u32| json!({ "handler": "builtin/sleep", "config": { "ms": ms } });
    let mut body = match kind.name {
        "instant" => sleep(0),
        "short" => sleep(5),
        "long" => sleep(200),
        // A lease is ten seconds.
        "lasting" => sleep(13_000),
        // Workers connect to nothing private.
        "refused" => {
            json!({ "handler": "builtin/http-check", "config": { "url": "http://127.0.0.1:9/" } })
        }
        _ => sleep(60_000),
    };
    body["name"] = json!(kind.name);
    body["retries"] = json!(kind.attempts - 1);
    body["backoff"] = json!(100);
    if kind.ends == "TIMEOUT" {
        body["timeout"] = json!(100);
    }
    body
}

/// Makes the jobs: their ids, in the order of their kinds.
pub async fn make(api: &Api) -> Vec<String> {
    let mut jobs = Vec::new();
    for kind in &KINDS {
        let (status, job) = api.post("/api/v1/jobs", body(kind)).await;
        assert_eq!(status, 201, "{job}");
        jobs.push(job["id"].as_str().expect("an id").to_owned());
    }
    jobs
}
