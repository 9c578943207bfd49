//! The health score, exactly as the ancestors' users know it: cpu falls linearly from 1 at 50 % to 0 at 100 %,
//! ram from 60 %, disk from 70 %; weights .35, .35, .30; score = round(100 · sum); OK ≥ 80, WARN ≥ 60, else CRITICAL.

use serde::{Deserialize, Serialize};

/// How a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HealthStatus {
    /// Score 80 and more.
    Ok,
    /// Score 60 to 79.
    Warn,
    /// Score below 60.
    Critical,
}

impl HealthStatus {
    /// The name as it is sent: `OK`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Critical => "CRITICAL",
        }
    }
}

/// The parts of a score, each 0 (bad) to 1 (good), with three decimals. (The score is made of them as they are before.)
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthComponents {
    /// From the use of all cores.
    pub cpu: f64,
    /// From the use of memory.
    pub ram: f64,
    /// From the use of the fullest disk.
    pub disk: f64,
}

/// A machine's health at one sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// 0 to 100.
    pub score: u8,
    /// The score in a word.
    pub status: HealthStatus,
    /// What it is made of.
    pub components: HealthComponents,
}

const CPU_KNEE: f64 = 50.0;
const RAM_KNEE: f64 = 60.0;
const DISK_KNEE: f64 = 70.0;
const CPU_WEIGHT: f64 = 0.35;
const RAM_WEIGHT: f64 = 0.35;
const DISK_WEIGHT: f64 = 0.30;

/// 1 up to the knee, then linearly down to 0 at 100 %.
fn component(percent: f64, knee: f64) -> f64 {
    let percent = percent.clamp(0.0, 100.0);
    if percent <= knee {
        1.0
    } else {
        (100.0 - percent) / (100.0 - knee)
    }
}

/// The health of a machine that uses these percents (0 to 100; what lies outside is taken as the nearer end).
#[must_use]
pub fn health(cpu_percent: f64, ram_percent: f64, disk_percent: f64) -> Health {
    let components = HealthComponents {
        cpu: component(cpu_percent, CPU_KNEE),
        ram: component(ram_percent, RAM_KNEE),
        disk: component(disk_percent, DISK_KNEE),
    };
    let sum =
        CPU_WEIGHT * components.cpu + RAM_WEIGHT * components.ram + DISK_WEIGHT * components.disk;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let score = (100.0 * sum).round().clamp(0.0, 100.0) as u8;
    let status = match score {
        80.. => HealthStatus::Ok,
        60..=79 => HealthStatus::Warn,
        _ => HealthStatus::Critical,
    };
    let shown = |component: f64| (component * 1_000.0).round() / 1_000.0;
    Health {
        score,
        status,
        components: HealthComponents {
            cpu: shown(components.cpu),
            ram: shown(components.ram),
            disk: shown(components.disk),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_known_scores() {
        for (cpu, ram, disk, score, status) in [
            (0.0, 0.0, 0.0, 100, HealthStatus::Ok),
            (50.0, 60.0, 70.0, 100, HealthStatus::Ok),
            (75.0, 60.0, 70.0, 83, HealthStatus::Ok),
            (75.0, 80.0, 70.0, 65, HealthStatus::Warn),
            (75.0, 80.0, 85.0, 50, HealthStatus::Critical),
            (100.0, 0.0, 0.0, 65, HealthStatus::Warn),
            (100.0, 100.0, 100.0, 0, HealthStatus::Critical),
            (f64::MAX, -3.0, 0.0, 65, HealthStatus::Warn),
        ] {
            let got = health(cpu, ram, disk);
            assert_eq!(
                (got.score, got.status),
                (score, status),
                "{cpu} {ram} {disk}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn more_use_never_raises_the_score(cpu in 0.0..100.0f64, ram in 0.0..100.0f64, disk in 0.0..100.0f64, more in 0.0..50.0f64) {
            let base = health(cpu, ram, disk).score;
            proptest::prop_assert!(health(cpu + more, ram, disk).score <= base);
            proptest::prop_assert!(health(cpu, ram + more, disk).score <= base);
            proptest::prop_assert!(health(cpu, ram, disk + more).score <= base);
        }
    }
}
