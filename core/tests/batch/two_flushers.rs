//! Two engines that change the same rows at the same time, in two processes or in one: no deadlock that anybody sees,
//! exact sums.

use std::time::{Duration, Instant};

use zmsg_core::engine::Zmsg;
use zmsg_core::sql::{Task, slice};

use crate::scene::{Scene, accept, like, likes, rounds};
use crate::support::engine::{Setup, until};
use crate::support::process::{Start, answer, in_role, orders};

const ROWS: i64 = 1_000;

/// Likes every row in that order and flushes, again and again. Gives the rounds.
async fn flush_for(zm: &Zmsg, rows: &[String], time: Duration, task: impl Fn(&str, i64) -> Vec<Task>) -> i64 {
    let until = Instant::now() + time;
    let mut round = 0;
    while Instant::now() < until {
        for row in rows {
            for task in task(row, round) {
                accept(zm, task).await;
            }
        }
        zm.flush().await.unwrap();
        round += 1;
    }
    assert_eq!((zm.stats().flush_failures, zm.stats().batch_dead), (0, 0), "no error surfaces");
    round
}

async fn deadlocks(scene: &Scene) -> i64 {
    // The figures of other sessions come with their next idle moment.
    scene.client.execute("SELECT pg_stat_force_next_flush()", &[]).await.unwrap();
    let question = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    scene.client.query_one(question, &[]).await.unwrap().get(0)
}

async fn many_rows(scene: &Scene) -> Vec<String> {
    let rows = "INSERT INTO meta (id, likes) SELECT 'r' || n, 0 FROM generate_series(1, $1) AS n";
    scene.client.execute(rows, &[&(ROWS as i32)]).await.unwrap_or_else(|error| panic!("{error:?}"));
    row_names()
}

fn row_names() -> Vec<String> {
    (1..=ROWS).map(|n| format!("r{n}")).collect()
}

fn time() -> Duration {
    Duration::from_secs(rounds(3, 30).into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opposite_orders_of_the_same_rows_never_meet_in_a_deadlock() {
    let scene = Scene::new().await;
    many_rows(&scene).await;
    let mut processes = ["forwards", "backwards"].map(|order| {
        let process = Start::role(FLUSHER).with(SETUP, scene.setup.text()).with(ORDER, order).start();
        (process, order)
    });
    for (process, order) in &mut processes {
        assert_eq!(process.answer(), "ready", "{order}");
    }
    processes.iter_mut().for_each(|(process, _)| process.tell("begin"));
    let rounds = processes.map(|(mut process, _)| {
        let rounds: i64 = process.answer().parse().unwrap();
        process.close();
        rounds
    });
    let [first, second] = rounds;
    assert!(first > 1 && second > 1, "{first} and {second} rounds");
    let likes = scene.likes().await;
    assert!(likes.len() as i64 == ROWS && likes.values().all(|likes| *likes == first + second), "{likes:?}");
    let deadlocks = deadlocks(&scene).await;
    println!("{first} and {second} flushes of {ROWS} rows: {deadlocks} deadlocks");
    assert_eq!(deadlocks, 0, "one shape on one table locks its rows in one order");
}

const FLUSHER: &str = "two_flushers::is_a_flusher";
const SETUP: &str = "ZMSG_TEST_SETUP";
const ORDER: &str = "ZMSG_TEST_ORDER";

/// Not a test: a process that likes all rows in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_a_flusher() {
    if !in_role(FLUSHER) {
        return;
    }
    let zm = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
    let mut rows = row_names();
    if std::env::var(ORDER).unwrap() == "backwards" {
        rows.reverse();
    }
    answer("ready");
    assert_eq!(orders().next().as_deref(), Some("begin"));
    let rounds = flush_for(&zm, &rows, time(), |row, _| vec![like(row)]).await;
    zm.close().await.unwrap();
    answer(&rounds.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_with_somebody_else_is_run_again_and_nobody_sees_it() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let receipts = [accept(&zm, like("f1")).await, accept(&zm, like("f2")).await];
    let patient = "SET deadlock_timeout = '1min'";
    scene.client.batch_execute(patient).await.unwrap();
    scene.client.batch_execute("BEGIN; UPDATE meta SET views = 1 WHERE id = 'f2'").await.unwrap();
    let flush = tokio::spawn({
        let zm = zm.clone();
        async move { zm.flush().await }
    });
    // It has locked f1 and waits for f2. It loses patience first, so it is the one that PostgreSQL will end.
    let look = scene.database.client().await;
    let waits = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%meta%'";
    until("the flush waits for a lock", async || {
        look.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    scene.client.batch_execute("UPDATE meta SET views = 1 WHERE id = 'f1'; COMMIT").await.unwrap();
    let report = flush.await.unwrap().unwrap();
    assert_eq!((report.rows, report.dead), (2, 0), "{report:?}");
    for receipt in receipts {
        receipt.done().await.unwrap();
    }
    assert_eq!((deadlocks(&scene).await, zm.stats().flush_failures), (1, 0));
    assert_eq!(scene.likes().await, [("f1".to_owned(), 1), ("f2".to_owned(), 1)].into());
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn different_columns_of_crossed_rows_are_exact() {
    let scene = Scene::new().await;
    let rows = many_rows(&scene).await;
    let backwards: Vec<String> = rows.iter().rev().cloned().collect();
    let (one, other) = (scene.open().await, scene.open().await);
    let likes_only = |row: &str, _: i64| vec![like(row)];
    // Every other row has tags too, so that its batches go out as two statements over crossed rows.
    let both = |row: &str, round: i64| {
        let mut tasks = vec![like(row)];
        if row.ends_with(['1', '3', '5', '7', '9']) && round < 20 {
            let tags = slice("meta", "tags").unwrap().add(round).where_("id = ?", [row]).unwrap();
            tasks.push(tags.build().unwrap());
        }
        tasks
    };
    let (first, second) =
        tokio::join!(flush_for(&one, &rows, time(), likes_only), flush_for(&other, &backwards, time(), both));
    let likes = scene.likes().await;
    assert!(likes.len() as i64 == ROWS && likes.values().all(|likes| *likes == first + second), "{likes:?}");
    let expected: Vec<String> = (0..second.min(20)).map(|round| round.to_string()).collect();
    let tags = scene.tags().await;
    assert_eq!(tags.len() as i64, ROWS / 2);
    assert!(tags.values().all(|tags| *tags == expected), "{tags:?}");
    one.close().await.unwrap();
    other.close().await.unwrap();
    println!("{first} and {second} flushes: {} deadlocks, all run again", deadlocks(&scene).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_both_make_are_made_once() {
    let scene = Scene::new().await;
    let rows: Vec<String> = (1..=300).map(|n| format!("r{n}")).collect();
    let backwards: Vec<String> = rows.iter().rev().cloned().collect();
    let (one, other) = (scene.open().await, scene.open().await);
    let make = |row: &str, round: i64| {
        let row = format!("{row} of {round}");
        vec![likes(&row).inc(1).or_insert(&[("id", row.as_str().into())]).unwrap().build().unwrap()]
    };
    let (first, second) =
        tokio::join!(flush_for(&one, &rows, time(), make), flush_for(&other, &backwards, time(), make));
    let likes = scene.likes().await;
    assert_eq!(likes.len() as i64, 300 * first.max(second));
    assert_eq!(likes.values().sum::<i64>(), 300 * (first + second));
    assert!(likes.values().all(|likes| *likes <= 2));
    one.close().await.unwrap();
    other.close().await.unwrap();
    println!("{first} and {second} flushes: {} deadlocks, all run again", deadlocks(&scene).await);
}
