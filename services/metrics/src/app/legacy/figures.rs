//! The words of a report, checked, as a sample.

use chrono::{DateTime, Duration};
use contract::Problem;
use contract::agent::{CpuSample, DiskSample, MemorySample, Sample, SwapSample};
use contract::legacy::{LegacyFigures, TEXT_MAX_CHARS};
use domain::Timestamp;
use serde_json::Value;

/// The most GiB that a figure may say: what bytes in 64 bits hold.
const GIB_MAX: f64 = 1e9;
/// The longest uptime: a thousand years.
const UPTIME_MAX_SECONDS: f64 = 31_557_600_000.0;
/// How far a report's own time may lie from ours to be the sample's. Such agents keep nothing: whatever they report is of
/// now, and a clock that is further off is wrong.
const NEAR: Duration = Duration::minutes(10);
const GIB: f64 = 1_073_741_824.0;

/// The sample that a report makes.
///
/// # Errors
/// INVALID naming the field as Dash-Fleet does.
pub fn sample(figures: &LegacyFigures, now: Timestamp) -> Result<Sample, Problem> {
    for (name, percent) in [
        ("cpu_percent", figures.cpu_percent),
        ("ram_percent", figures.ram_percent),
        ("disk_percent", figures.disk_percent),
    ] {
        if !(0.0..=100.0).contains(&percent) {
            // What was said is not said again: it may have three hundred digits.
            return Err(wrong(name, "must be from 0 to 100".into()));
        }
    }
    for (name, text) in [
        ("uptime", &figures.uptime),
        ("uptime_hms", &figures.uptime_hms),
        ("timestamp", &figures.timestamp),
    ] {
        check_text(name, text.as_ref())?;
    }
    let memory = (
        bytes("ram_used_gib", figures.ram_used_gib)?,
        bytes("ram_total_gib", figures.ram_total_gib)?,
    );
    let disk = (
        bytes("disk_used_gib", figures.disk_used_gib)?,
        bytes("disk_total_gib", figures.disk_total_gib)?,
    );
    let uptime = figures.uptime_seconds.unwrap_or(0.0);
    if !(0.0..=UPTIME_MAX_SECONDS).contains(&uptime) {
        let message = format!("must be from 0 to {UPTIME_MAX_SECONDS}");
        return Err(wrong("uptime_seconds", message));
    }
    // Both are rounded figures: of a full disk the part may seem larger than the whole.
    let part = |(used, total): (u64, u64)| used.min(total);
    Ok(Sample {
        at: time(figures.timestamp.as_ref(), now),
        cpu: CpuSample {
            percent: figures.cpu_percent,
            cores: Vec::new(),
        },
        load: None,
        memory: MemorySample {
            total: memory.1,
            used: part(memory),
            available: memory.1 - part(memory),
            percent: figures.ram_percent,
        },
        swap: SwapSample { total: 0, used: 0 },
        // Which one it is, such a report does not say.
        disks: vec![DiskSample {
            mount: "/".into(),
            file_system: String::new(),
            total: disk.1,
            used: part(disk),
            percent: figures.disk_percent,
            ..DiskSample::default()
        }],
        networks: Vec::new(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within bounds, above
        uptime_seconds: uptime as u64,
        processes: 0,
        temperatures: Vec::new(),
        batteries: Vec::new(),
        top_processes: None,
        faults: Vec::new(),
    })
}

fn wrong(name: &str, message: String) -> Problem {
    Problem::invalid(format!("report.{name}"), message)
}

fn bytes(name: &str, gib: Option<f64>) -> Result<u64, Problem> {
    let gib = gib.unwrap_or(0.0);
    if !(0.0..=GIB_MAX).contains(&gib) {
        return Err(wrong(name, format!("must be from 0 to {GIB_MAX}")));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within bounds, above
    let bytes = (gib * GIB).round() as u64;
    Ok(bytes)
}

/// What is only shown is short, and has nothing that a screen would obey.
fn check_text(name: &str, value: Option<&Value>) -> Result<(), Problem> {
    match value {
        None | Some(Value::Number(_)) => Ok(()),
        Some(Value::String(text)) if text.chars().any(char::is_control) => {
            Err(wrong(name, "has control characters".into()))
        }
        Some(Value::String(text)) if text.chars().count() > TEXT_MAX_CHARS => Err(wrong(
            name,
            format!("has more than {TEXT_MAX_CHARS} characters"),
        )),
        Some(Value::String(_)) => Ok(()),
        Some(_) => Err(wrong(name, "must be a text or a number".into())),
    }
}

/// The report's own time when it has a zone and is near; else ours.
fn time(said: Option<&Value>, now: Timestamp) -> Timestamp {
    said.and_then(Value::as_str)
        .and_then(|text| DateTime::parse_from_rfc3339(text.trim()).ok())
        .map(|time| Timestamp::from(time.to_utc()))
        .filter(|time| now.since(*time).abs() <= NEAR)
        .unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn figures() -> LegacyFigures {
        LegacyFigures {
            cpu_percent: 12.5,
            ram_percent: 50.0,
            disk_percent: 70.0,
            ram_used_gib: Some(8.0),
            ram_total_gib: Some(16.0),
            ..LegacyFigures::default()
        }
    }

    #[test]
    fn figures_become_bytes_and_what_is_missing_is_nothing() -> Result<(), Problem> {
        let now = Timestamp::now();
        let sample = sample(&figures(), now)?;
        assert_eq!(sample.at, now);
        assert_eq!(
            (sample.memory.total, sample.memory.used),
            (1 << 34, 1 << 33)
        );
        let disk = sample.disks.first().map(|disk| (disk.total, disk.percent));
        assert_eq!(disk, Some((0, 70.0)));
        Ok(())
    }

    #[test]
    fn each_wrong_figure_is_named() {
        type Spoil = fn(&mut LegacyFigures);
        let cases: [(&str, Spoil); 9] = [
            ("report.cpu_percent", |f| f.cpu_percent = 100.1),
            ("report.cpu_percent", |f| f.cpu_percent = 1e300),
            ("report.ram_percent", |f| f.ram_percent = -0.1),
            ("report.disk_percent", |f| f.disk_percent = f64::NAN),
            ("report.ram_total_gib", |f| f.ram_total_gib = Some(-1.0)),
            ("report.disk_used_gib", |f| f.disk_used_gib = Some(1e10)),
            ("report.uptime_seconds", |f| f.uptime_seconds = Some(-1.0)),
            ("report.uptime", |f| f.uptime = Some(json!({}))),
            ("report.timestamp", |f| f.timestamp = Some(json!("a\0b"))),
        ];
        for (path, spoil) in cases {
            let mut figures = figures();
            spoil(&mut figures);
            let refused = sample(&figures, Timestamp::now()).err();
            let named = refused.and_then(|problem| problem.errors.into_iter().next());
            assert_eq!(named.as_ref().map(|error| error.path.as_str()), Some(path));
            assert!(
                named.is_some_and(|error| error.message.len() < 100),
                "{path}"
            );
        }
    }

    #[test]
    fn only_a_time_with_a_zone_that_is_near_is_the_samples() {
        let now = Timestamp::now();
        let near = now.plus(Duration::minutes(-3));
        let with_zone = json!(near.to_string());
        assert_eq!(time(Some(&with_zone), now), near);
        for other in [
            json!("2026-01-09T23:52:38"),
            json!("2001-01-09T23:52:38Z"),
            json!(now.millis()),
            json!("yesterday"),
        ] {
            assert_eq!(time(Some(&other), now), now, "{other}");
        }
    }
}
