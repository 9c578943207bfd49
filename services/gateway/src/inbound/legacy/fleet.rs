//! How machines are, in the words of Dash-Fleet: reported by agents, listed for operators' scripts.

use std::cmp::Ordering;
use std::net::IpAddr;

use contract::legacy::{FLEET_PAGE_MAX, LegacyFigures, LegacyFleet, LegacyMachine, LegacyReport};
use domain::OrgId;
use domain::health::{Health, HealthStatus, health};
use poem::Response;
use poem::http::StatusCode;
use serde_json::{Value, json};

use super::given::{Given, wrong};
use super::{Legacy, shown};
use crate::caller::Caller;
use crate::error::Refused;

/// The most machines of one list: this route has no pages. A list that has not all says so.
const FLEET_MAX: usize = 10_000;

/// By what a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Name,
    Health,
    Newest,
    Cpu,
    Ram,
    Disk,
}

/// Which machines a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    All,
    Status(HealthStatus),
    Expired,
    Active,
}

/// A machine with its health.
struct Listed {
    machine: LegacyMachine,
    health: Health,
}

/// An organisation's machines, or as many as a list may have.
struct Fleet {
    org: OrgId,
    listed: Vec<Listed>,
    truncated: bool,
}

impl Listed {
    fn is_expired(&self) -> bool {
        self.machine.ttl_remaining_seconds == 0
    }
}

impl Legacy {
    pub(super) async fn report(
        &self,
        caller: &Caller,
        given: &Given,
        address: IpAddr,
    ) -> Result<Response, Refused> {
        let name = given.text("machine_id")?.to_owned();
        let report = LegacyReport {
            name: name.clone(),
            address,
            figures: figures(&given.report()?)?,
        };
        let reported = self.owners.write(caller, &report).await?;
        let body = json!({
            "status": "success", "ok": true, "machine_id": name, "org_id": reported.org,
        });
        Ok(shown(StatusCode::OK, &body))
    }

    pub(super) async fn fleet(&self, caller: &Caller, given: &Given) -> Result<Response, Refused> {
        let sort = sort(given.shown("sort_by"))?;
        let filter = filter(given.shown("filter_status"))?;
        let Fleet {
            org,
            mut listed,
            truncated,
        } = self.fleet_all(caller).await?;
        listed.retain(|listed| match filter {
            Filter::All => true,
            Filter::Status(status) => listed.health.status == status && !listed.is_expired(),
            Filter::Expired => listed.is_expired(),
            Filter::Active => !listed.is_expired(),
        });
        listed.sort_by(|one, other| compare(sort, one, other));
        let expired = listed.iter().filter(|listed| listed.is_expired()).count();
        let machines: Vec<Value> = listed.iter().map(|listed| view(org, listed)).collect();
        let body = json!({
            "count": machines.len(), "expired": expired, "truncated": truncated, "org_id": org, "data": machines,
            "machines": machines,
        });
        Ok(shown(StatusCode::OK, &body))
    }

    async fn fleet_all(&self, caller: &Caller) -> Result<Fleet, Refused> {
        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let question = LegacyFleet {
                after,
                limit: FLEET_PAGE_MAX,
            };
            let page = self.owners.read(caller, &question).await?;
            listed.extend(page.items.into_iter().map(|machine| {
                let figures = &machine.figures;
                Listed {
                    health: health(
                        figures.cpu_percent,
                        figures.ram_percent,
                        figures.disk_percent,
                    ),
                    machine,
                }
            }));
            after = page.next;
            if after.is_none() || listed.len() >= FLEET_MAX {
                return Ok(Fleet {
                    org: page.org,
                    listed,
                    truncated: after.is_some(),
                });
            }
        }
    }
}

fn figures(report: &Given) -> Result<LegacyFigures, Refused> {
    Ok(LegacyFigures {
        cpu_percent: report.number_required("cpu_percent")?,
        ram_percent: report.number_required("ram_percent")?,
        disk_percent: report.number_required("disk_percent")?,
        ram_used_gib: report.number("ram_used_gib")?,
        ram_total_gib: report.number("ram_total_gib")?,
        disk_used_gib: report.number("disk_used_gib")?,
        disk_total_gib: report.number("disk_total_gib")?,
        uptime_seconds: report.number("uptime_seconds")?,
        uptime: report.value("uptime").cloned(),
        uptime_hms: report.value("uptime_hms").cloned(),
        timestamp: report.value("timestamp").cloned(),
    })
}

fn sort(text: &str) -> Result<Sort, Refused> {
    Ok(match text {
        "" | "machine_id" | "id" | "name" | "hostname" => Sort::Name,
        "health" | "score" | "health_score" | "status" => Sort::Health,
        "ts" | "timestamp" | "last_seen" | "ttl" => Sort::Newest,
        "cpu" | "cpu_percent" => Sort::Cpu,
        "ram" | "ram_percent" | "memory" => Sort::Ram,
        "disk" | "disk_percent" => Sort::Disk,
        _ => {
            let known = "must be machine_id, health, ts, cpu, ram or disk";
            return Err(wrong("sort_by", known));
        }
    })
}

fn filter(text: &str) -> Result<Filter, Refused> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "" | "all" => Filter::All,
        "ok" => Filter::Status(HealthStatus::Ok),
        "warn" => Filter::Status(HealthStatus::Warn),
        "critical" => Filter::Status(HealthStatus::Critical),
        "expired" => Filter::Expired,
        "active" => Filter::Active,
        _ => {
            let known = "must be all, ok, warn, critical, active or expired";
            return Err(wrong("filter_status", known));
        }
    })
}

/// The worst first, the newest first, the most used first; machines that are alike by their names.
fn compare(sort: Sort, one: &Listed, other: &Listed) -> Ordering {
    let figures = |listed: &Listed| match sort {
        Sort::Cpu => listed.machine.figures.cpu_percent,
        Sort::Ram => listed.machine.figures.ram_percent,
        Sort::Disk => listed.machine.figures.disk_percent,
        Sort::Name | Sort::Health | Sort::Newest => 0.0,
    };
    let by_sort = match sort {
        Sort::Name => Ordering::Equal,
        Sort::Health => one.health.score.cmp(&other.health.score),
        Sort::Newest => other.machine.at.cmp(&one.machine.at),
        Sort::Cpu | Sort::Ram | Sort::Disk => figures(other).total_cmp(&figures(one)),
    };
    by_sort.then_with(|| one.machine.name.cmp(&other.machine.name))
}

fn view(org: OrgId, listed: &Listed) -> Value {
    let Listed { machine, health } = listed;
    #[allow(clippy::cast_precision_loss)] // milliseconds of this age are exact in a double
    let seconds = machine.at.millis() as f64 / 1_000.0;
    json!({
        "id": format!("{org}:{}", machine.name),
        "machine_id": machine.name,
        "client": machine.client,
        "org_id": org,
        "ts": seconds,
        "report": machine.figures,
        "health": {
            "score": health.score,
            "status": health.status.as_str().to_ascii_lowercase(),
            "components": health.components,
        },
        "ttl_remaining_seconds": machine.ttl_remaining_seconds,
        "expired": listed.is_expired(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, cpu: f64, left: u32) -> Listed {
        let figures = LegacyFigures {
            cpu_percent: cpu,
            ..LegacyFigures::default()
        };
        Listed {
            health: health(cpu, 0.0, 0.0),
            machine: LegacyMachine {
                name: name.to_owned(),
                client: "192.0.2.1".to_owned(),
                at: domain::Timestamp::now(),
                figures,
                ttl_remaining_seconds: left,
            },
        }
    }

    #[test]
    fn the_worst_is_first_and_names_decide_between_equals() {
        let mut fleet = [
            listed("b", 10.0, 1),
            listed("c", 99.0, 1),
            listed("a", 10.0, 1),
        ];
        for (sort_by, expected) in [("machine_id", "abc"), ("health", "cab"), ("cpu", "cab")] {
            let sort = sort(sort_by).expect("a sort");
            fleet.sort_by(|one, other| compare(sort, one, other));
            let names: String = fleet.iter().map(|one| one.machine.name.as_str()).collect();
            assert_eq!(names, expected, "{sort_by}");
        }
        assert!(sort("colour").is_err() && filter("blue").is_err());
    }

    #[test]
    fn a_machine_is_shown_as_dash_fleet_did() {
        let org = OrgId::new();
        let shown = view(org, &listed("web 1", 100.0, 0));
        assert_eq!(shown["id"], format!("{org}:web 1"));
        assert_eq!(shown["health"]["status"], "warn");
        assert_eq!(shown["expired"], true);
        assert!(shown["ts"].is_f64() && shown["report"]["cpu_percent"] == 100.0);
    }
}
