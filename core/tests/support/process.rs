//! Processes that a test can stop, kill and let crash: the test program again, running one function of it.
//!
//! A role is a test function that returns at once when [`in_role`] says that this is the test program itself. It reads
//! its orders from [`orders`], one line each, and answers with [`answer`]. When the test is gone its orders end, and so
//! does the process.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "ZMSG_TEST_ROLE";
/// What answers begin with, among whatever else a test program prints.
const ANSWER: &str = "answer: ";
/// Far above what anything here may need.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether this is a process that a test started in this role. For the first line of the role's function.
pub fn in_role(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|it| it == role)
}

/// The orders, until the test wants no more.
pub fn orders() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map_while(Result::ok)
}

/// Answers the test. The line is out when this returns.
pub fn answer(text: &str) {
    // In one write, so that a process that is killed answers wholly or not at all.
    let line = format!("\n{ANSWER}{text}\n");
    let mut out = std::io::stdout().lock();
    let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    written.expect("the test listens");
}

/// How to start a process.
pub struct Start(Command);

impl Start {
    /// The role: the full name of a test function of this program, as `maker::is_a_process`.
    pub fn role(role: &str) -> Start {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", role, "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env_remove("ZMSG_CRASH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Start(command)
    }

    /// A variable of its environment.
    pub fn with(mut self, variable: &str, value: impl AsRef<std::ffi::OsStr>) -> Start {
        self.0.env(variable, value);
        self
    }

    /// It dies when it comes to this crash point for the n-th time.
    pub fn crash_at(self, point: &str, hit: u64) -> Start {
        self.with("ZMSG_CRASH", format!("{point}:{hit}"))
    }

    /// No file that it writes gets longer than this, in units of 1 KiB or less; it is told so instead of killed. It may
    /// raise its limit again.
    pub fn with_files_up_to(self, kilobytes: u64) -> Start {
        let limited = format!("trap '' XFSZ; ulimit -S -f {kilobytes}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &limited]).arg(self.0.get_program()).args(self.0.get_args());
        for (variable, value) in self.0.get_envs() {
            match value {
                Some(value) => shell.env(variable, value),
                None => shell.env_remove(variable),
            };
        }
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        Start(shell)
    }

    /// Starts it.
    pub fn start(mut self) -> Process {
        let mut child = self.0.spawn().expect("a process");
        let tell = child.stdin.take().expect("piped");
        let answers = listen(child.stdout.take().expect("piped"));
        Process { child, tell: Some(tell), answers }
    }
}

/// Hands on the answers until the process is gone.
fn listen(from: ChildStdout) -> Receiver<String> {
    let (hand_on, answers) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if let Some(answer) = line.strip_prefix(ANSWER)
                && hand_on.send(answer.to_owned()).is_err()
            {
                return;
            }
        }
    });
    answers
}

/// A process, seen from the test. It is killed with this.
pub struct Process {
    child: Child,
    tell: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Process {
    /// Gives an order. A process that has died does not hear it.
    pub fn tell(&mut self, order: &str) {
        let tell = self.tell.as_mut().expect("it was not told to end");
        // Its end is told by the answer that does not come.
        let _ = writeln!(tell, "{order}");
    }

    /// The next answer.
    pub fn answer(&mut self) -> String {
        self.answer_or_end().unwrap_or_else(|| panic!("the process has ended: {:?}", self.ended()))
    }

    /// The next answer, or nothing if the process dies before it.
    pub fn answer_or_end(&mut self) -> Option<String> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no answer after {PATIENCE:?}"),
        }
    }

    /// The next answer if it comes within this time; for a process that was stopped.
    pub fn answer_within(&mut self, time: Duration) -> Option<String> {
        self.answers.recv_timeout(time).ok()
    }

    /// Gives an order and waits for the answer.
    pub fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.answer()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGSTOP: it does nothing until [`Process::go_on`], and its sockets and locks stay.
    pub fn stop(&self) {
        stop(self.child.id());
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        send(self.child.id(), Signal::CONT);
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Waits for its end, which it finds by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end and says whether that was SIGKILL, as at a crash point.
    pub fn crashed(&mut self) -> bool {
        self.ended().signal() == Some(Signal::KILL.as_raw())
    }

    /// Tells it that no orders follow, and waits for a good end.
    pub fn close(mut self) {
        self.tell = None;
        let status = self.ended();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that may be gone.
pub fn send(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Stops a process. Returns when none of its threads runs any more, which is later than the signal's sending.
pub fn stop(process: u32) {
    send(process, Signal::STOP);
    let started = Instant::now();
    while !states(process).iter().all(|state| matches!(state, 'T' | 't' | 'Z' | 'X')) {
        assert!(started.elapsed() < PATIENCE, "it does not stop");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What each of its threads does, as one letter; empty if it is gone. One that nobody has waited for is a `Z`.
pub fn states(process: u32) -> Vec<char> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // The state follows the name, which is in parentheses and may contain anything.
    stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
}
