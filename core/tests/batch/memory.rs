//! What aggregation takes of the memory of its process, as the system counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zmsg_core::engine::WriteOptions;
use zmsg_core::sql::{Task, counter, map, params, slice, sql};

use crate::scene::{Scene, accept, like, likes};
use crate::support::engine::Setup;
use crate::support::proxy::Proxy;

/// Anonymous memory of this process in bytes; the journal's mapped files do not count.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux 4.5 or later");
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// How much memory grew at most while `work` was under way.
async fn growth(work: impl Future) -> u64 {
    let (before, stop) = (memory(), Arc::new(AtomicBool::new(false)));
    let watcher = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(memory());
                std::thread::sleep(Duration::from_millis(1));
            }
            most
        }
    });
    work.await;
    stop.store(true, Ordering::Relaxed);
    watcher.join().unwrap().saturating_sub(before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_back_from_the_journal_is_never_in_memory_as_a_whole() {
    const RECORDS: usize = 8_000;
    const RECORD: usize = 8_000;
    let scene = Scene::new().await;
    let table = "CREATE TABLE events (id int PRIMARY KEY, body text)";
    scene.client.batch_execute(table).await.unwrap();
    let zm = scene.with("timeout", "60s").open().await;
    let body = "x".repeat(RECORD);
    let accept_all = async || {
        let mut last = None;
        for id in 0..RECORDS as i64 {
            let insert = sql("INSERT INTO events VALUES (?, ?)", params![id, body.as_str()]).unwrap();
            last = Some(accept(&zm, insert).await);
        }
        last.unwrap()
    };
    let most = (RECORDS * RECORD / 2) as u64;
    let last = accept_all().await;
    let grown = growth(async { zm.flush().await.unwrap() }).await;
    last.done().await.unwrap();
    assert_eq!(scene.count("events").await, RECORDS as i64);
    assert!(grown < most, "{} MiB for {} MiB of statements", grown >> 20, (RECORDS * RECORD) >> 20);
    // All of them refused.
    let last = accept_all().await;
    let grown = growth(async { assert_eq!(zm.flush().await.unwrap().dead, RECORDS as u64) }).await;
    assert_eq!(last.done().await.unwrap_err().sqlstate(), Some("23505"));
    assert_eq!(scene.count("zmsg_dead").await, RECORDS as i64);
    assert!(grown < most, "{} MiB for {} MiB of letters", grown >> 20, (RECORDS * RECORD) >> 20);
    zm.close().await.unwrap();
}

/// The bound of the tests below, and what else a process takes meanwhile: connections, threads, what the allocator keeps.
const BOUND: u64 = 24 << 20;
const BESIDE: u64 = 8 << 20;

/// Accepts tasks until there is no room while PostgreSQL is away: the process has grown by no more than the bound.
async fn grows_to_the_bound(change: impl Fn(Setup) -> Setup, task: impl Fn(u64) -> (Option<String>, Task)) {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let setup = change(scene.with("batch_max_bytes", BOUND)).with("journal_max_bytes", 1_u64 << 30);
    let zm = setup.with("timeout", "1s").postgres_behind(&proxy, &scene.database).open().await;
    proxy.down().await;
    let before = memory();
    let mut accepted = 0;
    loop {
        let (key, task) = task(accepted);
        match zm.periodic_now(key.as_deref(), &[task], &WriteOptions::default()) {
            Ok(Some(_)) => accepted += 1,
            _ => break,
        }
        assert!(accepted < 3_000_000, "the bound is not met");
    }
    let grown = memory().saturating_sub(before);
    let counted = zm.stats().pending_bytes;
    println!("{accepted} operations: counted {} KiB, grown by {} KiB", counted >> 10, grown >> 10);
    assert!(grown <= BOUND + BESIDE, "grown by {} MiB above a bound of {} MiB", grown >> 20, BOUND >> 20);
    assert!(grown >= BOUND / 3, "counted far too much: {} MiB for {} MiB", counted >> 20, grown >> 20);
    zm.with_timeout(Some(Duration::from_millis(200))).close().await.unwrap();
}

fn same(setup: Setup) -> Setup {
    setup
}

fn inc(table: &str, column: &str, id: &str) -> Task {
    counter(table, column).unwrap().inc(1).where_("id = ?", [id]).unwrap().build().unwrap()
}

#[tokio::test]
async fn rows_take_what_is_counted() {
    grows_to_the_bound(same, |n| (None, like(&format!("r{n}")))).await;
}

#[tokio::test]
async fn rows_that_are_made_take_what_is_counted() {
    let make = |n: u64| {
        let id = format!("r{n}");
        likes(&id).inc(1).or_insert(&[("id", id.as_str().into())]).unwrap().build().unwrap()
    };
    grows_to_the_bound(same, |n| (None, make(n))).await;
}

#[tokio::test]
async fn conditions_that_are_no_keys_take_what_is_counted() {
    let range = |n: u64| {
        let id = format!("r{n}");
        let cell = counter("meta", "likes").unwrap().inc(1);
        cell.where_("id > ? AND id < ?", [id.as_str(), "z"]).unwrap().build().unwrap()
    };
    grows_to_the_bound(same, |n| (None, range(n))).await;
}

#[tokio::test]
async fn tables_take_what_is_counted() {
    grows_to_the_bound(same, |n| (None, inc(&format!("t{n}"), "likes", "f1"))).await;
}

#[tokio::test]
async fn columns_of_a_row_take_what_is_counted() {
    grows_to_the_bound(same, |n| (None, inc("meta", &format!("c{}", n % 8), &format!("r{}", n / 8)))).await;
}

#[tokio::test]
async fn very_many_columns_of_a_row_take_what_is_counted() {
    grows_to_the_bound(same, |n| (None, inc("meta", &format!("c{}", n % 1_000), &format!("r{}", n / 1_000))))
        .await;
}

#[tokio::test]
async fn elements_and_entries_take_what_is_counted() {
    let task = |n: u64| match n % 2 {
        0 => slice("meta", "tags").unwrap().add(n as i64).where_("id = ?", ["f1"]).unwrap().build().unwrap(),
        _ => map("meta", "extra")
            .unwrap()
            .set(format!("k{n}"), n as i64)
            .where_("id = ?", ["f1"])
            .unwrap()
            .build()
            .unwrap(),
    };
    grows_to_the_bound(same, |n| (None, task(n))).await;
}

#[tokio::test]
async fn cache_keys_take_what_is_counted() {
    grows_to_the_bound(same, |n| (Some(format!("key {n}")), like("f1"))).await;
}

#[tokio::test]
async fn in_class_memory_the_journal_counts_too() {
    let statement = |n: u64| {
        sql("UPDATE meta SET extra = ? WHERE id = ?", params!["x".repeat(1_000), n.to_string()]).unwrap()
    };
    grows_to_the_bound(|setup| setup.with("journal", "memory"), |n| (None, statement(n))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_not_in_memory_operation_by_operation() {
    const OPERATIONS: u64 = 30_000;
    let scene = Scene::new().await;
    let zm = scene.with("timeout", "60s").open().await;
    let gone = counter("meta", "gone").unwrap().inc(1).where_("id = ?", ["f1"]).unwrap().build().unwrap();
    let tasks = [gone];
    let mut last = None;
    for _ in 0..OPERATIONS {
        last = zm.periodic_now(None, &tasks, &WriteOptions::default()).unwrap();
    }
    let grown = growth(async { assert_eq!(zm.flush().await.unwrap().dead, OPERATIONS) }).await;
    let error = last.unwrap().done().await.unwrap_err();
    assert_eq!((error.sqlstate(), error.op_id().is_some()), (Some("42703"), true));
    assert_eq!(scene.count("zmsg_dead").await, OPERATIONS as i64);
    assert!(grown < 12 << 20, "{} MiB", grown >> 20);
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_values_are_not_all_on_their_way_at_once() {
    const ROWS: usize = 1_000;
    const VALUE: usize = 50_000;
    let scene = Scene::new().await;
    let zm = scene.with("timeout", "60s").open().await;
    let body = "x".repeat(VALUE);
    for n in 0..ROWS {
        let it = map("meta", "extra").unwrap().set("k", body.as_str());
        accept(&zm, it.where_("id = ?", [format!("m{n}")]).unwrap().build().unwrap()).await;
    }
    let grown = growth(async { assert_eq!(zm.flush().await.unwrap().zero_row_updates, ROWS as u64) }).await;
    assert!(grown < (ROWS * VALUE) as u64, "{} MiB for {} MiB of values", grown >> 20, (ROWS * VALUE) >> 20);
    zm.close().await.unwrap();
}
