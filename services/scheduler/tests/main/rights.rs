//! Who may have a machine told something: whoever makes such a job, changes one, or asks for an execution of one.

use contract::job::{JobCreate, JobEdit, Order};
use contract::merge::Edit;
use contract::{Problem, ProblemKind};
use domain::MachineId;
use domain::access::Scopes;
use serde_json::json;

use super::execute::{asked, batch, item, with_config};
use super::job::edit;
use super::world::{World, execute, fields, new_job};

#[tokio::test]
async fn who_has_a_machine_told_something_needs_the_right_to_do_so() {
    let world = World::new().await;
    let only = |scopes: &[&str]| {
        let scopes = Scopes::from_names(scopes.iter().copied()).unwrap();
        world.grant_with(world.org, scopes)
    };
    let jobs = ["jobs:read", "jobs:write", "jobs:execute"];
    let narrow = only(&jobs);
    let pings = only(&[jobs.as_slice(), &["actions:write"]].concat());
    let acting = |kind: &str| fields(json!({ "machineId": MachineId::new(), "kind": kind }));
    let act = |name: &str, kind: &str| JobCreate {
        handler: "builtin/action".into(),
        config: acting(kind),
        ..new_job(name)
    };
    let forbidden = |answer: Problem, scope: &str| {
        let text = answer.detail;
        assert_eq!(answer.kind, ProblemKind::Forbidden, "{text}");
        assert!(text.contains(scope), "{text}");
        answer.errors.first().map(|error| error.path.clone())
    };
    // Who makes such a job,
    let made = world.ask_as(&narrow, &act("a", "ping")).await;
    forbidden(made.unwrap_err(), "actions:write");
    let made = world.ask_as(&pings, &act("a", "reboot")).await;
    forbidden(made.unwrap_err(), "actions:reboot");
    let ping = world.ask_as(&pings, &act("a", "ping")).await.unwrap();
    // or makes one of another, for which somebody who may more has asked already,
    let noop = world.job("noop").await;
    let asked_for = world.execute(noop.id).await.id;
    let edited = JobEdit {
        handler: Some("builtin/action".into()),
        config: Edit::Set(acting("reboot")),
        ..edit(noop.id)
    };
    for grant in [&narrow, &pings] {
        let answer = world.ask_as(grant, &edited).await;
        forbidden(answer.unwrap_err(), "actions:");
    }
    let config = JobEdit {
        config: Edit::Set(acting("restart")),
        ..edit(ping.id)
    };
    let answer = world.ask_as(&pings, &config).await;
    forbidden(answer.unwrap_err(), "actions:restart");
    // or asks for one: with what the job says, or with something else.
    let answer = world.ask_as(&narrow, &execute(ping.id)).await;
    assert_eq!(forbidden(answer.unwrap_err(), "actions:write"), None);
    let reboot = with_config(json!({ "kind": "reboot" }));
    let answer = world.ask_as(&pings, &asked(ping.id, reboot.clone())).await;
    forbidden(answer.unwrap_err(), "actions:reboot");
    let items = vec![
        item(noop.id, Order::default()),
        item(ping.id, Order::default()),
        item(ping.id, reboot),
    ];
    let answer = world.ask_as(&pings, &batch(items)).await;
    let path = forbidden(answer.unwrap_err(), "actions:reboot");
    assert_eq!(path.as_deref(), Some("items[2].jobId"));
    // What is nobody's action needs none: a name, a switch, an execution of what the job says.
    let switch = JobEdit {
        name: Some("b".into()),
        enabled: Some(true),
        ..edit(ping.id)
    };
    world.ask_as(&narrow, &switch).await.unwrap();
    world.ask_as(&narrow, &execute(noop.id)).await.unwrap();
    world.ask_as(&pings, &execute(ping.id)).await.unwrap();
    assert_eq!(world.get(asked_for).await.job_id, noop.id);
    assert_eq!(
        world.count("SELECT count(*) FROM scheduler.waiting").await,
        3
    );
}

#[tokio::test]
async fn what_was_asked_for_with_another_kind_stays_with_its_machine() {
    let world = World::new().await;
    let [machine, other] = [MachineId::new(), MachineId::new()];
    let job = JobCreate {
        handler: "builtin/action".into(),
        config: fields(json!({ "machineId": machine, "kind": "ping" })),
        ..new_job("a")
    };
    let job = world.ask(&job).await.unwrap().id;
    let reboot = with_config(json!({ "kind": "reboot" }));
    let asked_for = world.ask(&asked(job, reboot)).await.unwrap().id;
    let plain = world.execute(job).await.id;
    let edited = JobEdit {
        config: Edit::Set(fields(json!({ "machineId": other, "kind": "ping" }))),
        ..edit(job)
    };
    world.ask(&edited).await.unwrap();
    let worker = world.worker().await;
    for (id, expected) in [(asked_for, (machine, "reboot")), (plain, (other, "ping"))] {
        let given = worker.claim(&[world.offer(id)]).await.remove(0).config;
        let (machine, kind) = expected;
        assert_eq!(given["machineId"], json!(machine));
        assert_eq!(given["kind"], kind);
    }
}
