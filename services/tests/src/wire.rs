//! A network path that a test can cut: a relay on the loopback, of bytes, to one server. Both sides hear of a cut at
//! once, as when a router in between is restarted.

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
    /// Everything, until the client has said this word on a connection: then no answer comes back on it.
    NoAnswerTo(&'static str),
}

/// A path.
#[derive(Debug)]
pub struct Wire {
    url: String,
    passing: watch::Sender<Passing>,
    used: Arc<AtomicUsize>,
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
        let (passing, passes) = watch::channel(Passing::All);
        let used = Arc::new(AtomicUsize::new(0));
        let in_use = used.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (address, passes, in_use) = (address.clone(), passes.clone(), in_use.clone());
                tokio::spawn(async move { relay(near, &address, passes, &in_use).await });
            }
        });
        Self {
            url: format!("nats://127.0.0.1:{port}"),
            passing,
            used,
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
        self.passing.send_replace(Passing::Nothing);
    }

    /// Lets connections pass again.
    pub fn mend(&self) {
        self.passing.send_replace(Passing::All);
    }

    /// Lets connections pass, and swallows on each what the server says after the client has said this word.
    pub fn lose_answers_to(&self, word: &'static str) {
        self.passing.send_replace(Passing::NoAnswerTo(word));
    }
}

async fn relay(
    near: TcpStream,
    address: &str,
    mut passes: watch::Receiver<Passing>,
    used: &AtomicUsize,
) {
    let passing = *passes.borrow();
    if passing == Passing::Nothing {
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
        () = pass(near, far, passing) => {}
        cut = passes.wait_for(|passing| *passing == Passing::Nothing) => drop(cut),
    }
    used.fetch_sub(1, Ordering::Relaxed);
}

/// Passes bytes in both directions until one side ends.
async fn pass(mut near: TcpStream, mut far: TcpStream, passing: Passing) {
    let (mut asked, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut is_mute = false;
    loop {
        let passed = tokio::select! {
            read = near.read(&mut asked) => match read {
                Ok(length) if length > 0 => {
                    let said = &asked[..length];
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
