//! Pages of lists, as an integrator asks for them.

use std::time::Instant;

use uuid::Uuid;

use super::bench::Bench;

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

/// A page's median in milliseconds: of the product with a little history, and of the filled one.
pub struct Page {
    pub name: &'static str,
    pub base: f64,
    pub full: f64,
}

/// What to ask of a product.
async fn asked(bench: &mut Bench) -> Vec<(&'static str, String)> {
    let job = sqlx::query_scalar(JOB).bind(bench.org);
    let job: Uuid = job.fetch_one(&mut bench.owner).await.expect("a job");
    let middle = sqlx::query_scalar(MIDDLE).bind(bench.org);
    let middle: Uuid = middle.fetch_one(&mut bench.owner).await.expect("an id");
    questions(job, middle)
}

/// How long a page took, in milliseconds.
async fn page(bench: &Bench, name: &str, question: &str) -> f64 {
    let path = format!("/api/v1/executions?{question}");
    let began = Instant::now();
    let page = bench.api.get(&path).await;
    let passed = began.elapsed().as_secs_f64() * 1_000.0;
    let items = page["items"].as_array().map_or(0, Vec::len);
    let full = if name == "RUNNING" { 0 } else { PAGE };
    assert_eq!(items, full, "GET {path}");
    passed
}

/// Each page of both products, asked for in turn.
pub async fn measured(little: &mut Bench, full: &mut Bench) -> Vec<Page> {
    let questions = asked(little).await.into_iter().zip(asked(full).await);
    let mut pages = Vec::new();
    for ((name, of_little), (_, of_full)) in questions {
        let mut took = [const { Vec::new() }; 2];
        for place in 0..WARM_UP + ASKED {
            // Whoever is second may find the processors busy with what the first left to do.
            let passed = if place % 2 == 0 {
                let base = page(little, name, &of_little).await;
                [base, page(full, name, &of_full).await]
            } else {
                let passed = page(full, name, &of_full).await;
                [page(little, name, &of_little).await, passed]
            };
            if place >= WARM_UP {
                for (took, passed) in took.iter_mut().zip(passed) {
                    took.push(passed);
                }
            }
        }
        let [base, full] = took.map(super::median);
        pages.push(Page { name, base, full });
    }
    pages
}
