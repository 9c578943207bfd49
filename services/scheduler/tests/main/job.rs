//! Jobs: what is refused, what an edit changes, who may; and what is said of all executions.

use contract::ProblemKind;
use contract::audit::AuditOutcome;
use contract::job::{
    JobCreate, JobEdit, JobGet, JobList, Rate, Settings, SettingsEdit, SettingsGet,
};
use contract::merge::Edit;
use domain::access::Role;
use domain::{JobId, OrgId};
use serde_json::{Value, json};

use super::world::{World, execute, fields, new_job, refused};

pub const POOL_GONE: &str = "UPDATE scheduler.jobs SET pool = 'gone'";

#[tokio::test]
async fn a_job_whose_pool_is_gone_begins_nothing_and_can_be_switched_off() {
    let world = World::new().await;
    let job = world.job("a").await;
    world.run(POOL_GONE).await;
    let begun = world.ask(&execute(job.id)).await;
    assert_eq!(
        begun.as_ref().err().map(|it| it.kind),
        Some(ProblemKind::Conflict)
    );
    let reason = begun.unwrap_err().detail;
    assert!(reason.contains("`gone`"), "{reason}");
    for (enabled, paused) in [
        (Some(false), None),
        (None, Some(true)),
        (Some(true), Some(false)),
    ] {
        let switch = JobEdit {
            enabled,
            paused,
            ..edit(job.id)
        };
        let after = world.ask(&switch).await.unwrap();
        assert_eq!(after.enabled, enabled.unwrap_or(false));
    }
    // Whatever else is edited, a pool is chosen with it.
    let more = |pool| JobEdit {
        priority: Edit::Set(3),
        pool,
        ..edit(job.id)
    };
    let refusal = world.ask(&more(Edit::Keep)).await;
    assert_eq!(refused(refusal), (ProblemKind::Invalid, "pool".to_owned()));
    world.ask(&more(Edit::Set("default".into()))).await.unwrap();
    world.ask(&execute(job.id)).await.unwrap();
}

/// An edit that changes nothing.
pub fn edit(job: JobId) -> JobEdit {
    JobEdit {
        job_id: job,
        name: None,
        description: Edit::Keep,
        handler: None,
        config: Edit::Keep,
        enabled: None,
        paused: None,
        pool: Edit::Keep,
        priority: Edit::Keep,
        timeout: Edit::Keep,
        retries: Edit::Keep,
        backoff: Edit::Keep,
        concurrency: Edit::Keep,
        key_concurrency: Edit::Keep,
        rate: Edit::Keep,
    }
}

fn wrong() -> Vec<(JobCreate, &'static str)> {
    let sleep = |config: Value| JobCreate {
        handler: "builtin/sleep".into(),
        config: fields(config),
        ..new_job("a")
    };
    let rate = |max, per_ms| Some(Rate { max, per_ms });
    vec![
        (new_job(""), "name"),
        (new_job(" a"), "name"),
        (new_job("a\u{202e}b"), "name"),
        (new_job(&"x".repeat(201)), "name"),
        (
            JobCreate {
                description: "x".repeat(2_001),
                ..new_job("a")
            },
            "description",
        ),
        (
            JobCreate {
                description: "a\0b".into(),
                ..new_job("a")
            },
            "description",
        ),
        (
            JobCreate {
                handler: "builtin/nothing".into(),
                ..new_job("a")
            },
            "handler",
        ),
        (
            JobCreate {
                handler: "crm/sync".into(),
                ..new_job("a")
            },
            "handler",
        ),
        (sleep(json!({})), "config.ms"),
        (sleep(json!({ "ms": -1 })), "config.ms"),
        (sleep(json!({ "ms": 1, "text": "a\u{0}b" })), "config"),
        (
            JobCreate {
                pool: Some("gpu".into()),
                ..new_job("a")
            },
            "pool",
        ),
        (
            JobCreate {
                priority: Some(101),
                ..new_job("a")
            },
            "priority",
        ),
        (
            JobCreate {
                timeout: Some(99),
                ..new_job("a")
            },
            "timeout",
        ),
        (
            JobCreate {
                retries: Some(26),
                ..new_job("a")
            },
            "retries",
        ),
        (
            JobCreate {
                backoff: Some(-1),
                ..new_job("a")
            },
            "backoff",
        ),
        (
            JobCreate {
                concurrency: Some(0),
                ..new_job("a")
            },
            "concurrency",
        ),
        (
            JobCreate {
                key_concurrency: Some(1_000_001),
                ..new_job("a")
            },
            "keyConcurrency",
        ),
        (
            JobCreate {
                rate: rate(0, 1_000),
                ..new_job("a")
            },
            "rate.max",
        ),
        (
            JobCreate {
                rate: rate(1, 99),
                ..new_job("a")
            },
            "rate.perMs",
        ),
    ]
}

#[tokio::test]
async fn bad_input_is_named_and_no_job_is_made() {
    let world = World::new().await;
    for (request, path) in wrong() {
        let answer = world.ask(&request).await;
        assert_eq!(
            refused(answer),
            (ProblemKind::Invalid, path.to_owned()),
            "{request:?}"
        );
    }
    let large = JobCreate {
        config: fields(json!({ "text": "x".repeat(65_536) })),
        ..new_job("a")
    };
    assert_eq!(
        refused(world.ask(&large).await),
        (ProblemKind::TooLarge, "config".into())
    );
    assert_eq!(world.count("SELECT count(*) FROM scheduler.jobs").await, 0);
    // The same is refused of an edit, which then changes nothing.
    let job = world.job("a").await;
    let bad = JobEdit {
        handler: Some("builtin/sleep".into()),
        enabled: Some(false),
        ..edit(job.id)
    };
    assert_eq!(
        refused(world.ask(&bad).await),
        (ProblemKind::Invalid, "config.ms".into())
    );
    assert_eq!(world.ask(&JobGet { job_id: job.id }).await.unwrap(), job);
}

#[tokio::test]
async fn names_are_unique_in_an_organisation_and_lists_go_by_them() {
    let world = World::new().await;
    for number in (0..25).rev() {
        let disabled = JobCreate {
            enabled: Some(number % 5 != 0),
            ..new_job(&format!("job {number:02}"))
        };
        world.ask(&disabled).await.unwrap();
    }
    let taken = refused(world.ask(&new_job("job 07")).await);
    assert_eq!(taken, (ProblemKind::Conflict, "name".into()));
    let elsewhere = world.grant(OrgId::new(), Role::Owner);
    assert!(world.ask_as(&elsewhere, &new_job("job 07")).await.is_ok());
    for (enabled, expected) in [(None, 25), (Some(true), 20), (Some(false), 5)] {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let list = JobList {
                enabled,
                limit: 4,
                cursor,
            };
            let page = world.ask(&list).await.unwrap();
            assert!(page.items.len() <= 4);
            names.extend(page.items.into_iter().map(|job| job.name));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(names.len(), expected);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    }
    for (limit, cursor, path) in [
        (0, None, "limit"),
        (201, None, "limit"),
        (1, Some("x"), "cursor"),
    ] {
        let list = JobList {
            enabled: None,
            limit,
            cursor: cursor.map(Into::into),
        };
        assert_eq!(
            refused(world.ask(&list).await),
            (ProblemKind::Invalid, path.to_owned())
        );
    }
    let job = world.job("another").await;
    let renamed = JobEdit {
        name: Some("job 07".into()),
        ..edit(job.id)
    };
    assert_eq!(
        refused(world.ask(&renamed).await),
        (ProblemKind::Conflict, "name".into())
    );
}

#[tokio::test]
async fn an_edit_changes_what_it_says_and_null_is_what_a_new_job_has() {
    let world = World::new().await;
    let request = JobCreate {
        description: "first".into(),
        priority: Some(7),
        timeout: Some(1_000),
        concurrency: Some(3),
        rate: Some(Rate {
            max: 5,
            per_ms: 60_000,
        }),
        config: fields(json!({ "password": "hunter2" })),
        ..new_job("a")
    };
    let made = world.ask(&request).await.unwrap();
    assert_eq!(
        (made.pool.as_str(), made.retries, made.enabled),
        ("default", 3, true)
    );
    // The same again is no change.
    let same = world.ask(&edit(made.id)).await.unwrap();
    assert_eq!(same, made);
    let edited = JobEdit {
        name: Some("b".into()),
        description: Edit::Clear,
        config: Edit::Set(fields(json!({ "password": "hunter3" }))),
        paused: Some(true),
        priority: Edit::Set(-7),
        timeout: Edit::Clear,
        concurrency: Edit::Clear,
        key_concurrency: Edit::Set(2),
        rate: Edit::Clear,
        ..edit(made.id)
    };
    let edited = world.ask(&edited).await.unwrap();
    assert_eq!(
        (
            edited.name.as_str(),
            edited.description.as_str(),
            edited.paused
        ),
        ("b", "", true)
    );
    assert_eq!((edited.priority, edited.timeout), (-7, 300_000));
    assert_eq!(
        (edited.concurrency, edited.key_concurrency, edited.rate),
        (None, Some(2), None)
    );
    assert!(edited.updated_at >= made.updated_at);
    assert_eq!(
        world.ask(&JobGet { job_id: made.id }).await.unwrap(),
        edited
    );

    // Two events, the second after the first; neither shows a configuration, and nor does the audit.
    let events = world.events_of(made.id.0, 2).await;
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.verb.as_str(), event.version))
        .collect();
    assert_eq!(told, [("created", 1), ("edited", 2)]);
    let changes = events[1].data["changes"].to_string();
    for field in ["name", "config", "rate", "keyConcurrency", "paused"] {
        assert!(changes.contains(field), "{changes}");
    }
    let entry = world.audited("job.edit", 1).await.remove(0);
    let (before, after) = (entry.before.unwrap(), entry.after.unwrap());
    assert_eq!(
        (&before["name"], &after["name"]),
        (&json!("a"), &json!("b"))
    );
    assert_ne!(before["configSha256"], after["configSha256"]);
    let created = world.audited("job.create", 1).await.remove(0);
    let all = format!("{events:?}{before}{after}{created:?}");
    assert!(!all.contains("hunter"), "{all}");
}

#[tokio::test]
async fn rights_and_organisations_hold() {
    let world = World::new().await;
    let job = world.job("a").await;
    let get = JobGet { job_id: job.id };
    let disable = JobEdit {
        enabled: Some(false),
        ..edit(job.id)
    };
    let stranger = world.grant(OrgId::new(), Role::Owner);
    let kind = |answer| refused(answer).0;
    assert_eq!(
        kind(world.ask_as(&stranger, &get).await),
        ProblemKind::NotFound
    );
    assert_eq!(
        kind(world.ask_as(&stranger, &disable).await),
        ProblemKind::NotFound
    );
    let viewer = world.grant(world.org, Role::Viewer);
    let operator = world.grant(world.org, Role::Operator);
    assert!(world.ask_as(&viewer, &get).await.is_ok());
    assert_eq!(
        kind(world.ask_as(&operator, &disable).await),
        ProblemKind::Forbidden
    );
    assert_eq!(
        kind(world.ask_as(&operator, &new_job("b")).await),
        ProblemKind::Forbidden
    );
    // What was refused is in the audit, and nothing else of it is anywhere.
    let denied = AuditOutcome::Denied;
    let denied = world.told("job.edit", denied, 1).await.remove(0);
    assert!(denied.reason.unwrap().contains("jobs:write"));
    assert!(world.ask(&get).await.unwrap().enabled);
}

#[tokio::test]
async fn one_idempotency_key_makes_one_job() {
    let world = World::with_replicas(2).await;
    let request = JobCreate {
        idempotency_key: Some("once".into()),
        ..new_job("a")
    };
    let all = futures::future::join_all((0..10).map(|_| world.ask(&request))).await;
    let ids: std::collections::HashSet<_> = all.into_iter().map(|job| job.unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    let other = JobCreate {
        name: "b".into(),
        ..request
    };
    assert_eq!(refused(world.ask(&other).await).0, ProblemKind::Conflict);
    world.audited("job.create", 1).await;
}

#[tokio::test]
async fn an_organisation_has_so_many_jobs_and_no_more() {
    let world = World::new().await;
    world.job("first").await;
    world
        .run_as_tenant(
            "INSERT INTO scheduler.jobs (org_id, id, name, handler, pool, timeout_ms, retries, backoff_ms, created_at, updated_at)
             SELECT org_id, gen_random_uuid(), 'job ' || n, handler, pool, timeout_ms, retries, backoff_ms, created_at, updated_at
             FROM scheduler.jobs, generate_series(1, 9998) AS n",
        )
        .await;
    let grant = world.grant(world.org, Role::Owner);
    let requests: Vec<_> = (0..5).map(|n| new_job(&format!("last {n}"))).collect();
    let made =
        futures::future::join_all(requests.iter().map(|new| world.ask_as(&grant, new))).await;
    let (made, not): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), not.len()), (1, 4));
    for answer in not {
        assert_eq!(refused(answer).0, ProblemKind::Conflict);
    }
}

#[tokio::test]
async fn settings_are_the_organisations_and_the_share_is_the_platforms() {
    let world = World::new().await;
    let nothing = Settings {
        paused: false,
        concurrency: None,
        weight: 1,
    };
    assert_eq!(world.ask(&SettingsGet {}).await.unwrap(), nothing);
    let said = SettingsEdit {
        paused: Some(true),
        concurrency: Edit::Set(5),
        weight: None,
    };
    let expected = Settings {
        paused: true,
        concurrency: Some(5),
        weight: 1,
    };
    assert_eq!(world.ask(&said).await.unwrap(), expected);
    assert_eq!(world.ask(&SettingsGet {}).await.unwrap(), expected);
    let elsewhere = world.grant(OrgId::new(), Role::Owner);
    assert_eq!(
        world.ask_as(&elsewhere, &SettingsGet {}).await.unwrap(),
        nothing
    );
    let weight = |weight| SettingsEdit {
        weight: Some(weight),
        ..SettingsEdit::default()
    };
    assert_eq!(
        refused(world.ask(&weight(2)).await).0,
        ProblemKind::Forbidden
    );
    let platform = world.grant_with(world.org, Role::Owner.scopes().with_platform_admin());
    assert_eq!(world.ask_as(&platform, &weight(2)).await.unwrap().weight, 2);
    assert_eq!(
        refused(world.ask_as(&platform, &weight(101)).await),
        (ProblemKind::Invalid, "weight".into())
    );
    let zero = SettingsEdit {
        concurrency: Edit::Set(0),
        ..SettingsEdit::default()
    };
    assert_eq!(
        refused(world.ask(&zero).await),
        (ProblemKind::Invalid, "concurrency".into())
    );
    let free = SettingsEdit {
        paused: Some(false),
        concurrency: Edit::Clear,
        weight: None,
    };
    let free = world.ask(&free).await.unwrap();
    assert_eq!(
        (free.paused, free.concurrency, free.weight),
        (false, None, 2)
    );
}
