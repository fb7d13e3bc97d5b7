//! A PostgreSQL of a test's own. `initdb` runs once per target folder; every server begins as a copy of what it made.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::family::Family;
use super::{Programs, free_port, wait_for};

/// It survives the death of its processes, not of the machine.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=16MB",
    "max_connections=60",
    "max_wal_size=128MB",
    "timezone=UTC",
];

/// The server.
pub struct PostgresServer {
    /// Reaches it, as a superuser.
    pub dsn: String,
    port: u16,
    // Before the folder, so that nobody writes into it while it is removed.
    running: Option<Family>,
    folder: TempDir,
}

impl PostgresServer {
    /// A new one, with nothing in it.
    pub async fn start() -> PostgresServer {
        let programs = Programs::find();
        let template = template(programs);
        let folder = programs.folder("postgres");
        copy(&template.join("data"), &folder.path().join("data"));
        let password = fs::read_to_string(template.join("password")).expect("the template's password");
        let port = free_port();
        let dsn = format!("postgresql://zmsg:{}@127.0.0.1:{port}/postgres?sslmode=disable", password.trim());
        let mut server = PostgresServer { dsn, port, running: None, folder };
        server.start_again().await;
        server
    }

    /// Starts it at the same port, on the data it had.
    pub async fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let mut family = Family::start(&mut self.command(), self.folder.path());
        let pid_file = self.folder.path().join("data/postmaster.pid");
        wait_for("PostgreSQL is ready", async || {
            assert!(!family.has_ended(), "PostgreSQL did not start: {}", self.log());
            is_ready(&pid_file, family.id()).then_some(())
        })
        .await;
        self.running = Some(family);
    }

    /// SIGKILL to all its processes, as if the machine's memory had run out on it.
    pub fn kill(&mut self) {
        self.family().kill();
        self.running = None;
    }

    /// The immediate shutdown: every session is told and cut off, nothing is finished, the next start recovers.
    pub async fn stop_immediate(&mut self) {
        self.family().end_by(Signal::QUIT).await;
        self.running = None;
    }

    /// Stops all its processes where they are.
    pub fn freeze(&mut self) {
        self.family().freeze();
    }

    /// Lets them go on.
    pub fn thaw(&mut self) {
        self.family().thaw();
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn family(&mut self) -> &mut Family {
        self.running.as_mut().expect("it runs")
    }

    fn command(&self) -> Command {
        let programs = Programs::find();
        let mut command = programs.command(&programs.postgres.join("postgres"));
        command.arg("-D").arg(self.folder.path().join("data"));
        command.args(["-p", &self.port.to_string()]);
        SETTINGS.iter().for_each(|setting| _ = command.args(["-c", setting]));
        let log =
            File::options().append(true).create(true).open(self.folder.path().join("log")).expect("a log");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        command
    }
}

/// The first line of its file is its number, the eighth its own word on how far it is.
fn is_ready(pid_file: &Path, process: u32) -> bool {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&process.to_string().as_str()) && lines.get(7) == Some(&"ready")
}

/// A folder with a cluster and the password of its superuser. It appears whole: of two that make it at once, one wins.
fn template(programs: &Programs) -> PathBuf {
    let version = fs::canonicalize(&programs.postgres).expect("the folder of the programs");
    let name: String =
        version.to_string_lossy().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("template{name}"));
    if !place.exists() {
        let making = programs.folder("initdb");
        let password = making.path().join("password");
        fs::write(&password, format!("{:032x}\n", fastrand::u128(..))).expect("a password");
        initdb(programs, making.path(), &password);
        // Named as the folder that it comes from, which is the only one of its name.
        let half = place.with_file_name(making.path().file_name().expect("a name"));
        copy(making.path(), &half);
        if fs::rename(&half, &place).is_err() {
            fs::remove_dir_all(&half).expect("the one that is not needed");
        }
    }
    assert!(place.join("data/PG_VERSION").exists(), "{} is whole", place.display());
    place
}

fn initdb(programs: &Programs, folder: &Path, password: &Path) {
    let made = programs
        .command(&programs.postgres.join("initdb"))
        .arg("-D")
        .arg(folder.join("data"))
        .arg(format!("--pwfile={}", password.display()))
        .args(["-U", "zmsg", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .output()
        .expect("initdb can be run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// With owners and rights.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp can be run");
    assert!(done.success(), "{} could not be copied", from.display());
}
