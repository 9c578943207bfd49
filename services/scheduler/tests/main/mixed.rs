//! What is claimed and ended together is judged one by one: what nothing limits, what is limited, and what cannot be.

use std::collections::HashSet;

use contract::run::{FinishVerdict, Offer, Place};
use dashfleet_scheduler::config::Timing;
use domain::execution::Outcome;
use domain::{ExecutionId, OrgId};

use super::stage::{PLAIN, Sort, Stage};

const ONE: Sort = Sort {
    concurrency: Some(1),
    ..PLAIN
};

/// How many attempts of limited jobs are counted as running.
const COUNTED: &str = "SELECT coalesce(sum(running), 0) FROM scheduler.limits";

#[tokio::test]
async fn each_of_a_claim_is_judged_by_itself() {
    let stage = Stage::new(Timing::default()).await;
    let org = OrgId::new();
    let (free, limited) = (stage.job(org, PLAIN).await, stage.job(org, ONE).await);
    let paused = stage.job(org, PLAIN).await;
    let pause = format!("UPDATE scheduler.jobs SET paused_at = now() WHERE id = '{paused}'");
    stage.execute(&pause).await;
    let frees = stage.enqueue(org, free, "", 4).await;
    let ones = stage.enqueue(org, limited, "", 2).await;
    let held = stage.enqueue(org, paused, "", 1).await[0];
    let nobody = Offer {
        id: ExecutionId::new(),
        ..held
    };
    let (worker, other) = (stage.worker().await, stage.worker().await);
    let own = worker.place(frees[0]).await;
    let theirs = other.place(frees[1]).await;

    let offers = [
        nobody, frees[2], ones[0], held, frees[1], frees[0], ones[1], frees[3],
    ];
    let granted = worker.claim(&offers).await;
    let jobs: Vec<_> = granted.iter().map(|one| one.job_id).collect();
    assert_eq!(jobs.iter().filter(|job| **job == limited).count(), 1);
    for offer in [frees[2], frees[0], frees[3]] {
        let found = granted.iter().find(|one| one.place.id == offer.id);
        assert_eq!(found.map(|one| one.job_id), Some(free), "{offer:?}");
    }
    assert_eq!(granted.len(), 4, "{granted:?}");
    let again = granted.iter().find(|one| one.place.id == own.id);
    assert_eq!(again.map(|one| one.place.token), Some(own.token));
    assert_eq!(stage.count(COUNTED).await, 1);
    // Asked again, it is the same; and the other has what it had.
    assert_eq!(worker.claim(&offers).await, granted);
    other.conclude(theirs, Outcome::Completed).await;
}

#[tokio::test]
async fn each_end_is_judged_by_itself() {
    let stage = Stage::new(Timing::default()).await;
    let org = OrgId::new();
    let two = Sort {
        concurrency: Some(2),
        ..PLAIN
    };
    let (free, limited) = (stage.job(org, PLAIN).await, stage.job(org, two).await);
    let tried = stage.job(org, Sort::with_retries(1)).await;
    let worker = stage.worker().await;
    let mut begun = Vec::new();
    for (job, count) in [(free, 3), (limited, 2), (tried, 1)] {
        let offers = stage.enqueue(org, job, "", count).await;
        begun.extend(worker.places(&offers).await);
    }
    let [a, b, c, one, other, again] = begun[..] else {
        panic!("{begun:?}");
    };
    worker.conclude(c, Outcome::Completed).await;
    let forged = Place {
        token: a.token,
        ..b
    };
    let items = [
        (a, Outcome::Completed),
        (one, Outcome::Completed),
        (again, Outcome::Failed),
        (forged, Outcome::Completed),
        (c, Outcome::Completed),
        (other, Outcome::Failed),
    ];
    let verdicts = worker.finish_each(&items).await;
    use FinishVerdict::{Applied, Duplicate, Fenced};
    let expected = [Applied, Applied, Applied, Fenced, Duplicate, Applied];
    assert_eq!(verdicts, expected);
    assert_eq!(stage.count(COUNTED).await, 0);
    let running = "SELECT count(*) FROM scheduler.running";
    assert_eq!(stage.count(running).await, 1, "the forged one runs on");
    for (place, status) in [
        (a, "COMPLETED"),
        (c, "COMPLETED"),
        (one, "COMPLETED"),
        (other, "FAILED"),
    ] {
        let ended = format!(
            "SELECT count(*) FROM scheduler.ended WHERE id = '{}' AND status = '{status}'",
            place.id
        );
        assert_eq!(stage.count(&ended).await, 1, "{place:?} is {status}");
    }
    let waiting = "SELECT count(*) FROM scheduler.waiting";
    assert_eq!(stage.count(waiting).await, 1, "another attempt follows");
}

/// However much each has, an answer is a message that the bus takes; what is left out of it is told later.
#[tokio::test]
async fn what_has_large_configurations_is_given_in_portions() {
    let stage = Stage::new(Timing::default()).await;
    let org = OrgId::new();
    let many = Sort {
        concurrency: Some(1_000),
        ..PLAIN
    };
    let (free, limited) = (stage.job(org, PLAIN).await, stage.job(org, many).await);
    stage
        .execute(
            "UPDATE scheduler.jobs SET config = jsonb_build_object('text', repeat('x', 60000))",
        )
        .await;
    let mut offers = stage.enqueue(org, free, "", 20).await;
    offers.extend(stage.enqueue(org, limited, "", 20).await);
    let worker = stage.worker().await;
    let mut told = HashSet::new();
    // Each claim asks for all that it was not told of, as after answers that were lost.
    for round in 0.. {
        let left: Vec<Offer> = offers
            .iter()
            .filter(|offer| !told.contains(&offer.id))
            .copied()
            .collect();
        if left.is_empty() {
            break;
        }
        assert!(round < 20, "{} are left", left.len());
        // The first answer is lost.
        worker.claim(&left).await;
        let granted = worker.claim(&left).await;
        assert!(!granted.is_empty(), "nothing of {}", left.len());
        told.extend(granted.iter().map(|one| one.place.id));
    }
    assert_eq!(stage.count(COUNTED).await, 20);
}
