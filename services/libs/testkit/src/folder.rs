//! A folder of a test's own.

use std::path::{Path, PathBuf};

/// A fresh folder under the system's temporary one, removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        let path = std::env::temp_dir().join(format!(
            "dashfleet-{purpose}-{}",
            uuid::Uuid::new_v4().simple()
        ));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A free TCP port of the loopback, below those that the system gives to connections that go out: one of these could take
/// it before it is used. (Another test still may: servers are started again then.)
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    (0..1_000)
        .map(|_| 10_000 + uuid::Uuid::new_v4().as_fields().1 % 22_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
