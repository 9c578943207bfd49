//! What may be asked of a job: bounds and defaults. (Its name: [`crate::text::check_name`].)

use std::ops::RangeInclusive;

/// The longest description, in characters.
pub const DESCRIPTION_MAX_CHARS: usize = 2_000;
/// The longest configuration, in bytes of its JSON text.
pub const CONFIG_MAX_BYTES: usize = 64 * 1024;
/// Jobs of one organisation.
pub const JOBS_MAX: i64 = 10_000;
/// How long an attempt may take, in milliseconds: from 100 ms to a day.
pub const TIMEOUT_MS: RangeInclusive<i64> = 100..=24 * 3_600 * 1_000;
/// How long an attempt may take when nobody says: five minutes.
pub const TIMEOUT_MS_DEFAULT: i64 = 300_000;
/// How often a failed attempt is followed by another.
pub const RETRIES: RangeInclusive<i16> = 0..=25;
/// How often when nobody says.
pub const RETRIES_DEFAULT: i16 = 3;
/// The time before the first retry, in milliseconds; each later one waits twice as long as the one before.
pub const BACKOFF_MS: RangeInclusive<i64> = 0..=3_600 * 1_000;
/// The time before the first retry when nobody says.
pub const BACKOFF_MS_DEFAULT: i64 = 1_000;
/// What is more urgent goes first, within one organisation.
pub const PRIORITY: RangeInclusive<i16> = -100..=100;
/// A limit of what runs at once.
pub const CONCURRENCY: RangeInclusive<i32> = 1..=1_000_000;
/// How many may begin in one period of a rate.
pub const RATE_MAX: RangeInclusive<i32> = 1..=1_000_000;
/// The period of a rate, in milliseconds: from 100 ms to a day.
pub const RATE_PER_MS: RangeInclusive<i64> = 100..=24 * 3_600 * 1_000;
/// The pool of workers that takes a job when nobody says.
pub const POOL_DEFAULT: &str = "default";

/// What a name of a pool must look like, in words.
pub const POOL_RULE: &str =
    "must be 1 to 32 characters of a-z, 0-9 and `-`, beginning with a letter";

/// Whether this can be the name of a pool: it becomes part of a subject and of a user's name.
#[must_use]
pub fn is_pool(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// The pools of a list such as `default,gpu`: names between commas, each of them once.
///
/// # Errors
/// What is wrong with it, in words.
pub fn pools(list: &str) -> Result<Vec<String>, String> {
    let mut pools: Vec<String> = Vec::new();
    for pool in list.split(',').map(str::trim) {
        if !is_pool(pool) {
            return Err(format!("the pool `{pool}` {POOL_RULE}"));
        }
        if pools.iter().any(|known| known == pool) {
            return Err(format!("the pool `{pool}` is named twice"));
        }
        pools.push(pool.to_owned());
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_tokens() {
        for good in ["default", "gpu-2", "a"] {
            assert!(is_pool(good), "{good}");
        }
        for bad in ["", "-a", "2a", "A", "a.b", "a b", "ä", &"a".repeat(33)] {
            assert!(!is_pool(bad), "{bad}");
        }
    }

    #[test]
    fn a_list_of_pools_names_each_of_them_once() {
        let two = vec!["default".to_owned(), "gpu-2".to_owned()];
        assert_eq!(pools("default, gpu-2"), Ok(two));
        for (list, bad) in [
            ("default,", "``"),
            ("default,Gpu", "`Gpu`"),
            ("gpu.*", "`gpu.*`"),
            ("gpu,default,gpu", "`gpu`"),
        ] {
            let refused = pools(list).err().unwrap_or_default();
            assert!(refused.contains(bad), "{list}: {refused}");
        }
    }
}
