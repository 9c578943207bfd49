//! Processor time that processes have used, as the kernel counts it.

use crate::product::children;

/// The kernel counts in hundredths of a second on every platform of ours.
const TICKS: f64 = 100.0;

/// Of user and system: its own, and that of its children that have ended. `None` when there is no such process.
fn counted(pid: i32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may have spaces and parentheses: state, parent, and so on.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    match ticks[..] {
        [user, system, of_children, system_of_children] => Some((
            (user + system) / TICKS,
            (of_children + system_of_children) / TICKS,
        )),
        _ => None,
    }
}

/// Seconds that a process has used.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn seconds(pid: i32) -> f64 {
    counted(pid).expect("a process that lives").0
}

/// The same with its children, those included that have ended: all of a PostgreSQL.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn seconds_with_children(pid: i32) -> f64 {
    let (own, ended) = counted(pid).expect("a process that lives");
    // One that ends at this moment is counted at the next look.
    let living = children(pid).into_iter().filter_map(counted);
    own + ended + living.map(|(own, ended)| own + ended).sum::<f64>()
}
