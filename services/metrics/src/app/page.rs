//! Pages of lists: limits, and cursors, which are opaque to whoever carries them and checked when they come back.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::Problem;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::MetricsError;

/// The most items of a page.
const LIMIT_MAX: u32 = 200;
/// A page that has grown to this many bytes ends early.
const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// The longest cursor.
const CURSOR_MAX_BYTES: usize = 2_048;

/// A limit within its bounds.
///
/// # Errors
/// INVALID naming `limit`.
pub fn limit(asked: u32) -> Result<usize, Problem> {
    match asked {
        1..=LIMIT_MAX => Ok(asked as usize),
        _ => Err(Problem::invalid(
            "limit",
            format!("must be from 1 to {LIMIT_MAX}"),
        )),
    }
}

/// A place in a list as text.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn cursor<P: Serialize>(place: &P) -> Result<String, MetricsError> {
    let json = serde_json::to_vec(place).map_err(internal)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// The place that a cursor names.
///
/// # Errors
/// INVALID naming `cursor`.
pub fn place<P: DeserializeOwned>(cursor: &str) -> Result<P, Problem> {
    let refused = || Problem::invalid("cursor", "is not one that this list gave");
    if cursor.len() > CURSOR_MAX_BYTES {
        return Err(refused());
    }
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    serde_json::from_slice(&json).map_err(|_| refused())
}

/// As many items from the front as fit into a page, at least one; and whether some are left over.
///
/// # Errors
/// When an item cannot be written as JSON.
pub fn fit<T: Serialize>(items: Vec<T>, limit: usize) -> Result<(Vec<T>, bool), MetricsError> {
    let mut bytes = 0;
    let mut fitting = 0;
    for item in items.iter().take(limit) {
        bytes += serde_json::to_vec(item).map_err(internal)?.len();
        if fitting > 0 && bytes > PAGE_MAX_BYTES {
            break;
        }
        fitting += 1;
    }
    let more = fitting < items.len();
    Ok((items.into_iter().take(fitting).collect(), more))
}

fn internal(error: serde_json::Error) -> MetricsError {
    tracing::error!(%error, "a page cannot be written");
    Problem::new(contract::ProblemKind::Internal, "a page cannot be written").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_nothing_else_does() -> Result<(), MetricsError> {
        let text = cursor(&("web-1".to_owned(), 7))?;
        assert_eq!(place::<(String, i32)>(&text)?, ("web-1".to_owned(), 7));
        let long = "A".repeat(CURSOR_MAX_BYTES + 1);
        for wrong in [
            "",
            "!",
            "e30",
            "bnVsbA",
            text.trim_end_matches(|_: char| true),
            long.as_str(),
        ] {
            assert!(place::<(String, i32)>(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_page_ends_early_at_a_mebibyte() -> Result<(), MetricsError> {
        let (page, more) = fit(vec!["x".repeat(400_000); 5], 4)?;
        assert_eq!((page.len(), more), (2, true));
        let (page, more) = fit(vec!["x".repeat(2_000_000)], 4)?;
        assert_eq!((page.len(), more), (1, false));
        Ok(())
    }
}
