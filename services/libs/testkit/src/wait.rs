//! Patience with an end.

use std::time::Duration;

/// Asks again and again, for at most `limit`, until `question` has an answer.
///
/// # Panics
/// When it has none by then: `what` says what was waited for.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut question: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = tokio::time::Instant::now() + limit;
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "waited {limit:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
