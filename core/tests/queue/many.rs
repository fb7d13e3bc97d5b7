//! Several processes that write and work at once: each effect once, and the order of each key.

use std::time::Duration;

use zmsg_core::sql::{params, sql};

use crate::crashes::empty;
use crate::scene::{Scene, after};
use crate::support::engine::Setup;
use crate::support::process::{Start, answer, in_role, orders};

const ROLE: &str = "many::is_a_process";
const SETUP: &str = "ZMSG_TEST_SETUP";
const NUMBER: &str = "ZMSG_TEST_NUMBER";

const PROCESSES: usize = 4;

/// Writes of all processes, and the keys that they share: each key is one process's to write, and anybody's to run.
fn size() -> (usize, usize) {
    if std::env::var_os("ZMSG_SOAK").is_some() { (50_000, 1_000) } else { (2_000, 100) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_keep_the_order_of_each_key_and_double_nothing() {
    let scene = Scene::new().await;
    let (writes, keys) = size();
    let mut processes: Vec<_> = (0..PROCESSES)
        .map(|number| {
            let start = Start::role(ROLE).with(SETUP, scene.setup.text());
            start.with(NUMBER, number.to_string()).start()
        })
        .collect();
    for process in &mut processes {
        assert_eq!(process.answer(), "ready");
    }
    processes.iter_mut().for_each(|process| process.tell("begin"));
    for process in &mut processes {
        assert_eq!(process.answer(), "accepted");
    }
    let zm = scene.setup.clone().with_queue("worker", false).open().await;
    tokio::time::timeout(Duration::from_secs(300), empty(&zm)).await.unwrap();
    processes.into_iter().for_each(|process| process.close());
    let wrong = "SELECT count(*) FROM (SELECT key, what::int AS w, row_number() OVER (PARTITION BY key ORDER BY n) - 1 AS at \
         FROM effects) AS e WHERE w <> at";
    let wrong: i64 = scene.client.query_one(wrong, &[]).await.unwrap().get(0);
    assert_eq!((scene.count("effects").await, wrong), (writes as i64, 0));
    let question = "SELECT count(DISTINCT key) FROM effects";
    assert_eq!(scene.client.query_one(question, &[]).await.unwrap().get::<_, i64>(0), keys as i64);
    assert_eq!(scene.count("zmsg_dead").await, 0);
    zm.close().await.unwrap();
}

/// Not a test: a process that writes to keys of its own, in order, and works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_a_process() {
    if !in_role(ROLE) {
        return;
    }
    let zm = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
    let number: usize = std::env::var(NUMBER).unwrap().parse().unwrap();
    answer("ready");
    assert_eq!(orders().next().as_deref(), Some("begin"));
    let (writes, keys) = size();
    let (keys, each) = (keys / PROCESSES, writes / keys);
    for n in 0..each {
        // All keys at once, and within a key one after the other.
        let accepts = (0..keys).map(|key| {
            let (zm, key) = (zm.clone(), format!("p{number}k{key}"));
            async move {
                let what = n.to_string();
                let task = sql(
                    "INSERT INTO effects (key, what) VALUES (?, ?)",
                    params![key.as_str(), what.as_str()],
                );
                zm.cache_and_delay_store(Some(&key), None, task.unwrap(), after(0)).await.unwrap();
            }
        });
        futures_util::future::join_all(accepts).await;
    }
    answer("accepted");
    tokio::task::spawn_blocking(|| orders().for_each(drop)).await.unwrap();
    zm.close().await.unwrap();
}
