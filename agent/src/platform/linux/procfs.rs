//! What `/proc` says of interfaces and processes.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use super::super::{Process, Traffic};

/// The most processes that are looked at.
const PROCESSES_MAX: usize = 65_536;

/// What passed through the network interfaces.
///
/// # Errors
/// Why it cannot be read.
pub fn traffic() -> Result<Vec<Traffic>, String> {
    let path = "/proc/self/net/dev";
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(parse_traffic(&text))
}

/// Reads the table that `/proc/net/dev` shows.
#[must_use]
pub fn parse_traffic(text: &str) -> Vec<Traffic> {
    let line = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let figures: Vec<u64> = figures
            .split_whitespace()
            .map(|figure| figure.parse().ok())
            .collect::<Option<_>>()?;
        let at = |index: usize| figures.get(index).copied();
        Some(Traffic {
            name: name.trim().to_owned(),
            received: at(0)?,
            packets_received: at(1)?,
            receive_errors: at(2)?,
            receive_drops: Some(at(3)?),
            sent: at(8)?,
            packets_sent: at(9)?,
            send_errors: at(10)?,
            send_drops: Some(at(11)?),
        })
    };
    text.lines().filter_map(line).collect()
}

/// All processes. One that ends meanwhile is left out.
///
/// # Errors
/// Why they cannot be listed.
pub fn processes() -> Result<Vec<Process>, String> {
    let entries = std::fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let units = Units::of_system();
    let mut processes = Vec::new();
    let mut buffer = [0; 1_024];
    for entry in entries.take(PROCESSES_MAX) {
        let Ok(entry) = entry else { break };
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read =
            File::open(entry.path().join("stat")).and_then(|mut stat| stat.read(&mut buffer));
        let text = match read {
            Ok(length) => String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()),
            Err(_) => continue,
        };
        processes.extend(parse_stat(pid, &text, units));
    }
    Ok(processes)
}

/// In what the system counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// Ticks of processor time in a second.
    pub ticks: u64,
    /// Bytes of a page.
    pub page: u64,
}

impl Units {
    #[allow(unsafe_code)]
    fn of_system() -> Self {
        // SAFETY: sysconf takes any number and has no other preconditions.
        let ask = |name| unsafe { libc::sysconf(name) };
        let positive = |value: libc::c_long, usual| {
            u64::try_from(value)
                .ok()
                .filter(|value| *value > 0)
                .unwrap_or(usual)
        };
        Self {
            ticks: positive(ask(libc::_SC_CLK_TCK), 100),
            page: positive(ask(libc::_SC_PAGESIZE), 4_096),
        }
    }
}

/// Reads `/proc/<pid>/stat`. The name may have spaces and parentheses: it ends at the last one.
#[must_use]
pub fn parse_stat(pid: u32, text: &str, units: Units) -> Option<Process> {
    let (_, rest) = text.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    // The first of these is the third field of the manual page.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)?.saturating_add(field(15)?);
    Some(Process {
        pid,
        name: name.to_owned(),
        started: field(22)?,
        cpu: Duration::from_millis(ticks.saturating_mul(1_000) / units.ticks.max(1)),
        memory: field(24)?.saturating_mul(units.page),
    })
}
