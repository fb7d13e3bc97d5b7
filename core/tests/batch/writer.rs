//! A process that writes as it says in its histories, until it dies or has done all of it.
//!
//! Its operations: likes of random rows, tags that name their operation, lists of both, and now and then a long
//! statement, so that journals roll. In every other stretch between two flushes some are refused. It flushes now and then, and odd seeds by interval as well.

use std::path::Path;

use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::sql::{Task, params, slice, sql};

use super::scene::{Scene, likes};
use crate::support::engine::Setup;
use crate::support::history::{Begun, Recorder, Stage, element};
use crate::support::process::{Process, Start, answer, in_role};

const ROLE: &str = "writer::is_a_process";
const SETUP: &str = "ZMSG_TEST_SETUP";
const LIKES: &str = "ZMSG_TEST_LIKES";
const TAGS: &str = "ZMSG_TEST_TAGS";
const POISONS: &str = "ZMSG_TEST_POISONS";
const NAME: &str = "ZMSG_TEST_NAME";
const SEED: &str = "ZMSG_TEST_SEED";

/// Lists of operations until the end.
const LISTS: u64 = 300;
/// Bytes of a long statement: ten of them are more than a segment of the smallest journal.
const LONG: usize = 250_000;

/// A process that dies at the n-th hit of a point.
pub fn start(scene: &Scene, setup: &Setup, name: &str, seed: u64, dies_at: (&str, u64)) -> Process {
    let interval = if seed % 2 == 1 { "5ms" } else { "1h" };
    let setup = setup
        .clone()
        .with("batch_interval", interval)
        .with("journal_max_bytes", 16 << 20)
        .with("journal_retain", "1ms");
    Start::role(ROLE)
        .with(SETUP, setup.text())
        .with(LIKES, scene.histories("likes"))
        .with(TAGS, scene.histories("tags"))
        .with(POISONS, scene.histories("poisons"))
        .with(NAME, name)
        .with(SEED, seed.to_string())
        .crash_at(dies_at.0, dies_at.1)
        .start()
}

/// Not a test: the process itself.
#[tokio::test]
async fn is_a_process() {
    if !in_role(ROLE) {
        return;
    }
    let variable = |name| std::env::var(name).unwrap();
    let seed: u64 = variable(SEED).parse().unwrap();
    let recorder = |folder| Recorder::new(Path::new(&variable(folder)), &variable(NAME));
    let mut writer = Writer {
        name: variable(NAME),
        random: fastrand::Rng::with_seed(seed),
        op: 0,
        likes: recorder(LIKES),
        tags: recorder(TAGS),
        poisons: recorder(POISONS),
        begun: Vec::new(),
    };
    let zm = Setup::parse(&variable(SETUP)).open().await;
    for round in 0..LISTS {
        writer.write(&zm, round).await;
        if round / 20 % 2 == 0 && round % 7 == 0 {
            writer.poison(&zm).await;
        }
        if round % 20 == 19 {
            zm.flush().await.unwrap();
        } else {
            tokio::task::yield_now().await;
        }
    }
    zm.close().await.unwrap();
    answer("closed");
}

struct Writer {
    name: String,
    random: fastrand::Rng,
    op: u64,
    likes: Recorder,
    tags: Recorder,
    poisons: Recorder,
    begun: Vec<(bool, Begun)>,
}

impl Writer {
    /// One record of one to five tasks.
    async fn write(&mut self, zm: &Zmsg, round: u64) {
        let count = if self.random.bool() { 1 } else { self.random.u32(2..=5) };
        let mut tasks: Vec<Task> = (0..count).map(|_| self.task()).collect();
        if round.is_multiple_of(4) {
            let long = "x".repeat(LONG);
            let long = sql("UPDATE long SET body = ? WHERE id = 1", params![long.as_str()]).unwrap();
            tasks.push(long.with_batch_key("long"));
        }
        let keys = ["k1", "k2", "k3"];
        let key = self.random.bool().then(|| *self.random.choice(keys.iter()).unwrap());
        zm.cache_and_periodic_store(key, None, tasks, WriteOptions::default()).await.unwrap();
        for (is_like, begun) in self.begun.drain(..) {
            let recorder = if is_like { &mut self.likes } else { &mut self.tags };
            recorder.end(&begun, Stage::Ok);
        }
    }

    /// A record that the database refuses.
    async fn poison(&mut self, zm: &Zmsg) {
        self.op += 1;
        // Of one kind it is found among composed cells, of the other among statements.
        let task = match self.op % 2 {
            0 => likes("f1").inc(i64::MAX).inc(i64::MAX).build().unwrap(),
            _ => sql("UPDATE long SET body = 1 / 0", ()).unwrap(),
        };
        let begun = self.poisons.invoke(self.op, "dead", 1);
        zm.cache_and_periodic_store(None, None, task, WriteOptions::default()).await.unwrap();
        self.poisons.end(&begun, Stage::Ok);
    }

    fn task(&mut self) -> Task {
        self.op += 1;
        let row = format!("f{}", self.random.u32(1..=6));
        let is_like = self.random.u32(..3) > 0;
        let amount = if is_like { self.random.i64(1..=1_000_000) } else { 0 };
        let recorder = if is_like { &mut self.likes } else { &mut self.tags };
        self.begun.push((is_like, recorder.invoke(self.op, &row, amount)));
        match is_like {
            true => likes(&row).inc(amount).build().unwrap(),
            false => {
                let tag = element(&self.name, self.op);
                let tags = slice("meta", "tags").unwrap().add(tag.as_str());
                tags.where_("id = ?", [row.as_str()]).unwrap().build().unwrap()
            }
        }
    }
}
