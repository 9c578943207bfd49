//! A network path that a test can cut: a relay on the loopback, of bytes, to one server. Both sides hear of a cut at
//! once, as when a router in between is restarted; of silence nobody hears anything, as when a cable is pulled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// Everything.
    All,
    /// Nothing.
    Nothing,
    /// Nothing, and nobody hears of that.
    Silence,
    /// Everything, until the client has said this word on a connection: then no answer comes back on it.
    NoAnswerTo(&'static str),
    /// Everything, until the client says this word on a connection: from then on, and with it, nothing passes on that one.
    SilenceAt(&'static str),
}

/// What passes, and how often everything was cut.
#[derive(Clone, Copy, Debug)]
struct State {
    passing: Passing,
    cuts: u64,
}

/// A path.
#[derive(Debug)]
pub struct Wire {
    url: String,
    state: watch::Sender<State>,
    used: Arc<AtomicUsize>,
    silent: Arc<AtomicUsize>,
}

impl Wire {
    /// A path to a server such as `nats://127.0.0.1:4222`, for as long as the test's runtime lives.
    ///
    /// # Panics
    /// When the URL has no port, or no port is free.
    pub async fn to(url: &str) -> Self {
        let (_, address) = url.split_once("://").expect("a URL");
        let address = address.to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (state, follows) = watch::channel(State {
            passing: Passing::All,
            cuts: 0,
        });
        let (used, silent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (in_use, in_silence) = (used.clone(), silent.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (address, state) = (address.clone(), follows.clone());
                let (used, silent) = (in_use.clone(), in_silence.clone());
                tokio::spawn(async move { relay(near, &address, state, &used, &silent).await });
            }
        });
        Self {
            url: format!("nats://127.0.0.1:{port}"),
            state,
            used,
            silent,
        }
    }

    /// Where it begins.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// How many connections pass through it.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Ends every connection, and each new one, until it is mended.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.passing = Passing::Nothing;
            state.cuts += 1;
        });
    }

    /// Lets connections pass again. What was said in silence comes late, as it does where it is sent again and again.
    pub fn mend(&self) {
        self.passes(Passing::All);
    }

    /// Nothing passes on any connection, until it is mended, and neither side hears of that. Who connects meanwhile hears nothing.
    pub fn silence(&self) {
        self.passes(Passing::Silence);
    }

    /// Lets connections pass; on one on which the client says this word nothing passes any more, that word included, and neither
    /// side hears of that. Only a cut ends it.
    pub fn silence_at(&self, word: &'static str) {
        self.passes(Passing::SilenceAt(word));
    }

    /// On how many connections such a word was said.
    #[must_use]
    pub fn silent(&self) -> usize {
        self.silent.load(Ordering::Relaxed)
    }

    /// Lets connections pass, and swallows on each what the server says after the client has said this word.
    pub fn lose_answers_to(&self, word: &'static str) {
        self.passes(Passing::NoAnswerTo(word));
    }

    fn passes(&self, passing: Passing) {
        self.state.send_modify(|state| state.passing = passing);
    }
}

/// Waits while nothing passes and nobody is to hear of it; what holds then, while the test goes on.
async fn spoken(state: &mut watch::Receiver<State>) -> Option<State> {
    let spoken = state.wait_for(|state| state.passing != Passing::Silence);
    spoken.await.ok().map(|state| *state)
}

async fn relay(
    near: TcpStream,
    address: &str,
    mut state: watch::Receiver<State>,
    used: &AtomicUsize,
    silent: &AtomicUsize,
) {
    let Some(begun) = spoken(&mut state).await else {
        return;
    };
    if begun.passing == Passing::Nothing {
        return;
    }
    let Ok(far) = TcpStream::connect(address).await else {
        return;
    };
    for stream in [&near, &far] {
        drop(stream.set_nodelay(true));
    }
    used.fetch_add(1, Ordering::Relaxed);
    tokio::select! {
        () = pass(near, far, state.clone(), silent) => {}
        cut = state.wait_for(|state| state.cuts > begun.cuts) => drop(cut),
    }
    used.fetch_sub(1, Ordering::Relaxed);
}

/// Passes bytes in both directions until one side ends.
async fn pass(
    mut near: TcpStream,
    mut far: TcpStream,
    mut state: watch::Receiver<State>,
    silent: &AtomicUsize,
) {
    let (mut asked, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut is_mute = false;
    loop {
        // In silence nothing is read either: whoever speaks keeps what he says for later.
        let Some(State { passing, .. }) = spoken(&mut state).await else {
            return;
        };
        let passed = tokio::select! {
            biased;
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = near.read(&mut asked) => match read {
                Ok(length) if length > 0 => {
                    let said = &asked[..length];
                    if matches!(passing, Passing::SilenceAt(word) if contains(said, word)) {
                        silent.fetch_add(1, Ordering::Relaxed);
                        return std::future::pending().await;
                    }
                    is_mute = is_mute || matches!(passing, Passing::NoAnswerTo(word) if contains(said, word));
                    far.write_all(said).await
                }
                _ => return,
            },
            read = far.read(&mut answered) => match read {
                Ok(length) if length > 0 && is_mute => Ok(()),
                Ok(length) if length > 0 => near.write_all(&answered[..length]).await,
                _ => return,
            },
        };
        if passed.is_err() {
            return;
        }
    }
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window == word.as_bytes())
}
