//! Messages about jobs and executions, with every field set or with as few as there can be.

use contract::execution::{
    Attempt, Execution, ExecutionBatch, ExecutionBatched, ExecutionCancelMany, ExecutionError,
    ExecutionPage, ExecutionRetryMany, ExecutionSummary, ExecutionsChanged, RunAs,
};
use contract::grant::PrincipalKind;
use contract::job::{Job, JobCreate, JobPage, Order, Rate, Settings, SettingsEdit};
use dashfleet_gateway::inbound::execution::Started;
use dashfleet_gateway::inbound::job::JobEdits;
use domain::execution::{ExecutionStatus, Outcome};
use domain::{ExecutionId, JobId};
use serde_json::json;
use uuid::Uuid;

use super::{documented, taken, text, time};

pub fn job() -> Job {
    Job {
        id: JobId::new(),
        name: text("Nightly sync"),
        description: text("What the night is for"),
        module_id: Some(Uuid::now_v7()),
        handler: text("builtin/sleep"),
        config: json!({ "ms": 100, "deep": [null, {}] })
            .as_object()
            .cloned()
            .unwrap(),
        enabled: true,
        paused: false,
        pool: text("default"),
        priority: -5,
        timeout: 300_000,
        retries: 3,
        backoff: 1_000,
        concurrency: Some(10),
        key_concurrency: Some(1),
        rate: Some(Rate {
            max: 100,
            per_ms: 60_000,
        }),
        created_at: time(),
        updated_at: time(),
    }
}

fn job_small() -> Job {
    Job {
        module_id: None,
        concurrency: None,
        key_concurrency: None,
        rate: None,
        ..job()
    }
}

pub fn execution_waiting() -> Execution {
    Execution {
        id: ExecutionId::new(),
        job_id: JobId::new(),
        status: ExecutionStatus::Pending,
        attempt: 0,
        run_as: RunAs {
            kind: PrincipalKind::User,
            id: Uuid::now_v7(),
        },
        priority: 0,
        config: None,
        deduplication_key: None,
        concurrency_key: None,
        scheduled_for: time(),
        created_at: time(),
        run_at: None,
        started_at: None,
        completed_at: None,
        duration: None,
        result: None,
        error: None,
        progress: None,
        attempts: vec![],
        dead_letter: false,
        cancel_requested: false,
        duplicate: false,
        logs: None,
        logs_truncated: None,
    }
}

pub fn execution_ended() -> Execution {
    let error = ExecutionError {
        message: text("the site did not answer"),
        stack: Some(text("at sync (sync.js:3)")),
    };
    let outcomes = [
        Outcome::Completed,
        Outcome::Failed,
        Outcome::Timeout,
        Outcome::Cancelled,
        Outcome::HandedBack,
        Outcome::Lost,
    ];
    let attempt = |outcome| Attempt {
        attempt: 1,
        outcome,
        started_at: time(),
        ended_at: time(),
        error: (outcome == Outcome::Failed).then(|| error.clone()),
    };
    Execution {
        status: ExecutionStatus::Failed,
        attempt: 7,
        config: json!({ "ms": 200 }).as_object().cloned(),
        deduplication_key: Some(text("day-325")),
        concurrency_key: Some(text("site-1")),
        run_at: Some(time()),
        started_at: Some(time()),
        completed_at: Some(time()),
        duration: Some(0),
        result: Some(json!({ "slept": 100 })),
        error: Some(error.clone()),
        progress: Some(json!(50)),
        attempts: outcomes.map(attempt).into(),
        dead_letter: true,
        cancel_requested: true,
        duplicate: true,
        logs: Some(vec![text("[INFO] begins"), text("")]),
        logs_truncated: Some(true),
        ..execution_waiting()
    }
}

pub fn execution_summary(job_id: JobId) -> ExecutionSummary {
    ExecutionSummary {
        id: ExecutionId::new(),
        job_id,
        status: ExecutionStatus::Pending,
        duplicate: false,
        scheduled_for: time(),
        created_at: time(),
    }
}

#[test]
fn what_the_scheduler_sends_is_what_the_document_says() {
    documented(&job());
    documented(&job_small());
    documented(&JobPage {
        items: vec![job(), job_small()],
        next_cursor: Some(text("c")),
    });
    documented(&execution_waiting());
    documented(&execution_ended());
    documented(&Started::from(execution_waiting()));
    documented(&Started::from(execution_ended()));
    for status in ExecutionStatus::ALL {
        documented(&Execution {
            status,
            ..execution_waiting()
        });
    }
    documented(&ExecutionPage {
        items: vec![execution_ended()],
        next_cursor: None,
    });
    documented(&ExecutionBatched {
        items: vec![execution_summary(JobId::new())],
    });
    documented(&ExecutionsChanged {
        count: 10_000,
        more: true,
    });
    for concurrency in [None, Some(7)] {
        documented(&Settings {
            paused: true,
            concurrency,
            weight: 100,
        });
    }
}

#[test]
fn what_the_document_takes_of_jobs_is_what_the_messages_take() {
    let id = Uuid::now_v7();
    taken::<JobCreate>(json!({ "name": "a", "handler": "builtin/noop" }));
    taken::<JobCreate>(json!({
        "name": "a", "description": null, "handler": "builtin/sleep", "config": { "ms": null }, "enabled": false,
        "pool": "gpu", "priority": -100, "timeout": 100, "retries": 25, "backoff": 0, "concurrency": 1,
        "keyConcurrency": 1_000_000, "rate": { "max": 1, "perMs": 100 },
    }));
    taken::<JobEdits>(json!({}));
    taken::<JobEdits>(json!({
        "name": "a", "description": null, "handler": "x", "config": null, "enabled": true, "paused": false, "pool": null,
        "priority": null, "timeout": null, "retries": null, "backoff": null, "concurrency": null, "keyConcurrency": null,
        "rate": null,
    }));
    taken::<JobEdits>(json!({
        "description": "", "config": {}, "pool": "gpu", "priority": 32_767, "timeout": 100, "retries": 0, "backoff": 1,
        "concurrency": 1, "keyConcurrency": 2, "rate": { "max": 1_000_000, "perMs": 86_400_000 },
    }));
    taken::<Order>(json!({}));
    taken::<Order>(json!({
        "config": {}, "priority": -1, "runAt": "2026-01-09T23:52:38+01:00", "deduplicationKey": "a", "concurrencyKey": "b",
    }));
    taken::<ExecutionBatch>(
        json!({ "items": [{ "jobId": id }, { "jobId": id, "config": null, "priority": 1 }] }),
    );
    taken::<ExecutionCancelMany>(json!({}));
    taken::<ExecutionCancelMany>(json!({ "jobId": id, "status": "PENDING", "from": null }));
    taken::<ExecutionRetryMany>(json!({ "deadLetter": true, "to": "2026-01-09T23:52:38Z" }));
    taken::<SettingsEdit>(json!({}));
    taken::<SettingsEdit>(json!({ "paused": true, "concurrency": null, "weight": 1 }));
}
