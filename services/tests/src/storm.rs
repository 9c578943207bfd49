//! `kill -9` of a product's parts at random moments. The launcher starts each of them again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::product::{Product, signal_if_there};
use crate::random::Random;

/// How often each part was killed.
pub type Killed = BTreeMap<&'static str, u32>;

/// A storm that goes on until it is told to end.
#[derive(Debug)]
pub struct Storm {
    victims: &'static [&'static str],
    over: Arc<AtomicBool>,
    killer: JoinHandle<Killed>,
}

impl Storm {
    /// Begins: kills one process after another, of each part once and then of any, with pauses of so many milliseconds.
    #[must_use]
    pub fn begin(
        product: Arc<Product>,
        mut random: Random,
        victims: &'static [&'static str],
        pause_ms: Range<u64>,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let killer = tokio::spawn(async move {
            let mut killed = Killed::new();
            while !stop.load(Ordering::Relaxed) {
                let pause = pause_ms.start + random.below(pause_ms.end - pause_ms.start);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let spared: Vec<&'static str> = victims
                    .iter()
                    .copied()
                    .filter(|victim| !killed.contains_key(victim))
                    .collect();
                let among = if spared.is_empty() {
                    victims
                } else {
                    spared.as_slice()
                };
                let victim = *random.choose(among);
                let pids = product.pids(victim);
                // It may be dead already, and not yet started again.
                if !pids.is_empty() && signal_if_there(*random.choose(&pids), libc::SIGKILL) {
                    *killed.entry(victim).or_default() += 1;
                }
            }
            killed
        });
        Self {
            victims,
            over,
            killer,
        }
    }

    /// Ends it, and says how often each part was killed.
    ///
    /// # Panics
    /// When it was too short to kill each once.
    pub async fn end(self) -> Killed {
        self.over.store(true, Ordering::Relaxed);
        let killed = self.killer.await.expect("the storm");
        for victim in self.victims {
            assert!(
                killed.contains_key(victim),
                "{victim} was never killed: {killed:?}"
            );
        }
        killed
    }
}
