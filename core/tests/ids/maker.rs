//! A process that makes ids when it is told to: this test program again, with a variable that names the database.
//!
//! Its order is `make N`; it says `ready` at first, then `made` or `failed CODE`. The ids go to a file, eight bytes each,
//! so that any number of them is quick.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};

use zmsg_core::config::{Config, ConfigInput, EnvironmentSource};
use zmsg_core::engine::Zmsg;

use crate::support::process::{Process, Start, answer, in_role, orders};

const DSN: &str = "ZMSG_TEST_MAKER_DSN";
const GRANT: &str = "ZMSG_TEST_MAKER_GRANT";
const FILE: &str = "ZMSG_TEST_MAKER_FILE";
const ROLE: &str = "maker::is_a_process";

/// The process, seen from the test. It is killed with this.
pub struct Maker {
    pub process: Process,
    folder: tempfile::TempDir,
}

impl Maker {
    /// Starts it; it opens its engine at once.
    pub fn start(dsn: &str, grant: &str) -> Maker {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ids");
        let process = Start::role(ROLE).with(DSN, dsn).with(GRANT, grant).with(FILE, file).start();
        Maker { process, folder }
    }

    /// Waits until the engine is open.
    pub fn opened(&mut self) {
        assert_eq!(self.process.answer(), "ready");
    }

    /// Asks for ids; [`Maker::made`] gives them.
    pub fn ask(&mut self, count: usize) {
        self.process.tell(&format!("make {count}"));
    }

    /// The ids that were asked for, or the code of the error.
    pub fn made(&mut self) -> Result<Ids, String> {
        match self.process.answer().split_once(' ') {
            Some(("failed", code)) => Err(code.to_owned()),
            _ => Ok(Ids::read(File::open(self.folder.path().join("ids")).unwrap())),
        }
    }

    /// Asks and waits.
    pub fn make(&mut self, count: usize) -> Result<Vec<i64>, String> {
        self.ask(count);
        Ok(self.made()?.collect())
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

/// Not a test: the process itself.
#[test]
fn is_a_process() {
    if !in_role(ROLE) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (dsn, grant) = (std::env::var(DSN).unwrap(), std::env::var(GRANT).unwrap());
    let engine = runtime.block_on(open(&dsn, &grant)).unwrap();
    answer("ready");
    for order in orders() {
        let count = order.strip_prefix("make ").unwrap().parse().unwrap();
        match make(&engine, count) {
            Ok(()) => answer("made"),
            Err(error) => answer(&format!("failed {}", error.code())),
        }
    }
    runtime.block_on(engine.close()).unwrap();
}

async fn open(dsn: &str, grant: &str) -> zmsg_core::error::Result<Zmsg> {
    let arguments = serde_json::json!({ "postgres_dsn": dsn, "redis_addr": null, "id_grant": grant, "journal": "memory" });
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
