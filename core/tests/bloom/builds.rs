//! Builders that die at each crash point, and filters that become too small.

use std::time::{Duration, Instant};

use zmsg_core::base::crash::CRASH_POINTS;
use zmsg_core::engine::{WriteOptions, Zmsg};

use crate::scene::{Scene, declare, figures, insert, serving, shared_redis, store, task};
use crate::support::engine::{Setup, until};
use crate::support::namespace;
use crate::support::process::{Start, answer, in_role, orders};

const ROLE: &str = "builds::is_a_builder";
const SETUP: &str = "ZMSG_TEST_SETUP";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_builder_leaves_that_dies_is_taken_over_and_no_row_is_missed() {
    let scene = Scene::new().await;
    let points = CRASH_POINTS.iter().filter(|point| point.name.starts_with("bloom."));
    let crashes = points.map(|point| crash(&scene, point.name));
    futures_util::future::join_all(crashes).await;
}

async fn crash(scene: &Scene, point: &str) {
    // A family of its own.
    let setup = scene.setup.clone().with("namespace", namespace());
    let mut process = Start::role(ROLE).with(SETUP, setup.text()).crash_at(point, 1).start();
    // Writers know nothing of builds.
    let writer = setup.open().await;
    let writing = async {
        let (began, mut written) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_secs(7) {
            let key = format!("feed_{point}_{}", written.len());
            store(&writer, &key).await;
            written.push(key);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        written
    };
    let crashing = tokio::task::spawn_blocking(move || process.crashed());
    let (mut written, crashed) = tokio::join!(writing, crashing);
    assert!(crashed.unwrap(), "{point}: it did not come there");
    let end_lease = format!(
        "UPDATE zmsg_bloom SET lease_until = now() - interval '1 s' WHERE namespace = '{}'",
        setup.namespace()
    );
    scene.client.batch_execute(&end_lease).await.unwrap();
    let zm = setup.open().await;
    declare(&zm);
    let began = Instant::now();
    while figures(&zm).state != "serving" {
        let key = format!("feed_{point}_{}", written.len());
        store(&writer, &key).await;
        written.push(key);
        assert!(began.elapsed() < Duration::from_secs(40), "{point}: it is not built");
    }
    for key in &written {
        assert!(zm.db_hit(key).await.unwrap(), "{point}: {key} is missing");
    }
    assert!(zm.db_hit("feed_1000").await.unwrap() && !zm.db_hit("feed_nobody_1").await.unwrap());
    writer.close().await.unwrap();
    zm.close().await.unwrap();
}

/// Not a test: a process that builds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_a_builder() {
    if !in_role(ROLE) {
        return;
    }
    let zm = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
    declare(&zm);
    serving(&zm).await;
    answer("built");
    for _ in orders() {}
}

/// The part of keys that do not exist that are "maybe".
async fn error_rate(zm: &Zmsg, questions: u32) -> f64 {
    let mut maybe = 0;
    for n in 0..questions {
        maybe += u32::from(zm.db_hit(&format!("feed_no_{n}")).await.unwrap());
    }
    f64::from(maybe) / f64::from(questions)
}

#[tokio::test]
async fn a_filter_that_fills_up_is_built_anew_for_twice_as_many() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    assert_eq!(figures(&zm).capacity, 2_000);
    for hundred in 0..15 {
        let keys: Vec<String> = (0..100).map(|n| format!("feed_more_{hundred}_{n}")).collect();
        let tasks: Vec<_> = keys.iter().map(|key| insert(key)).collect();
        let options = WriteOptions { bloom_keys: keys, ..WriteOptions::default() };
        zm.cache_and_store(None, None, tasks, options).await.unwrap();
    }
    until("it has grown", async || figures(&zm).state == "serving" && figures(&zm).capacity == 4_000).await;
    for n in 0..100 {
        assert!(zm.db_hit(&format!("feed_more_{}_{n}", n % 15)).await.unwrap());
    }
    let rate = error_rate(&zm, 3_000).await;
    assert!(rate <= 0.012, "{rate}");
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_family_that_is_larger_than_the_settings_say_gets_a_filter_that_fits() {
    let scene = Scene::new().await;
    scene
        .client
        .batch_execute("INSERT INTO feeds SELECT 'feed_x' || n FROM generate_series(1, 20000) AS n")
        .await
        .unwrap();
    let zm = scene.open().await;
    assert_eq!(figures(&zm).capacity, 42_000, "twice as many as there are");
    assert!(zm.db_hit("feed_x20000").await.unwrap() && zm.db_hit("feed_1").await.unwrap());
    assert!(!zm.db_hit("feed_nobody").await.unwrap());
    zm.close().await.unwrap();
}

#[tokio::test]
async fn two_processes_build_once_and_settings_do_not_quarrel() {
    let scene = Scene::new().await;
    let smaller =
        scene.setup.clone().with("bloom_capacity", 1_500).with("bloom_error_rate", 0.2).open().await;
    let (one, other) = (scene.setup.open().await, scene.setup.open().await);
    [&one, &other].into_iter().for_each(declare);
    serving(&one).await;
    serving(&other).await;
    assert_eq!(scene.row("generation").await, 1);
    declare(&smaller);
    serving(&smaller).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.row("generation").await, 1, "a smaller one is not wanted");
    let finer = scene.setup.clone().with("bloom_error_rate", 0.001).open().await;
    declare(&finer);
    crate::scene::built_after(&one, 1).await;
    assert_eq!(scene.row("generation").await, 2);
    let mut redis = shared_redis().await;
    assert!(scene.strings(&mut redis).await.len() <= 4, "the retired one goes away");
    for zm in [one, other, smaller, finer] {
        zm.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_query_that_gives_no_key_of_the_family_builds_nothing() {
    let scene = Scene::new().await;
    let zm = scene.setup.open().await;
    let options = zmsg_core::engine::SourceOptions {
        bloom: true,
        keys: Some(task("SELECT content FROM feeds")),
        ..Default::default()
    };
    zm.source("feed_*", task("SELECT content FROM feeds WHERE id = 'x'").with_batch_key("x"), options)
        .unwrap_err();
    let options = zmsg_core::engine::SourceOptions {
        bloom: true,
        keys: Some(task("SELECT content FROM feeds")),
        ..Default::default()
    };
    zm.source("feed_*", task("SELECT content FROM feeds WHERE id = ?"), options).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(figures(&zm).state, "building", "every key would be no");
    assert!(zm.db_hit("feed_1").await.unwrap() && zm.db_hit("feed_nobody").await.unwrap());
    zm.close().await.unwrap();
}
