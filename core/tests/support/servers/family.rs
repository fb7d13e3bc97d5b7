//! A server process and the processes that it started: they are signalled and killed together.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::process::{send, states, stop};
use super::PATIENCE;

/// Kills the server when the test program is gone: its end of the pipe is closed then.
const GUARD: &str = r#"read -r _
children=$(cat "/proc/$1/task/$1/children" 2>/dev/null)
kill -KILL "$1" $children
sleep 1
rm -rf "$2""#;

/// Both are killed with this.
pub struct Family {
    server: Child,
    guard: Child,
}

impl Family {
    /// Starts the server, whose files are in the folder.
    pub fn start(command: &mut Command, folder: &Path) -> Family {
        let server = command.stdin(Stdio::null()).spawn().expect("the server's program can be run");
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh", &server.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Family { server, guard }
    }

    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Whether the server has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.server.try_wait().expect("it is a child").is_some()
    }

    /// SIGSTOP to all of them: sockets stay open, the system goes on accepting connections, nobody answers.
    pub fn freeze(&self) {
        // The parent first, so that no child is born meanwhile.
        stop(self.id());
        children(self.id()).into_iter().for_each(stop);
    }

    /// SIGCONT to all of them.
    pub fn thaw(&self) {
        children(self.id()).into_iter().for_each(|child| send(child, Signal::CONT));
        send(self.id(), Signal::CONT);
    }

    /// SIGKILL to all of them at once; returns when they are gone.
    pub fn kill(&mut self) {
        self.freeze();
        let children = children(self.id());
        send(self.id(), Signal::KILL);
        children.iter().for_each(|child| send(*child, Signal::KILL));
        let _ = self.server.wait();
        let started = Instant::now();
        while children.iter().any(|child| lives(*child)) && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }

    /// Sends a signal to the server alone and waits until it has ended.
    pub async fn end_by(&mut self, signal: Signal) {
        send(self.id(), signal);
        super::wait_for("the end of the server", async || self.has_ended().then_some(())).await;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.kill();
    }
}

fn children(parent: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn lives(process: u32) -> bool {
    states(process).iter().any(|state| !matches!(state, 'Z' | 'X'))
}
