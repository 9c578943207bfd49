//! Temperatures and batteries, from `/sys/class`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::agent::{BatterySample, BatteryState, TemperatureSample};

use crate::collect::percent;

/// The most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 256;
/// The longest name, in characters.
const NAME_MAX_CHARS: usize = 64;
/// Below and above this a sensor is broken or not connected.
const SANE: std::ops::RangeInclusive<f64> = -100.0..=300.0;

/// Temperatures by the hardware monitors in `classes` (`/sys/class`), else by the thermal zones there.
///
/// # Errors
/// When there are sensors and none of them answers.
pub fn temperatures(classes: &Path) -> Result<Vec<TemperatureSample>, String> {
    let mut found = Found::default();
    for monitor in entries(&classes.join("hwmon"), "hwmon") {
        let chip = text(&monitor.join("name")).unwrap_or_default();
        for input in entries(&monitor, "temp") {
            let Some(sensor) = input.to_str().and_then(|path| path.strip_suffix("_input")) else {
                continue;
            };
            let label = text(Path::new(&format!("{sensor}_label")))
                .unwrap_or_else(|| sensor.rsplit('/').next().unwrap_or_default().to_owned());
            let critical = text(Path::new(&format!("{sensor}_crit")));
            found.take(&format!("{chip} {label}"), &input, critical.as_deref());
        }
    }
    if found.sensors == 0 {
        for zone in entries(&classes.join("thermal"), "thermal_zone") {
            let name = text(&zone.join("type")).unwrap_or_default();
            found.take(&name, &zone.join("temp"), None);
        }
    }
    match found.wrong {
        Some(wrong) if found.samples.is_empty() => Err(wrong),
        _ => Ok(found.samples),
    }
}

#[derive(Default)]
struct Found {
    sensors: usize,
    samples: Vec<TemperatureSample>,
    names: BTreeMap<String, u32>,
    wrong: Option<String>,
}

impl Found {
    fn take(&mut self, name: &str, input: &Path, critical: Option<&str>) {
        self.sensors += 1;
        // Some sensors answer only while their device is awake.
        let read = std::fs::read_to_string(input).map_err(|error| error.to_string());
        let celsius = match read.map(|text| celsius(&text)) {
            Ok(Some(celsius)) => celsius,
            Ok(None) => return,
            Err(reason) => {
                self.wrong = Some(format!("{}: {reason}", input.display()));
                return;
            }
        };
        let name: String = name.trim().chars().take(NAME_MAX_CHARS).collect();
        // Two disks of one kind have sensors of one name.
        let count = self.names.entry(name.clone()).or_default();
        *count += 1;
        self.samples.push(TemperatureSample {
            name: if *count > 1 {
                format!("{name} #{count}")
            } else {
                name
            },
            celsius,
            critical: critical.and_then(celsius_of_limit),
        });
    }
}

/// Thousandths of a degree; `None` for what no machine has.
fn celsius(text: &str) -> Option<f64> {
    let thousandths: i32 = text.trim().parse().ok()?;
    let celsius = (f64::from(thousandths) / 100.0).round() / 10.0;
    SANE.contains(&celsius).then_some(celsius)
}

/// A limit of 0 means that there is none.
fn celsius_of_limit(text: &str) -> Option<f64> {
    celsius(text).filter(|celsius| *celsius > 0.0)
}

/// The machine's own batteries in `classes` (`/sys/class`); those of mice and keyboards are left out.
///
/// # Errors
/// When there are batteries and none of them answers.
pub fn batteries(classes: &Path) -> Result<Vec<BatterySample>, String> {
    let mut samples = Vec::new();
    let mut wrong = None;
    for supply in entries(&classes.join("power_supply"), "") {
        let is = |file: &str, word: &str| text(&supply.join(file)).as_deref() == Some(word);
        if !is("type", "Battery") || is("scope", "Device") || is("present", "0") {
            continue;
        }
        let name = supply.file_name().unwrap_or_default().to_string_lossy();
        let capacity = supply.join("capacity");
        let share = std::fs::read_to_string(&capacity)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                text.trim()
                    .parse::<f64>()
                    .map_err(|error| error.to_string())
            });
        match share {
            Ok(share) => samples.push(BatterySample {
                name: name.chars().take(NAME_MAX_CHARS).collect(),
                percent: percent(share),
                state: match text(&supply.join("status")).as_deref() {
                    Some("Charging") => BatteryState::Charging,
                    Some("Discharging") => BatteryState::Discharging,
                    Some("Full") => BatteryState::Full,
                    Some("Not charging") => BatteryState::Idle,
                    _ => BatteryState::Unknown,
                },
            }),
            Err(reason) => wrong = Some(format!("{}: {reason}", capacity.display())),
        }
    }
    match wrong {
        Some(wrong) if samples.is_empty() => Err(wrong),
        _ => Ok(samples),
    }
}

/// The entries of a folder that begin with this, sorted; none where there is no such folder.
pub(super) fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let begins = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(prefix.as_bytes());
    let mut paths: Vec<_> = entries
        .flatten()
        .filter(|entry| begins(&entry.file_name()))
        .take(ENTRIES_MAX)
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// The text of a small file without what is around it and without control characters; `None` when it cannot be read or
/// says nothing.
pub(super) fn text(path: &Path) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    let text: String = String::from_utf8_lossy(&text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.chars().take(200).collect())
}
