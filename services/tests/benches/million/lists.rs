//! Pages of lists, as an integrator asks for them.

use std::time::Instant;

use uuid::Uuid;

use super::Bench;

/// How often each page is asked for, and how often before it counts: plans are made for good after some.
const ASKED: usize = 200;
const WARM_UP: usize = 20;
const PAGE: usize = 50;

/// An execution in the middle of what has ended, and a job of which much has: the first of those that were filled in.
const MIDDLE: &str = "
    SELECT id FROM scheduler.ended WHERE org_id = $1 ORDER BY id
    OFFSET (SELECT count(*) / 2 FROM scheduler.ended WHERE org_id = $1) LIMIT 1";
const JOB: &str = "SELECT id FROM scheduler.jobs WHERE org_id = $1 AND name = 'filled 0'";

/// Names and questions. RUNNING is the only list that has nothing to show.
fn questions(job: Uuid, middle: Uuid) -> Vec<(&'static str, String)> {
    let cursor = middle.simple();
    vec![
        ("first page", String::new()),
        ("COMPLETED", "status=COMPLETED".into()),
        ("FAILED", "status=FAILED".into()),
        ("PENDING", "status=PENDING".into()),
        ("RUNNING", "status=RUNNING".into()),
        ("dead letters", "deadLetter=true".into()),
        ("no dead letters", "deadLetter=false".into()),
        ("of a job", format!("jobId={job}")),
        (
            "of a job, COMPLETED",
            format!("jobId={job}&status=COMPLETED"),
        ),
        (
            "of a job, dead letters",
            format!("jobId={job}&deadLetter=true"),
        ),
        ("from the middle", format!("cursor={cursor}")),
        (
            "of a job, from the middle",
            format!("jobId={job}&cursor={cursor}"),
        ),
        (
            "FAILED, from the middle",
            format!("status=FAILED&cursor={cursor}"),
        ),
    ]
}

/// Each page's median in milliseconds.
pub async fn measured(bench: &mut Bench) -> Vec<(&'static str, f64)> {
    let job = sqlx::query_scalar(JOB).bind(bench.org);
    let job: Uuid = job.fetch_one(&mut bench.owner).await.expect("a job");
    let middle = sqlx::query_scalar(MIDDLE).bind(bench.org);
    let middle: Uuid = middle.fetch_one(&mut bench.owner).await.expect("an id");
    let mut found = Vec::new();
    for (name, question) in questions(job, middle) {
        let path = format!("/api/v1/executions?{question}");
        let mut took = Vec::with_capacity(ASKED);
        for place in 0..WARM_UP + ASKED {
            let began = Instant::now();
            let page = bench.api.get(&path).await;
            let passed = began.elapsed().as_secs_f64() * 1_000.0;
            let items = page["items"].as_array().map_or(0, Vec::len);
            let full = if name == "RUNNING" { 0 } else { PAGE };
            assert_eq!(items, full, "GET {path}");
            if place >= WARM_UP {
                took.push(passed);
            }
        }
        found.push((name, super::median(took)));
    }
    found
}
