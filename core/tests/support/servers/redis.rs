//! A Redis of a test's own.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::family::Family;
use super::{Programs, free_port, wait_for};

/// The server.
pub struct RedisServer {
    /// `host:port`.
    pub addr: String,
    port: u16,
    settings: Vec<String>,
    // Before the folder, so that nobody writes into it while it is removed.
    running: Option<Family>,
    folder: TempDir,
}

impl RedisServer {
    /// One that keeps nothing over a restart.
    pub async fn start() -> RedisServer {
        RedisServer::start_with(&["--appendonly", "no"]).await
    }

    /// One with settings, as `--appendonly yes`.
    pub async fn start_with(settings: &[&str]) -> RedisServer {
        let port = free_port();
        let mut server = RedisServer {
            addr: format!("127.0.0.1:{port}"),
            port,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            running: None,
            folder: Programs::find().folder("redis"),
        };
        server.start_again().await;
        server
    }

    /// Starts it at the same port, on what is in its folder.
    pub async fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let mut family = Family::start(&mut self.command(), self.folder.path());
        wait_for("Redis is ready", async || {
            let log = || std::fs::read_to_string(self.folder.path().join("log"));
            assert!(!family.has_ended(), "Redis did not start: {:?}", log());
            answers(&self.addr).await.then_some(())
        })
        .await;
        self.running = Some(family);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.family().kill();
        self.running = None;
    }

    /// Stops it where it is.
    pub fn freeze(&mut self) {
        self.family().freeze();
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        self.family().thaw();
    }

    /// Its files, to put older ones back while it is down.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn family(&mut self) -> &mut Family {
        self.running.as_mut().expect("it runs")
    }

    fn command(&self) -> Command {
        let programs = Programs::find();
        let mut command = programs.command(&programs.redis);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        command.arg("--dir").arg(self.folder.path()).args(&self.settings);
        let log =
            File::options().append(true).create(true).open(self.folder.path().join("log")).expect("a log");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        command
    }
}

/// Not while it still reads its files.
async fn answers(addr: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(addr).await else { return false };
    let mut answer = [0; 5];
    stream.write_all(b"PING\r\n").await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && &answer == b"+PONG"
}
