//! Redis for tests: the shared server named by `ZMSG_REDIS_ADDR`, and private ones that can be killed.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ::redis::{Value, cmd};
use tempfile::TempDir;

use crate::base::{Deadline, random};
use crate::config::{RedisAddr, Secret};
use crate::error::Result;
use crate::redis::link::Repeat;
use crate::redis::{Redis, RedisSettings};

/// How a value is set.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SetOptions {
    /// Life in milliseconds; `None` is for ever.
    pub(crate) px: Option<u64>,
    /// Whether to leave a value that is there alone.
    pub(crate) only_new: bool,
}

/// What only tests do to a Redis.
impl Redis {
    /// Sets a string; false if `only_new` and there was one.
    pub(crate) async fn set(
        &self,
        key: &str,
        value: &[u8],
        options: SetOptions,
        deadline: Deadline,
    ) -> Result<bool> {
        let mut set = cmd("SET");
        set.arg(key).arg(value);
        if options.only_new {
            set.arg("NX");
        }
        if let Some(px) = options.px {
            set.arg("PX").arg(px);
        }
        match self.send(&set, Repeat::Never, deadline).await? {
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            other => Err(self.unexpected("SET", &other)),
        }
    }

    /// Writes everything to disk; a server that is started again begins with it.
    pub(crate) async fn save(&self, deadline: Deadline) -> Result<()> {
        match self.send(&cmd("SAVE"), Repeat::Never, deadline).await? {
            Value::Okay => Ok(()),
            other => Err(self.unexpected("SAVE", &other)),
        }
    }

    /// Deletes the keys; gives how many there were.
    pub(crate) async fn delete(&self, keys: &[String], deadline: Deadline) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut del = cmd("DEL");
        for key in keys {
            del.arg(key);
        }
        match self.send(&del, Repeat::Safe, deadline).await? {
            Value::Int(count) => Ok(count.max(0) as u64),
            other => Err(self.unexpected("DEL", &other)),
        }
    }
}

/// Settings for an address, with times that suit a test.
pub(crate) fn settings(addr: impl Into<String>) -> RedisSettings {
    RedisSettings {
        addr: RedisAddr::Single(Secret::new(addr)),
        connect_timeout: Duration::from_secs(2),
        command_timeout: Duration::from_secs(1),
        tls_ca: None,
        tls_cert: None,
        tls_key: None,
        start_degraded: false,
    }
}

/// The shared server.
pub(crate) async fn connect() -> Redis {
    let addr = std::env::var("ZMSG_REDIS_ADDR")
        .expect("ZMSG_REDIS_ADDR is not set: this test needs a Redis (host:port)");
    Redis::connect(&settings(addr)).await.expect("the Redis named by ZMSG_REDIS_ADDR answers")
}

/// A namespace of its own.
pub(crate) fn namespace() -> String {
    format!("t{}", random::operation_id())
}

/// A server of the test's own, on a port of its own; killed when dropped.
pub(crate) struct PrivateRedis {
    pub(crate) port: u16,
    dir: TempDir,
    extra: Vec<String>,
    process: Child,
}

impl PrivateRedis {
    /// Starts one and waits until it answers.
    pub(crate) async fn start(extra: &[&str]) -> PrivateRedis {
        let dir = TempDir::new().expect("a temporary folder");
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its number").port();
        let extra: Vec<String> = extra.iter().map(|&word| word.to_owned()).collect();
        let process = spawn(port, &dir, &extra);
        let server = PrivateRedis { port, dir, extra, process };
        server.wait().await;
        server
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("the server runs");
        self.process.wait().expect("the server ends");
    }

    /// Starts it again on the same port and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, &self.dir, &self.extra);
        self.wait().await;
    }

    /// Further arguments from the next start on.
    pub(crate) fn extra(&mut self, more: &[&str]) {
        self.extra.extend(more.iter().map(|&word| word.to_owned()));
    }

    /// Stops it from running without ending it.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args([name, &id]).status().expect("kill runs");
        assert!(status.success());
    }

    async fn wait(&self) {
        let deadline = crate::base::Deadline::after(Duration::from_secs(20));
        while !deadline.passed() {
            if self.is_up().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server did not start on port {}", self.port);
    }

    /// Whether it answers at all; a server that wants a password does so with an error.
    async fn is_up(&self) -> bool {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await else {
            return false;
        };
        let mut first = [0; 1];
        stream.write_all(b"PING\r\n").await.is_ok() && stream.read_exact(&mut first).await.is_ok()
    }

    /// A connection whose commands may take `command_timeout`.
    pub(crate) async fn connect(&self, command_timeout: Duration) -> Result<Redis> {
        Redis::connect(&RedisSettings { command_timeout, ..settings(self.addr()) }).await
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, dir: &TempDir, extra: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(extra)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is on the PATH; install the package redis-server")
}
