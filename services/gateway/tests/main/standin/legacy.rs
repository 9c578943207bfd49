//! The stand-ins of action and metrics, as far as agents of Dash-Fleet speak.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bus::Service;
use contract::legacy::{
    LegacyFigures, LegacyFleet, LegacyFleetPage, LegacyMachine, LegacyNoted, LegacyPending,
    LegacyQueue, LegacyQueued, LegacyReport, LegacyReported, LegacyResult, LegacyTask, LegacyTasks,
};
use contract::{Problem, ProblemKind};
use domain::access::{LEGACY_AGENT, LEGACY_OPERATOR};
use domain::action::{ActionKind, Payload};
use domain::{ActionId, MachineId, OrgId, Timestamp};

use super::{Actions, ELSEWHERE, HERE, Metrics, id};

impl Actions {
    pub(super) async fn answer_legacy(self: &Arc<Self>, service: &Service) {
        let this = self.clone();
        let queue = move |ctx: bus::Context, queue: LegacyQueue| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(LEGACY_OPERATOR)?;
                let kind: ActionKind = queue
                    .kind
                    .parse()
                    .map_err(|error| Problem::invalid("action_type", error))?;
                Payload::parse(kind, &queue.payload)
                    .map_err(|error| Problem::invalid(error.path, error.message))?;
                if queue.name == "nobody" {
                    return Err(Problem::not_found("machine"));
                }
                this.legacy_queued.lock().unwrap().push(queue);
                Ok(LegacyQueued {
                    action_id: ActionId::new(),
                })
            }
        };
        service.answer(queue).await.unwrap();
        let pending = |ctx: bus::Context, _: LegacyPending| async move {
            ctx.grant()?.require(LEGACY_AGENT)?;
            Ok(LegacyTasks {
                items: vec![LegacyTask {
                    action_id: ActionId(id(HERE)),
                    attempt: 1,
                    kind: ActionKind::Reboot,
                    payload: serde_json::json!({ "delaySeconds": 5 }),
                }],
            })
        };
        service.answer(pending).await.unwrap();
        let this = self.clone();
        let result = move |ctx: bus::Context, result: LegacyResult| {
            let this = this.clone();
            async move {
                ctx.grant()?.require(LEGACY_AGENT)?;
                if result.action_id.0 == id(ELSEWHERE) {
                    return Err(Problem::not_found("action"));
                }
                this.legacy_results.lock().unwrap().push(result);
                Ok(LegacyNoted { applied: true })
            }
        };
        service.answer(result).await.unwrap();
    }
}

impl Metrics {
    pub(super) async fn answer_legacy(self: &Arc<Self>, service: &Service) {
        let this = self.clone();
        let report = move |ctx: bus::Context, report: LegacyReport| {
            let this = this.clone();
            async move {
                let grant = ctx.grant()?;
                grant.require(LEGACY_AGENT)?;
                if report.name == "quarantined" {
                    let text = "this machine is quarantined";
                    return Err(Problem::new(ProblemKind::Forbidden, text));
                }
                if report.figures.cpu_percent > 100.0 {
                    return Err(Problem::invalid(
                        "report.cpu_percent",
                        "must be from 0 to 100",
                    ));
                }
                this.legacy_reports.lock().unwrap().push(report);
                Ok(LegacyReported {
                    org: grant.org,
                    machine_id: MachineId::new(),
                })
            }
        };
        service.answer(report).await.unwrap();
        let this = self.clone();
        let fleet = move |ctx: bus::Context, fleet: LegacyFleet| {
            let this = this.clone();
            async move {
                let grant = ctx.grant()?;
                grant.require(LEGACY_OPERATOR)?;
                let pages = this.legacy_pages.load(Ordering::SeqCst);
                if pages > 0 {
                    return Ok(page(grant.org, &fleet, pages));
                }
                // Two pages of one machine each.
                let reports = this.legacy_reports.lock().unwrap();
                let place = usize::from(fleet.after.is_some());
                let items: Vec<_> = reports.iter().skip(place).take(1).map(listed).collect();
                let next = items.last().filter(|_| place == 0 && reports.len() > 1);
                Ok(LegacyFleetPage {
                    org: grant.org,
                    next: next.map(|last: &LegacyMachine| last.name.clone()),
                    items,
                })
            }
        };
        service.answer(fleet).await.unwrap();
    }
}

/// A full page of so many; the next is named by its number.
fn page(org: OrgId, fleet: &LegacyFleet, pages: usize) -> LegacyFleetPage {
    let place: usize = fleet
        .after
        .as_deref()
        .map_or(0, |after| after.parse().unwrap());
    let machine = |n| {
        listed(&LegacyReport {
            name: format!("web-{place}-{n}"),
            address: "192.0.2.1".parse().unwrap(),
            figures: LegacyFigures::default(),
        })
    };
    LegacyFleetPage {
        org,
        items: (0..fleet.limit).map(machine).collect(),
        next: (place + 1 < pages).then(|| (place + 1).to_string()),
    }
}

fn listed(report: &LegacyReport) -> LegacyMachine {
    LegacyMachine {
        name: report.name.clone(),
        client: report.address.to_string(),
        at: Timestamp::now(),
        figures: report.figures.clone(),
        ttl_remaining_seconds: 600,
    }
}
