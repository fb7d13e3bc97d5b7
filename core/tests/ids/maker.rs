//! A process that makes ids when it is told to: this test program again, with a variable that names the database.
//!
//! It reads lines (`make N` or `close`) and answers each with a line: `ready`, `made`, or `failed CODE`. The ids go to a
//! file, eight bytes each, so that any number of them is quick.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use zmsg_core::config::{Config, ConfigInput, EnvironmentSource};
use zmsg_core::engine::Zmsg;

const DSN: &str = "ZMSG_TEST_MAKER_DSN";
const GRANT: &str = "ZMSG_TEST_MAKER_GRANT";
const FILE: &str = "ZMSG_TEST_MAKER_FILE";
/// What the answers begin with, among whatever else a test program prints.
const ANSWER: &str = "maker: ";

/// The process, seen from the test. It is killed with this.
pub struct Maker {
    child: Child,
    tell: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Maker {
    /// Starts it; it opens its engine at once.
    pub fn start(dsn: &str, grant: &str) -> Maker {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "maker::is_a_process", "--nocapture", "--test-threads=1"])
            .env(DSN, dsn)
            .env(GRANT, grant)
            .env(FILE, folder.path().join("ids"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let tell = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Maker { child, tell, answers, folder }
    }

    /// Waits until the engine is open.
    pub fn opened(&mut self) {
        assert_eq!(self.answer(), "ready");
    }

    /// Asks for ids; [`Maker::made`] gives them.
    pub fn ask(&mut self, count: usize) {
        writeln!(self.tell, "make {count}").unwrap();
    }

    /// The ids that were asked for, or the code of the error.
    pub fn made(&mut self) -> Result<Ids, String> {
        match self.answer().split_once(' ') {
            Some(("failed", code)) => Err(code.to_owned()),
            _ => Ok(Ids::read(File::open(self.folder.path().join("ids")).unwrap())),
        }
    }

    /// Asks and waits.
    pub fn make(&mut self, count: usize) -> Result<Vec<i64>, String> {
        self.ask(count);
        Ok(self.made()?.collect())
    }

    /// Sends a signal, as `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.unwrap().success());
    }

    /// As `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its engine and ends it.
    pub fn close(mut self) {
        writeln!(self.tell, "close").unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the maker has ended");
            // Behind the name of the test, which has no newline.
            if let Some(at) = line.find(ANSWER) {
                return line[at + ANSWER.len()..].trim_end().to_owned();
            }
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ids in the order in which they were made.
pub struct Ids {
    file: BufReader<File>,
    next: Option<i64>,
}

impl Ids {
    fn read(file: File) -> Ids {
        let mut ids = Ids { file: BufReader::new(file), next: None };
        ids.next();
        ids
    }

    /// The first one that was not taken.
    pub fn first(&self) -> i64 {
        self.next.expect("there is one")
    }
}

impl Iterator for Ids {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let mut bytes = [0; 8];
        let following = self.file.read_exact(&mut bytes).ok().map(|()| i64::from_le_bytes(bytes));
        std::mem::replace(&mut self.next, following)
    }
}

/// Growing streams as one growing stream.
pub fn merge(mut streams: Vec<Ids>) -> impl Iterator<Item = i64> {
    let heads = streams.iter_mut().enumerate().filter_map(|(index, ids)| Some(Reverse((ids.next()?, index))));
    let mut heap: BinaryHeap<_> = heads.collect();
    std::iter::from_fn(move || {
        let Reverse((id, index)) = heap.pop()?;
        heap.extend(streams[index].next().map(|following| Reverse((following, index))));
        Some(id)
    })
}

/// Not a test: the process itself. Without its variables it does nothing.
#[test]
fn is_a_process() {
    let Ok(dsn) = std::env::var(DSN) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = runtime.block_on(open(&dsn, &std::env::var(GRANT).unwrap())).unwrap();
    answer("ready");
    for line in std::io::stdin().lines() {
        match line.unwrap().strip_prefix("make ") {
            Some(count) => match make(&engine, count.parse().unwrap()) {
                Ok(()) => answer("made "),
                Err(error) => answer(&format!("failed {}", error.code())),
            },
            None => return runtime.block_on(engine.close()).unwrap(),
        }
    }
}

async fn open(dsn: &str, grant: &str) -> zmsg_core::error::Result<Zmsg> {
    let arguments = serde_json::json!({ "postgres_dsn": dsn, "redis_addr": null, "id_grant": grant });
    let arguments = arguments.as_object().unwrap().clone();
    // The test's own variables are not this engine's.
    let environment = EnvironmentSource::Given(Default::default());
    Zmsg::open(Config::resolve(ConfigInput { arguments, environment, ..ConfigInput::default() })?).await
}

fn make(engine: &Zmsg, count: usize) -> zmsg_core::error::Result<()> {
    let mut file = BufWriter::new(File::create(std::env::var(FILE).unwrap()).unwrap());
    for _ in 0..count {
        file.write_all(&engine.next_id_number()?.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    Ok(())
}

fn answer(text: &str) {
    println!("{ANSWER}{text}");
    std::io::stdout().flush().unwrap();
}
