//! One collector on a thread of its own: looking at some part of the machine can hang for ever, or fail. What it last
//! said is what samples show, what is wrong with it is named beside, and nobody waits for it long.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contract::agent::CollectorFault;

/// How long an old word is better than none.
const STALE: Duration = Duration::from_secs(60);
/// How long a sample waits for a look that has just begun. One that hangs is waited for once.
const WAIT: Duration = Duration::from_millis(250);
/// How often [`Watch::look`] asks whether a look is done.
const POLL: Duration = Duration::from_millis(50);
/// The thread's stack.
const STACK_BYTES: usize = 256 * 1024;
/// The longest message of a fault, in characters.
const MESSAGE_MAX_CHARS: usize = 200;

/// A collector, as its user holds it.
#[derive(Debug)]
pub struct Watch<T> {
    name: &'static str,
    limit: Duration,
    shared: Arc<Shared<T>>,
    ask: SyncSender<()>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// Since when it looks.
    busy: Option<Instant>,
    seen: Option<(Instant, T)>,
    wrong: Option<String>,
    ended: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the thread is gone, however it went.
struct Ending<T>(Arc<Shared<T>>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl<T: Clone + Send + 'static> Watch<T> {
    /// A collector that takes its first look now. `make` and what it makes run on the thread alone; a look that takes
    /// longer than `limit` is a fault.
    #[must_use]
    pub fn begin<L>(
        name: &'static str,
        limit: Duration,
        make: impl FnOnce() -> L + Send + 'static,
    ) -> Self
    where
        L: FnMut() -> Result<T, String>,
    {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                busy: None,
                seen: None,
                wrong: None,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        // It is asked only while it does nothing: one question is the most that waits.
        let (ask, asked) = sync_channel(1);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(name.into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let ending = Ending(theirs);
                let mut look = make();
                // The thread ends with the sender; a hanging one ends with the process.
                while asked.recv().is_ok() {
                    let said = look();
                    let mut state = ending.0.lock();
                    state.busy = None;
                    match said {
                        Ok(seen) => {
                            state.seen = Some((Instant::now(), seen));
                            state.wrong = None;
                        }
                        Err(reason) => state.wrong = Some(reason),
                    }
                    drop(state);
                    ending.0.changed.notify_all();
                }
            });
        if let Err(error) = thread {
            let mut state = shared.lock();
            state.ended = true;
            state.wrong = Some(format!("its thread does not start: {error}"));
        }
        let this = Self {
            name,
            limit,
            shared,
            ask,
        };
        this.ask();
        this
    }

    /// Asks for another look, unless one is under way.
    pub fn ask(&self) {
        let mut state = self.shared.lock();
        if state.busy.is_none() && !state.ended && self.ask.try_send(()).is_ok() {
            state.busy = Some(Instant::now());
        }
    }

    /// Waits for a look that has begun just now.
    pub fn wait(&self) {
        let state = self.shared.lock();
        let Some(begun) = state.busy else {
            return;
        };
        let left = WAIT.saturating_sub(begun.elapsed());
        let looks = |state: &mut State<T>| state.busy.is_some() && !state.ended;
        drop(
            self.shared
                .changed
                .wait_timeout_while(state, left, looks)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// What was last seen; nothing when that is too long ago, or the last look failed.
    #[must_use]
    pub fn known(&self) -> Option<T> {
        let state = self.shared.lock();
        state
            .seen
            .as_ref()
            .filter(|(at, _)| state.wrong.is_none() && at.elapsed() < STALE)
            .map(|(_, seen)| seen.clone())
    }

    /// What was last seen, however long ago that is and whatever is wrong since: for what must not look well because
    /// nobody can look at it any more. [`Watch::fault`] says whether it is old.
    #[must_use]
    pub fn last(&self) -> Option<T> {
        let state = self.shared.lock();
        state.seen.as_ref().map(|(_, seen)| seen.clone())
    }

    /// What is wrong with it now.
    #[must_use]
    pub fn fault(&self) -> Option<CollectorFault> {
        let state = self.shared.lock();
        let message = if state.ended {
            let reason = state.wrong.as_deref().unwrap_or("its thread has ended");
            format!("nothing is looked at any more: {reason}")
        } else if state
            .busy
            .is_some_and(|begun| begun.elapsed() >= self.limit)
        {
            format!("hangs: no answer within {} ms", self.limit.as_millis())
        } else {
            state.wrong.clone()?
        };
        drop(state);
        Some(self.named(&message))
    }

    /// The same, and that it has never said anything: for what must not look as if it were not there, while the first
    /// look takes its time.
    #[must_use]
    pub fn fault_or_silence(&self) -> Option<CollectorFault> {
        self.fault().or_else(|| {
            self.last()
                .is_none()
                .then(|| self.named("there is no answer yet"))
        })
    }

    fn named(&self, message: &str) -> CollectorFault {
        CollectorFault {
            collector: self.name.to_owned(),
            message: message
                .chars()
                .filter(|c| !c.is_control())
                .take(MESSAGE_MAX_CHARS)
                .collect(),
        }
    }

    /// Looks, and waits for it up to its limit. For users who are asynchronous.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn look(&self) -> Result<T, String> {
        self.ask();
        let begun = Instant::now();
        while begun.elapsed() < self.limit {
            let busy = {
                let state = self.shared.lock();
                state.busy.is_some() && !state.ended
            };
            if !busy {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        match (self.fault(), self.known()) {
            (Some(fault), _) => Err(fault.message),
            (None, Some(known)) => Ok(known),
            (None, None) => Err("there is no answer yet".into()),
        }
    }
}
