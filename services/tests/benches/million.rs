//! A million executions that have ended and a hundred thousand that wait: claims in a second and pages of lists, beside the same
//! on a database without them. (`fill` says what is filled in.) Two products with their default settings stand beside each other,
//! and are measured in turn: a machine that others use is now faster and now slower, by more than what is looked for.
//!
//! Claims: 10,000 executions of `builtin/noop` are asked for while their job is paused, then it goes on; counted is from the first
//! beginning to the last end, which are PostgreSQL's times. What waits besides is due, for the most part, and may not begin: the
//! dispatcher finds its lanes at each look around. Then, besides those, 100,000 that may begin, worked off to the last, each
//! tenth counted by itself.
//!
//! Lists: over HTTP, one after another. An empty list has nothing to show, so what the pages are compared with is a little history
//! of 10,000 ended and 1,000 waiting executions in the partitions that are there from the beginning: there each page is as full. It is
//! in a third product.
//!
//! Measured is the whole history before anybody has looked at the tables (plans are as old as the programs), and after autovacuum's
//! work. Aim: within 1.2 times. `DASHFLEET_BENCH_RUNS=1` makes it shorter.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::time::Duration;

use bench::Bench;

#[path = "million/bench.rs"]
mod bench;
#[path = "million/fill.rs"]
mod fill;
#[path = "million/lists.rs"]
mod lists;

/// Even: each product is as often first as second.
const RUNS: usize = 4;
/// After which the servers have written what they had in memory, for the most part.
const SETTLE: Duration = Duration::from_secs(15);

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// Claims in a second, once nobody is busy any more with what was before.
async fn settled(bench: &mut Bench) -> f64 {
    tokio::time::sleep(SETTLE).await;
    bench.claims().await
}

/// Claims in a second of two products in turn, and how many times slower the second is: medians.
async fn claims(empty: &mut Bench, full: &mut Bench, runs: usize) -> [f64; 3] {
    let mut all = [const { Vec::new() }; 3];
    for run in 0..runs {
        // Whoever is second may find a faster machine, or a slower one.
        let (base, rate) = if run % 2 == 0 {
            let base = settled(empty).await;
            (base, settled(full).await)
        } else {
            let rate = settled(full).await;
            (settled(empty).await, rate)
        };
        println!(
            "  claims in a second: {base:.0} empty, {rate:.0} filled: {:.2} x slower",
            base / rate
        );
        for (all, value) in all.iter_mut().zip([base, rate, base / rate]) {
            all.push(value);
        }
    }
    all.map(median)
}

fn show_claims(when: &str, [base, rate, slower]: [f64; 3]) {
    println!(
        "claims in a second, {when}: {base:.0} empty, {rate:.0} filled: {slower:.2} x slower (medians)"
    );
}

#[tokio::main]
async fn main() {
    let runs = std::env::var("DASHFLEET_BENCH_RUNS");
    let runs: usize = runs.map_or(RUNS, |runs| runs.parse().expect("a number of runs"));
    let mut empty = Bench::start().await;
    let mut little = Bench::start().await;
    let mut full = Bench::start().await;
    little.fill(false).await;
    little.tidy().await;
    full.fill(true).await;

    println!("filled, and nobody has looked at the tables:");
    let fresh = claims(&mut empty, &mut full, runs).await;
    let fresh_pages = lists::measured(&mut little, &mut full).await;

    full.tidy().await;
    println!("filled, after autovacuum's work:");
    let tidy = claims(&mut empty, &mut full, runs).await;
    let tidy_pages = lists::measured(&mut little, &mut full).await;

    // The empty product before and after: it takes a minute.
    let before = settled(&mut empty).await;
    tokio::time::sleep(SETTLE).await;
    let tenths = full.tenths().await;
    let base = (before + settled(&mut empty).await) / 2.0;

    show_claims("filled", fresh);
    show_claims("after autovacuum", tidy);
    let shown: Vec<String> = tenths.iter().map(|rate| format!("{rate:.0}")).collect();
    let least = tenths.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "while 100,000 more wait that may begin, by tenths: {}; beside {base:.0} empty the slowest is {:.2} x slower, the median {:.2} x",
        shown.join(", "),
        base / least,
        base / median(tenths)
    );
    for (fresh, tidy) in fresh_pages.iter().zip(&tidy_pages) {
        println!(
            "{}: p50 {:.2} ms with a little history, {:.2} ms filled ({:.2} x); after autovacuum {:.2} and {:.2} ms ({:.2} x)",
            fresh.name,
            fresh.base,
            fresh.full,
            fresh.full / fresh.base,
            tidy.base,
            tidy.full,
            tidy.full / tidy.base
        );
    }
}
