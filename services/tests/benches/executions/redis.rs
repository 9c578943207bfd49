//! A Redis of this bench's own, as durable as people who care run it: its log is synced each second.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use dashfleet_tests::debian;
use testkit::{Folder, keeper::Keeper};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server, ended when it is dropped, or when this process ends.
pub struct Redis {
    pub port: u16,
    child: Child,
    _keeper: Keeper,
    _folder: Folder,
}

impl Redis {
    pub async fn start(program: &Path) -> Self {
        let folder = Folder::new("redis");
        let port = testkit::folder::free_port();
        let child = debian::command(program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            .args(["--save", ""])
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("Redis");
        let place = folder.path().display().to_string();
        let redis = Self {
            port,
            _keeper: Keeper::watch(child.id(), "KILL", &place),
            child,
            _folder: folder,
        };
        testkit::eventually("Redis answers", Duration::from_secs(10), || answers(port)).await;
        redis
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn answers(port: u16) -> Option<()> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .ok()?;
    stream.write_all(b"PING\r\n").await.ok()?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.ok()?;
    (answer == *b"+PONG").then_some(())
}
