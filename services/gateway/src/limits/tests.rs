//! Replicas that tell each other by hand, on a clock that is held.

use std::time::Duration;

use contract::Envelope;
use contract::rate::{RateTaken, VERSION};

use super::*;
use crate::limits::class::Weight;

fn replica(amounts: Amounts) -> Arc<Limits> {
    Limits::new(amounts, "secret", &Metrics::new().expect("metrics"))
}

/// Buckets of one subject at several replicas, which tell each other each 50 ms: how many each lets through of those who
/// ask it so often in a millisecond.
fn hammered(limit: Limit, pressure: &[u32], seconds: u64) -> Vec<u64> {
    let buckets: Vec<Bucket> = pressure
        .iter()
        .map(|_| Bucket::new(Class::Requests, [0; 16], limit))
        .collect();
    let mut let_through = vec![0; buckets.len()];
    // In hundredths, so that a replica may see less than one in a millisecond.
    let mut waiting = vec![0; buckets.len()];
    for millis in 0..seconds * 1_000 {
        let now = Duration::from_millis(millis);
        for (index, bucket) in buckets.iter().enumerate() {
            waiting[index] += pressure[index];
            while waiting[index] >= 100 {
                waiting[index] -= 100;
                if bucket.take_at(now).refused.is_none() {
                    let_through[index] += 1;
                    bucket.note(1);
                }
            }
        }
        if millis % 50 == 49 {
            // One that has not reached what it tells from goes on waiting.
            let told: Vec<u32> = buckets
                .iter()
                .map(|bucket| {
                    let told = bucket.waits.load(std::sync::atomic::Ordering::Relaxed);
                    if told { bucket.tell() } else { 0 }
                })
                .collect();
            for (index, bucket) in buckets.iter().enumerate() {
                for (_, count) in told.iter().enumerate().filter(|(other, _)| *other != index) {
                    bucket.charge_at(*count, now);
                }
            }
        }
    }
    let_through
}

#[test]
fn replicas_let_through_the_limit_together_whoever_sees_which_part() {
    let seconds = 5;
    for amount in [50, 200, 1_000, 5_000] {
        for shares in [
            vec![100],
            vec![50, 50],
            vec![90, 10],
            vec![99, 1],
            vec![40, 30, 30],
            vec![20; 5],
            vec![10; 10],
        ] {
            // Five times the limit, in hundredths a millisecond.
            let pressure: Vec<u32> = shares
                .iter()
                .map(|share| amount * 5 * share / 1_000)
                .collect();
            let all: u64 = hammered(Limit::steady(amount), &pressure, seconds)
                .iter()
                .sum();
            let ideal = u64::from(amount) * seconds;
            let ratio = all as f64 / ideal as f64;
            // A quarter of a second's is let through at once, and of very many each has its own 50 ms unpaid.
            let bound = if shares.len() > 5 { 1.15 } else { 1.10 };
            assert!(
                (0.93..=bound).contains(&ratio),
                "{amount}/s over {shares:?}: {ratio:.3}"
            );
        }
    }
}

#[test]
fn who_stays_below_the_limit_is_never_refused() {
    for shares in [vec![45, 45], vec![85, 5], vec![30, 30, 30]] {
        let pressure: Vec<u32> = shares.iter().map(|share| 200 * share / 1_000).collect();
        let asked: u32 = pressure.iter().sum::<u32>() * 10 * 5;
        let through: u64 = hammered(Limit::steady(200), &pressure, 5).iter().sum();
        assert!(
            through.abs_diff(u64::from(asked)) <= 3,
            "{shares:?}: {through} of {asked}"
        );
    }
}

fn said(by: &Limits) -> Vec<u8> {
    let body = RateTaken {
        replica: by.replica,
        taken: by.untold(1_000),
    };
    serde_json::to_vec(&Envelope::new(VERSION, None, body)).expect("JSON")
}

#[test]
fn what_one_replica_counted_is_missing_at_the_others_also_before_they_saw_any() {
    let (one, other) = (replica(Amounts::default()), replica(Amounts::default()));
    let (bad, good): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    for _ in 0..2_000 {
        one.failed(bad);
    }
    assert!(one.may_try(bad).is_err() && other.may_try(bad).is_ok());
    assert_eq!(gossip::take(&other, &said(&one)), Some(true));
    let refused = other.may_try(bad).expect_err("it was told");
    let wait = refused.retry_after.expect("a time");
    assert!(wait > Duration::from_secs(55) && wait <= Duration::from_secs(60));
    assert!(other.may_try(good).is_ok());
    // What was only heard of is counted on when it is seen here.
    other.failed(bad);
    assert!(other.may_try(bad).is_err());
}

#[test]
fn replicas_with_another_secret_speak_of_others() {
    let one = replica(Amounts::default());
    let stranger = Limits::new(
        Amounts::default(),
        "another",
        &Metrics::new().expect("metrics"),
    );
    let address = [192, 0, 2, 1].into();
    for _ in 0..2_000 {
        stranger.failed(address);
    }
    assert_eq!(gossip::take(&one, &said(&stranger)), Some(true));
    assert!(one.may_try(address).is_ok());
}

#[test]
fn nonsense_is_overlooked_and_a_claim_is_bounded() {
    let limits = replica(Amounts::default());
    let own = said(&limits);
    assert_eq!(gossip::take(&limits, &own), None, "what it said itself");
    let name = "00112233445566778899aabbccddeeff";
    let message = |v: u32, taken: serde_json::Value| {
        serde_json::json!({
            "v": v, "id": Uuid::nil(), "sentAt": "2026-01-01T00:00:00.000Z",
            "body": { "replica": Uuid::new_v4(), "taken": taken },
        })
        .to_string()
    };
    let share = |class: &str, name: &str, count: serde_json::Value| serde_json::json!([{ "class": class, "name": name, "count": count }]);
    let many: Vec<_> = (0..3_000)
        .map(|_| serde_json::json!({ "class": "requests", "name": name, "count": 1 }))
        .collect();
    for nonsense in [
        "{".to_owned(),
        "null".to_owned(),
        message(7, share("requests", name, 1.into())),
        message(1, share("nothing", name, 1.into())),
        message(1, share("requests", "short", 1.into())),
        message(1, share("requests", &"é".repeat(16), 1.into())),
        message(1, share("requests", name, (-1).into())),
        message(1, share("requests", name, 1e30.into())),
        message(1, many.into()),
        " ".repeat(600 * 1024),
    ] {
        let taken = gossip::take(&limits, nonsense.as_bytes());
        assert_eq!(
            taken,
            Some(false),
            "{}",
            &nonsense[..nonsense.len().min(200)]
        );
    }
    let greedy = message(1, share("requests", name, u32::MAX.into()));
    assert_eq!(gossip::take(&limits, greedy.as_bytes()), Some(true));
    let bucket = limits
        .heard
        .get(&unhex(name).expect("a name"))
        .expect("it was heard of");
    let wait = bucket.wait_at(limits.began.elapsed()).expect("debt");
    assert!(wait <= Duration::from_millis(5_100), "{wait:?}");
}

#[test]
fn no_flood_of_names_takes_more_than_its_room_or_what_is_counted_here() {
    let limits = replica(Amounts::default());
    let address = [192, 0, 2, 1].into();
    for _ in 0..2_000 {
        limits.failed(address);
    }
    for number in 0..200_000_u128 {
        let name = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        limits.heard(&RateShare {
            class: "failures".to_owned(),
            name: format!("{name:032x}"),
            count: 1,
        });
    }
    let kept: usize = limits
        .heard
        .0
        .iter()
        .map(|shard| shard.lock().expect("a lock").len())
        .sum();
    assert!(kept <= REMEMBERED, "{kept}");
    assert!(limits.may_try(address).is_err());
}

#[test]
fn a_person_has_one_pace_over_all_sessions_and_heavy_requests_have_their_own() {
    let limits = replica(Amounts {
        requests: 50,
        user_requests: 20,
        heavy: 2,
        ..Amounts::default()
    });
    let person = Some(Uuid::new_v4());
    let (first, second) = (
        limits.paces(CredentialId::new(), person),
        limits.paces(CredentialId::new(), person),
    );
    let light = Weight::default();
    let taken: Vec<Taken> = (0..5)
        .flat_map(|_| [first.take(light), second.take(light)])
        .collect();
    assert!(taken.iter().all(|taken| taken.refused.is_none()));
    let refused = first.take(light);
    assert_eq!(refused.class, Class::UserRequests);
    assert!(refused.admit().is_err() && second.take(light).refused.is_some());

    let key = limits.paces(CredentialId::new(), None);
    let heavy = Weight {
        write: true,
        heavy: true,
    };
    assert_eq!(key.take(heavy).class, Class::Heavy, "the tightest is shown");
    assert_eq!(key.take_heavy().map(|taken| taken.refused), Some(None));
    assert!(key.take(heavy).refused.is_some());
    assert!(key.take(light).refused.is_none(), "light ones go on");
}
