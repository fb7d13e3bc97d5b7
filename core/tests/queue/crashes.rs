//! Processes that die at each crash point of the queue: what they had acknowledged has its effect exactly once, in order, or
//! is a dead letter; what they had not, at most once.

use std::collections::BTreeMap;
use std::path::Path;

use zmsg_core::base::crash::CRASH_POINTS;
use zmsg_core::engine::Zmsg;
use zmsg_core::sql::{params, sql};

use crate::scene::{Scene, after, effect};
use crate::support::engine::{Setup, until};
use crate::support::history::{History, Recorder, Stage, element};
use crate::support::namespace;
use crate::support::process::{Start, answer, in_role};

const ROLE: &str = "crashes::is_a_process";
const SETUP: &str = "ZMSG_TEST_SETUP";
const FOLDER: &str = "ZMSG_TEST_FOLDER";
const NAME: &str = "ZMSG_TEST_NAME";
const SEED: &str = "ZMSG_TEST_SEED";

/// Operations of one process.
const OPERATIONS: u64 = 300;
const KEYS: u64 = 12;

async fn crash_all(points: &[&str]) {
    let scene = Scene::new().await;
    let seeds = if std::env::var_os("ZMSG_SOAK").is_some() { 30 } else { 3 };
    for point in points {
        // Each has a queue of its own; they wait for the ends of leases at the same time.
        let runs = (0..seeds).map(|seed| crash(&scene, point, seed));
        futures_util::future::join_all(runs).await;
    }
}

async fn crash(scene: &Scene, point: &str, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let setup = scene.setup.clone().with("namespace", namespace()).with_queue("lease", "1s");
    let hit = match point {
        "queue.before_enqueue" | "queue.after_enqueue" => 1 + seed * 61 % 250,
        _ => 1 + seed % 7,
    };
    let name = format!("{point}-{seed}");
    let start = Start::role(ROLE).with(SETUP, setup.text()).with(FOLDER, folder.path()).with(NAME, &name);
    let mut process = start.with(SEED, seed.to_string()).crash_at(point, hit).start();
    let crashed = tokio::task::spawn_blocking(move || process.crashed()).await.unwrap();
    assert!(crashed, "{name}: it did not come there for the time {hit}");
    let zm = setup.open().await;
    empty(&zm).await;
    check(scene, folder.path(), &name).await;
    zm.close().await.unwrap();
}

/// Waits until everything has ended.
pub async fn empty(zm: &Zmsg) {
    // Figures that know of this one are new.
    let before = zm.stats().queue_done;
    let marker = sql("UPDATE meta SET likes = likes WHERE id = 'nobody'", ()).unwrap();
    zm.cache_and_delay_store(None, None, marker, after(0)).await.unwrap().done().await.unwrap();
    until("the queue is empty", async || {
        let stats = zm.stats();
        let left = stats.queue_scheduled + stats.queue_due + stats.queue_waiting + stats.queue_leased;
        left == 0 && stats.queue_done > before
    })
    .await;
}

async fn check(scene: &Scene, folder: &Path, name: &str) {
    let question = "SELECT key, what FROM effects WHERE what LIKE $1 || ':%' ORDER BY n";
    let mut effects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in scene.client.query(question, &[&name]).await.unwrap() {
        effects.entry(row.get(0)).or_default().push(row.get(1));
    }
    for (key, elements) in &effects {
        let number = |element: &String| element.rsplit_once(':').unwrap().1.parse::<u64>().unwrap();
        let numbers: Vec<u64> = elements.iter().map(number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{name}: the order of {key} is {numbers:?}");
    }
    History::read(&folder.join("effects"))
        .check_elements(&effects)
        .unwrap_or_else(|wrong| panic!("{name}: {wrong:#?}"));
    let dead = "SELECT count(*) FROM zmsg_dead WHERE op_id LIKE $1 || '/%'";
    let dead: i64 = scene.client.query_one(dead, &[&name]).await.unwrap().get(0);
    let letters = BTreeMap::from([("dead".to_owned(), dead)]);
    History::read(&folder.join("dead"))
        .check_counters(&letters)
        .unwrap_or_else(|wrong| panic!("{name}: {wrong:#?}"));
}

/// Not a test: a process that writes and works until it dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_a_process() {
    if !in_role(ROLE) {
        return;
    }
    let variable = |name| std::env::var(name).unwrap();
    let (name, folder) = (variable(NAME), variable(FOLDER));
    let recorder = |what: &str| {
        let folder = Path::new(&folder).join(what);
        std::fs::create_dir_all(&folder).unwrap();
        Recorder::new(&folder, &name)
    };
    let (mut effects, mut dead) = (recorder("effects"), recorder("dead"));
    let mut random = fastrand::Rng::with_seed(variable(SEED).parse().unwrap());
    let zm = Setup::parse(&variable(SETUP)).open().await;
    for op in 0..OPERATIONS {
        let key = format!("k{}", random.u64(0..KEYS));
        let options = || after(random.clone().u64(0..4));
        if op % 11 == 7 {
            let begun = dead.invoke(op, "dead", 1);
            let mut options = options();
            options.op_id = Some(format!("{name}/{op}"));
            let poison =
                sql("INSERT INTO effects (key, what) VALUES (?, NULL)", params![key.as_str()]).unwrap();
            zm.cache_and_delay_store(Some(&key), None, poison, options).await.unwrap();
            dead.end(&begun, Stage::Ok);
            continue;
        }
        let begun = effects.invoke(op, &key, 0);
        let task = effect(&key, &element(&name, op));
        zm.cache_and_delay_store(Some(&key), None, task, options()).await.unwrap();
        effects.end(&begun, Stage::Ok);
    }
    zm.close().await.unwrap();
    answer("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_around_the_acceptance_costs_and_doubles_nothing() {
    crash_all(&ACCEPTING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_before_the_commit_costs_and_doubles_nothing() {
    crash_all(&BEFORE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_after_the_commit_costs_and_doubles_nothing() {
    crash_all(&AFTER).await;
}

const ACCEPTING: [&str; 2] = ["queue.before_enqueue", "queue.after_enqueue"];
const BEFORE: [&str; 4] = ["queue.after_claim", "queue.after_begin", "queue.after_effect", "queue.covered"];
const AFTER: [&str; 2] = ["queue.after_commit", "queue.before_ack"];

#[test]
fn every_point_has_a_test() {
    let tested = [&ACCEPTING[..], &BEFORE, &AFTER].concat();
    let points: Vec<_> =
        CRASH_POINTS.iter().map(|it| it.name).filter(|it| it.starts_with("queue.")).collect();
    assert_eq!(points, tested);
}
