//! Processes that die at each crash point, several times over: what they had acknowledged is applied exactly once by
//! whoever finds their journal, and what they had not, at most once.

use std::collections::BTreeMap;

use zmsg_core::base::crash::CRASH_POINTS;
use zmsg_core::engine::WriteOptions;
use zmsg_core::sql::Task;

use crate::scene::{Scene, like, rounds};
use crate::support::engine::{Setup, until};
use crate::support::process::{Process, Start, answer, in_role, orders};
use crate::writer;

const ADOPTER: &str = "crashes::is_an_adopter";
const SETUP: &str = "ZMSG_TEST_SETUP";

/// The points of a part of the engine, so that parts are tested beside each other.
async fn crash_all(part: &str) {
    let points: Vec<&str> = CRASH_POINTS.iter().map(|it| it.name).filter(|it| it.starts_with(part)).collect();
    assert!(!points.is_empty(), "{part} has crash points");
    let scene = scene().await;
    for point in points {
        for seed in 0..u64::from(rounds(3, 25)) {
            crash(&scene, point, seed).await;
            let zm = scene.adopt().await;
            let stats = zm.stats();
            assert_eq!(stats.journals_refused, 0, "{point}, seed {seed}: {stats:?}");
            scene.check_histories().await.unwrap_or_else(|wrong| panic!("{point}, seed {seed}: {wrong:#?}"));
            zm.close().await.unwrap();
            let left = (scene.journals(), scene.count("zmsg_journals").await);
            assert_eq!(left, (0, 0), "{point}, seed {seed}: nothing is left of the journals");
        }
    }
}

async fn scene() -> Scene {
    let scene = Scene::new().await;
    let long = "CREATE TABLE long (id int PRIMARY KEY, body text); INSERT INTO long VALUES (1, '')";
    scene.client.batch_execute(long).await.unwrap();
    scene
}

/// One process, or two, that come to the point and die there.
async fn crash(scene: &Scene, point: &str, seed: u64) {
    let (point, then) = match point.starts_with("adopt.") {
        true => ("journal.after_append", Some(point)),
        false => (point, None),
    };
    // Another place each time, and the same one for the same seed.
    let hit = match point {
        "journal.before_append" | "journal.after_append" | "journal.mid_group" => 1 + seed * 37 % 250,
        "journal.before_roll" | "journal.mid_retire" => 1 + seed % 3,
        point if point.starts_with("close.") => 1,
        _ => 1 + seed % 7,
    };
    let name = format!("{}-{seed}", then.unwrap_or(point));
    died(&mut writer::start(scene, &scene.setup, &name, seed, (point, hit)), point, hit);
    if let Some(point) = then {
        let adopter = Start::role(ADOPTER).with(SETUP, scene.setup.text()).crash_at(point, 1);
        died(&mut adopter.start(), point, 1);
    }
}

fn died(process: &mut Process, point: &str, hit: u64) {
    assert!(process.crashed(), "a process did not come to {point} for the time {hit}");
}

/// Not a test: a process that adopts, and does nothing else until it dies of it.
#[tokio::test]
async fn is_an_adopter() {
    if in_role(ADOPTER) {
        let zm = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
        until("a journal is adopted", async || zm.stats().journals_adopted > 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_around_an_append_costs_and_doubles_nothing() {
    crash_all("journal.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_around_a_flush_costs_and_doubles_nothing() {
    crash_all("flush.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_around_an_adoption_costs_and_doubles_nothing() {
    crash_all("adopt.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_around_the_end_costs_and_doubles_nothing() {
    crash_all("close.").await;
}

#[test]
fn every_point_has_a_test() {
    // Those of the queue and of the filters have theirs in programs of their own, those of writes and reads through the caches
    // in the checker of processes (tests/python/coherence).
    let parts = ["journal.", "flush.", "adopt.", "close.", "queue.", "bloom.", "write.", "read."];
    let without: Vec<_> =
        CRASH_POINTS.iter().filter(|it| !parts.iter().any(|part| it.name.starts_with(part))).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[tokio::test]
async fn a_cell_that_comes_twice_in_a_list_is_not_taken_for_another_one_later() {
    let scene = scene().await;
    let mut process = Start::role(REPEATER).with(SETUP, scene.setup.text()).start();
    assert_eq!(process.answer(), "accepted");
    process.kill();
    scene.adopt().await.close().await.unwrap();
    let expected = [("f1", 2), ("f2", 2), ("f3", 1)].map(|(row, likes)| (row.to_owned(), likes));
    assert_eq!(scene.likes().await, BTreeMap::from(expected));
}

const REPEATER: &str = "crashes::is_a_repeater";

/// Not a test: a process that waits to be killed with everything in its journal.
#[tokio::test]
async fn is_a_repeater() {
    if !in_role(REPEATER) {
        return;
    }
    let zm = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
    for list in [vec!["f1", "f1", "f2"], vec!["f2"], vec!["f3"]] {
        let list: Vec<Task> = list.into_iter().map(like).collect();
        zm.cache_and_periodic_store(None, None, list, WriteOptions::default()).await.unwrap();
    }
    answer("accepted");
    orders().for_each(drop);
}
