//! What was measured, as tables.

use std::time::Duration;

use crate::latency::Paced;
use crate::usage::Cost;
use crate::{AT_ONCE, KINDS, Kind, Load};

/// The faster of these is what DashFleet is compared with.
const PEERS: [Kind; 2] = [Kind::BullMq, Kind::Graphile];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::DashFleet => "DashFleet",
            Self::BullMq => "BullMQ",
            Self::Graphile => "graphile-worker",
        }
    }

    /// What an end is worth.
    fn durability(self) -> &'static str {
        match self {
            Self::DashFleet => "a committed row COMPLETED and its event, synced",
            Self::BullMq => "kept by Redis, its log synced each second",
            Self::Graphile => "its row deleted, committed and synced",
        }
    }
}

/// One measurement of one of them.
pub struct Turn {
    pub load: Load,
    pub enqueued_in: Duration,
    pub took: Duration,
    pub cost: Cost,
}

impl Turn {
    fn per_second(&self) -> f64 {
        self.load.jobs as f64 / self.took.as_secs_f64()
    }

    fn enqueued_per_second(&self) -> f64 {
        self.load.jobs as f64 / self.enqueued_in.as_secs_f64()
    }

    /// What one of the jobs has of an amount.
    fn of_a_job(&self, amount: f64) -> f64 {
        amount / self.load.jobs as f64
    }
}

/// All that was measured.
#[derive(Default)]
pub struct Report {
    turns: Vec<(usize, Kind, Turn)>,
    paced: Vec<Paced>,
}

impl Report {
    pub fn paced(&mut self, paced: Paced) {
        println!(
            "100 executions a second: p50 {:.2} ms, p99 {:.2} ms; floor p50 {:.2} ms, p99 {:.2} ms; p50 is {:.2} x floor",
            paced.p50,
            paced.p99,
            paced.floor_p50,
            paced.floor_p99,
            paced.p50 / paced.floor_p50
        );
        self.paced.push(paced);
    }

    pub fn took(&mut self, run: usize, kind: Kind, turn: Turn) {
        println!(
            "{}, {} at once: {} jobs in {:.2} s, {:.0} a second (enqueued {:.0} a second)",
            kind.name(),
            turn.load.at_once,
            turn.load.jobs,
            turn.took.as_secs_f64(),
            turn.per_second(),
            turn.enqueued_per_second()
        );
        self.turns.push((run, kind, turn));
    }

    /// The measurements of one of them.
    fn of(&self, kind: Kind, at_once: usize) -> Vec<&Turn> {
        let all = self.turns.iter();
        all.filter(|(_, of, turn)| *of == kind && turn.load.at_once == at_once)
            .map(|(_, _, turn)| turn)
            .collect()
    }

    /// In each run, how many times as many as the faster peer.
    fn ratios(&self, at_once: usize) -> Vec<f64> {
        let in_run = |run: usize, kind: Kind| {
            let mut all = self.turns.iter();
            all.find(|(of, is, turn)| *of == run && *is == kind && turn.load.at_once == at_once)
                .map(|(_, _, turn)| turn.per_second())
        };
        let runs = self.turns.iter().map(|(run, _, _)| run + 1).max();
        (0..runs.unwrap_or_default())
            .filter_map(|run| {
                let faster = PEERS.into_iter().filter_map(|peer| in_run(run, peer));
                Some(in_run(run, Kind::DashFleet)? / faster.max_by(f64::total_cmp)?)
            })
            .collect()
    }

    pub fn print(&self) {
        println!("\n| | at once | jobs a second | runs | enqueued a second | an end is |");
        println!("|---|---|---|---|---|---|");
        for at_once in AT_ONCE {
            for kind in KINDS {
                let turns = self.of(kind, at_once);
                let rates: Vec<f64> = turns.iter().map(|turn| turn.per_second()).collect();
                let enqueued = turns.iter().map(|turn| turn.enqueued_per_second());
                if !turns.is_empty() {
                    println!(
                        "| {} | {at_once} | {:.0} | {} | {:.0} | {} |",
                        kind.name(),
                        median(rates.clone()),
                        listed(&rates, 0),
                        median(enqueued.collect()),
                        kind.durability()
                    );
                }
            }
        }
        for at_once in AT_ONCE {
            let ratios = self.ratios(at_once);
            if !ratios.is_empty() {
                println!(
                    "{at_once} at once: {:.2} x the faster peer (runs: {})",
                    median(ratios.clone()),
                    listed(&ratios, 2)
                );
            }
        }
        self.print_costs();
        self.print_paced();
    }

    /// The profile of the throughput.
    fn print_costs(&self) {
        println!("\n| | at once | ms of processor time a job | of it |");
        println!("|---|---|---|---|");
        for at_once in AT_ONCE {
            for kind in KINDS {
                let turns = self.of(kind, at_once);
                let Some(first) = turns.first() else {
                    continue;
                };
                let names = first.cost.processor.iter().map(|(name, _)| *name);
                let parts: Vec<(&str, f64)> = names
                    .enumerate()
                    .map(|(place, name)| {
                        let all = turns.iter();
                        let ms =
                            all.map(|turn| turn.of_a_job(turn.cost.processor[place].1 * 1_000.0));
                        (name, median(ms.collect()))
                    })
                    .collect();
                let told: Vec<String> = parts
                    .iter()
                    .filter(|(_, ms)| *ms >= 0.0005)
                    .map(|(name, ms)| format!("{name} {ms:.3}"))
                    .collect();
                println!(
                    "| {} | {at_once} | {:.3} | {} |",
                    kind.name(),
                    parts.iter().map(|(_, ms)| ms).sum::<f64>(),
                    told.join(", ")
                );
                if let Some(line) = written(&turns) {
                    println!("| | | | {line} |");
                }
            }
        }
    }

    fn print_paced(&self) {
        let of = |what: fn(&Paced) -> f64| median(self.paced.iter().map(what).collect());
        if !self.paced.is_empty() {
            println!(
                "\nmedians of {}: 100 executions a second: p50 {:.2} ms, p99 {:.2} ms; floor p50 {:.2} ms, p99 {:.2} ms; p50 / floor {:.2}",
                self.paced.len(),
                of(|paced| paced.p50),
                of(|paced| paced.p99),
                of(|paced| paced.floor_p50),
                of(|paced| paced.floor_p99),
                of(|paced| paced.p50 / paced.floor_p50)
            );
        }
    }
}

/// What of PostgreSQL's a job needs: the transactions in one run, the others' medians.
fn written(turns: &[&Turn]) -> Option<String> {
    let of = |what: fn((i64, i64)) -> i64| {
        let all = turns.iter().filter_map(|turn| {
            let amount = what(turn.cost.written?) as f64;
            Some(turn.of_a_job(amount))
        });
        all.collect::<Vec<f64>>()
    };
    let (writes, bytes) = (of(|(writes, _)| writes), of(|(_, bytes)| bytes));
    if writes.is_empty() {
        return None;
    }
    let counted = turns
        .iter()
        .find_map(|turn| Some(turn.of_a_job(turn.cost.transactions?)));
    let transactions = counted
        .map(|counted| format!(", {counted:.3} transactions in all"))
        .unwrap_or_default();
    Some(format!(
        "PostgreSQL: {:.3} transactions that write{transactions}, {:.0} bytes of its log",
        median(writes),
        median(bytes)
    ))
}

/// The middle one; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn listed(values: &[f64], digits: usize) -> String {
    let values = values.iter().map(|value| format!("{value:.digits$}"));
    values.collect::<Vec<_>>().join(", ")
}
