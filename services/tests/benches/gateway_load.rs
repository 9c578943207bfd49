//! The gateway under load: how long an authenticated `GET /machines` takes while fifty people log in all the time, and how
//! many of them `wrk` gets in a second with 64 connections, beside the same process's most trivial page. The limits of the
//! key and of the address are raised for it, else they are what is measured.
//!
//! Aims: p99 at most 50 ms; at least 4,000 in a second.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashfleet_tests::{Api, Product, TestAgent, debian};
use serde_json::{Value, json};

const LOGINS: usize = 50;
const REQUESTS: usize = 2_000;
const PASSWORD: &str = "a password of many words";
/// The program and what it needs.
const WRK: [&str; 3] = ["wrk", "libluajit-5.1-2", "libluajit-5.1-common"];
const MACHINES: &str = "/api/v1/machines";
/// A small file out of memory.
const TRIVIAL: &str = "/docs/start.js";

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len() - 1);
    sorted[at].as_secs_f64() * 1_000.0
}

/// So many requests, one after another; how long each took, sorted.
async fn measured(api: &Api) -> Vec<Duration> {
    let mut took = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let began = Instant::now();
        api.get(MACHINES).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took
}

fn show(what: &str, took: &[Duration]) {
    println!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms",
        percentile(took, 50),
        percentile(took, 99)
    );
}

/// Requests in a second, as `wrk` says.
fn per_second(wrk: &Path, api: &Api, path: &str) -> f64 {
    let output = debian::command(wrk)
        .args(["--threads", "2", "--connections", "64", "--duration", "10s"])
        .args(["--header", &format!("Authorization: Bearer {}", api.key)])
        .arg(format!("{}{path}", api.url))
        .output()
        .expect("wrk");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains("Non-2xx"), "{said}");
    said.lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"))
        .and_then(|figure| figure.trim().parse().ok())
        .unwrap_or_else(|| panic!("no figure in: {said}"))
}

async fn made(api: &Api, path: &str, body: Value) -> Value {
    let (status, body) = api.post(path, body).await;
    assert!(status.is_success(), "POST {path}: {status} {body}");
    body
}

async fn admin(api: &Api, email: &Value, password: &Value) -> Api {
    let login = json!({ "email": email, "password": password });
    let tokens = made(&Api::new(&api.url, ""), "/api/v1/auth/login", login).await;
    Api::new(&api.url, tokens["accessToken"].as_str().expect("a token"))
}

/// Somebody who joins; what they log in with.
async fn person(admin: &Api, email: &str) -> Value {
    let invited = made(
        admin,
        "/api/v1/users",
        json!({ "email": email, "role": "VIEWER" }),
    )
    .await;
    let link = invited["link"].as_str().expect("a link");
    let (_, token) = link.split_once('#').expect("a token in the link");
    let accept = json!({ "token": token, "password": PASSWORD, "name": email });
    made(
        &Api::new(&admin.url, ""),
        "/api/v1/auth/invitations/accept",
        accept,
    )
    .await;
    json!({ "email": email, "password": PASSWORD })
}

#[tokio::main]
async fn main() {
    let much = "100000000";
    let product = Product::start_with(
        1,
        &[
            ("DASHFLEET_REQUESTS_PER_SECOND", much),
            ("DASHFLEET_ADDRESS_REQUESTS_PER_SECOND", much),
            ("DASHFLEET_LOGINS_PER_MINUTE", much),
        ],
    );
    let (api, dev) = (product.api(), product.dev());
    let _machines: Vec<_> = (0..20)
        .map(|number| TestAgent::enroll(&product, &format!("load-{number}")))
        .collect();
    show("GET /machines alone", &measured(&api).await);

    // Fifty at once with one account would be somebody who guesses its password.
    let admin = admin(&api, &dev["adminEmail"], &dev["adminPassword"]).await;
    let mut everybody = Vec::new();
    for number in 0..LOGINS {
        everybody.push(person(&admin, &format!("person-{number}@example.org")).await);
    }
    let (stop, logins) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let people: Vec<_> = everybody
        .into_iter()
        .map(|login| {
            let stranger = Api::new(&api.url, "");
            let (stop, logins) = (stop.clone(), logins.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = stranger.post("/api/v1/auth/login", login.clone()).await;
                    assert!(status.is_success() || status == 503, "{status} {body}");
                    logins.fetch_add(usize::from(status.is_success()), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let began = Instant::now();
    show(
        &format!("GET /machines while {LOGINS} people log in all the time"),
        &measured(&api).await,
    );
    let each_second = logins.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    println!("logins meanwhile: {each_second:.1} in a second");
    stop.store(true, Ordering::Relaxed);
    for person in people {
        person.await.expect("a login");
    }

    let Some(wrk) = debian::program(&WRK, "wrk", "WRK") else {
        return;
    };
    let machines = per_second(&wrk, &api, MACHINES);
    let trivial = per_second(&wrk, &api, TRIVIAL);
    println!(
        "wrk, 64 connections: {machines:.0} GET /machines in a second, {trivial:.0} of the trivial page, ratio {:.2}",
        machines / trivial
    );
}
