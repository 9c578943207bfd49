//! The records of the ledger, read until all of them have ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dashfleet_tests::Api;
use dashfleet_tests::witness::{Attempts, End, Seen};
use reqwest::Method;
use serde_json::Value;

use super::compare::{ENDED, describe};
use super::{EXECUTIONS, SHOWN_MAX};

/// How long executions may go on when nothing is killed any more.
const CALM: Duration = Duration::from_secs(240);
/// More pages than there are.
const PAGES_MAX: usize = 2_000;

/// All executions, as the records say; `None` when somebody does not answer.
async fn all(api: &Api) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    for _ in 0..PAGES_MAX {
        let path = format!("{EXECUTIONS}?limit=200{cursor}");
        let (status, page) = api.send(Method::GET, &path, &[], None).await.ok()?;
        if !status.is_success() {
            return None;
        }
        all.extend(page["items"].as_array()?.iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Some(all),
        }
    }
    panic!("{} executions, and no end of them", all.len())
}

/// Whether nothing seems to wait or to run: what goes from one to the other between the two looks is not seen.
async fn seems_done(api: &Api) -> Option<bool> {
    for status in ["RUNNING", "PENDING"] {
        let path = format!("{EXECUTIONS}?status={status}&limit=1");
        let (_, page) = api.send(Method::GET, &path, &[], None).await.ok()?;
        if !page["items"].as_array()?.is_empty() {
            return Some(false);
        }
    }
    Some(true)
}

/// Waits until every execution has ended; the records.
pub async fn ended(api: &Api, seen: impl Fn() -> Attempts) -> Vec<Value> {
    let deadline = Instant::now() + CALM;
    loop {
        let is_late = Instant::now() >= deadline;
        if is_late || seems_done(api).await == Some(true) {
            let all = all(api).await;
            assert!(!is_late || all.is_some(), "after {CALM:?} no answer");
            let all = all.unwrap_or_default();
            let is_open = |record: &&Value| {
                let status = record["status"].as_str().unwrap_or_default();
                !ENDED.contains(&status)
            };
            let open = all.iter().filter(is_open).count();
            if open == 0 && !all.is_empty() {
                return all;
            }
            if is_late {
                let seen = seen();
                let shown = all.iter().filter(is_open).take(SHOWN_MAX);
                let shown: Vec<String> = shown.map(|record| describe(record, &seen)).collect();
                let shown = shown.join("\n");
                panic!("after {CALM:?} {open} have not ended:\n{shown}");
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What was seen, in a few figures: a storm that hit nothing proves nothing.
pub fn told(records: &[Value], seen: &Attempts) {
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut lost, mut cut, mut twice) = (0, 0, 0);
    for record in records {
        *ends
            .entry(record["status"].as_str().unwrap_or_default())
            .or_default() += 1;
        let before = record["attempts"].as_array().into_iter().flatten();
        lost += before
            .filter(|attempt| attempt["outcome"] == "LOST")
            .count();
        let all = seen.of(record["id"].as_str().unwrap_or_default());
        let is_cut = |seen: &Seen| matches!(seen.ended, None | Some((_, End::Cut)));
        cut += all.iter().filter(|(_, seen)| is_cut(seen)).count();
        let returned = |seen: &Seen| matches!(seen.ended, Some((_, End::Returned)));
        twice += usize::from(all.iter().filter(|(_, seen)| returned(seen)).count() > 1);
    }
    println!(
        "ends: {ends:?}; attempts: {} seen, {cut} cut short, {lost} lost by the records; {twice} executions done again",
        seen.count()
    );
}
