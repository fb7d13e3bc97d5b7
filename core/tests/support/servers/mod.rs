//! Servers of a test's own, for tests that kill them, stop them, or put an older state of theirs back.
//!
//! ```text
//! start ──▶ runs ── kill ──▶ down ── start_again ──▶ runs (same port, same data)      freeze ⇄ thaw while it runs
//! ```
//! `tools/servers.py programs` knows the programs and the user for them. A server ends with its value; should the test
//! program itself be killed, a shell that waits for that ends the server.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

mod cluster;
mod family;
mod postgres;
mod redis;

pub use cluster::{RedisCluster, ask};
pub use postgres::PostgresServer;
pub use redis::RedisServer;

/// Far above what a start takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The machine's programs, and who runs them.
#[derive(Deserialize)]
struct Programs {
    /// The folder with initdb and postgres in it.
    postgres: PathBuf,
    redis: PathBuf,
    uid: u32,
    gid: u32,
}

impl Programs {
    fn find() -> &'static Programs {
        static FOUND: OnceLock<Programs> = OnceLock::new();
        FOUND.get_or_init(|| {
            let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/servers.py");
            let said = Command::new("python3").args([tool, "programs"]).output().expect("python3 can be run");
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            serde_json::from_slice(&said.stdout).expect("the programs, as JSON")
        })
    }

    /// A command as the servers' user.
    fn command(&self, program: &std::path::Path) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        // The test's folder may be closed to that user.
        command.current_dir("/");
        if !self.are_ours() {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    fn are_ours(&self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }

    /// A folder that this user owns and nobody else looks into.
    fn folder(&self, what: &str) -> TempDir {
        let folder = tempfile::Builder::new().prefix(&format!("zmsg-{what}-")).tempdir().expect("a folder");
        std::os::unix::fs::chown(folder.path(), Some(self.uid), Some(self.gid))
            .expect("it may be given away");
        folder
    }
}

/// A port that is free now, below those that the system gives away by itself, so that it is still free after a kill.
fn free_port() -> u16 {
    let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        // A node of a Redis Cluster listens 10,000 above as well; clients' own ports begin at 32,768.
        let port = fastrand::u16(10_000..22_700);
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

/// Asks until the answer is something; the tests of one runtime go on meanwhile.
async fn wait_for<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
