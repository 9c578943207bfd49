//! The delays between restarts.

use std::time::Duration;

use launcher::supervisor::backoff::Backoff;

#[test]
fn the_delay_doubles_to_five_seconds_and_begins_again_after_thirty_of_life() {
    let mut backoff = Backoff::default();
    let delays: Vec<u128> = (0..8)
        .map(|_| backoff.after(Duration::from_secs(1)).as_millis())
        .collect();
    assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(backoff.after(Duration::from_secs(29)).as_millis(), 5000);
    assert_eq!(backoff.after(Duration::from_secs(30)).as_millis(), 100);
    assert_eq!(backoff.after(Duration::ZERO).as_millis(), 200);
}
