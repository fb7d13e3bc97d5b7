//! Four processes that add and ask, each for what the others have written, while Redis is flushed and the filter built anew:
//! no false negative, and no more errors than the settings allow.

use std::time::{Duration, Instant};

use zmsg_core::engine::{WriteOptions, Zmsg};

use crate::scene::{Scene, declare, figures, insert, redis_at, serving};
use crate::support::engine::{Setup, until};
use crate::support::process::{Start, answer, in_role, orders};
use crate::support::servers::RedisServer;

const ROLE: &str = "pairs::is_a_process";
const SETUP: &str = "ZMSG_TEST_SETUP";
const NAME: &str = "ZMSG_TEST_NAME";
const PROCESSES: u64 = 4;
/// Keys of one transaction.
const TOGETHER: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_add_and_ask_through_losses_and_builds_without_a_false_negative() {
    let soak = std::env::var_os("ZMSG_SOAK").is_some();
    let (rounds, flushes): (u64, u32) = if soak { (5_200, 12) } else { (100, 2) };
    let mut scene = Scene::new().await;
    let server = RedisServer::start().await;
    // And what is written while it does not answer.
    let capacity = PROCESSES * TOGETHER * (rounds + 60 * u64::from(flushes) + 60);
    let setup = scene.setup.with("redis_addr", server.addr.as_str()).with("bloom_capacity", capacity);
    scene.setup = setup.with("redis_timeout", "5s").with("timeout", "60s");
    let zm = scene.open().await;
    let processes: Vec<_> = (0..PROCESSES)
        .map(|name| {
            let start = Start::role(ROLE).with(SETUP, scene.setup.text()).with(NAME, name.to_string());
            start.start()
        })
        .collect();
    let mut redis = redis_at(&server.addr).await;
    let asking = tokio::task::spawn_blocking(move || {
        let mut processes = processes;
        let (mut pairs, mut others) = (0, 0);
        processes.iter_mut().for_each(|process| assert_eq!(process.answer(), "ready"));
        processes.iter_mut().for_each(|process| process.tell(&format!("run {rounds}")));
        for process in &mut processes {
            let told = process.answer_within(Duration::from_secs(3_000)).expect("an answer");
            let numbers: Vec<u64> = told.split(' ').map(|number| number.parse().expect(&told)).collect();
            pairs += numbers[0];
            others += numbers[1];
        }
        processes.into_iter().for_each(crate::support::process::Process::close);
        (pairs, others)
    });
    let mut flushed = 0;
    while flushed < flushes {
        tokio::time::sleep(Duration::from_secs(1)).await;
        serving(&zm).await;
        tokio::time::sleep(Duration::from_secs(if soak { 10 } else { 1 })).await;
        let generation = figures(&zm).generation;
        let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
        flushed += 1;
        until("it is built anew", async || figures(&zm).generation > generation).await;
    }
    let (pairs, others) = asking.await.unwrap();
    assert!(pairs >= PROCESSES * rounds * TOGETHER);
    assert!(flushed == flushes, "all losses were met");
    until("it answers", async || figures(&zm).state == "serving").await;
    let began = Instant::now();
    let (mut maybe, questions) = (0, if soak { 200_000 } else { 20_000 });
    for n in 0..questions {
        maybe += u32::from(zm.db_hit(&format!("feed_no_{n}")).await.unwrap());
    }
    let rate = f64::from(maybe) / f64::from(questions);
    println!(
        "{pairs} pairs while the filter answered, {others} others, {flushed} losses, generation {}, error rate {rate}, {:?} for a question, {:?}",
        figures(&zm).generation,
        began.elapsed() / questions,
        figures(&zm),
    );
    assert!(rate <= 0.012, "{rate}");
    zm.close().await.unwrap();
}

/// Not a test: a process that writes keys, and asks for them and for some that are not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_a_process() {
    if !in_role(ROLE) {
        return;
    }
    let variable = |name| std::env::var(name).unwrap();
    let zm = Setup::parse(&variable(SETUP)).open().await;
    declare(&zm);
    serving(&zm).await;
    answer("ready");
    // Asks what it has not written itself: its own copy knows what it has.
    let other = Setup::parse(&variable(SETUP)).open().await;
    declare(&other);
    for order in orders() {
        let rounds: u64 = order.strip_prefix("run ").unwrap().parse().unwrap();
        let (mut pairs, mut others, mut answered, mut round) = (0, 0, 0, 0);
        // Those count that were asked while the filter answers, as a key that does not exist tells on both sides.
        while answered < rounds {
            let before = zm.db_hit(&format!("feed_never_{round}")).await.unwrap();
            let keys: Vec<String> =
                (0..TOGETHER).map(|n| format!("feed_{}_{round}_{n}", variable(NAME))).collect();
            write(&zm, &keys).await;
            for key in &keys {
                assert!(other.db_hit(key).await.unwrap(), "a false negative: {key}");
            }
            let after = other.db_hit(&format!("feed_never_either_{round}")).await.unwrap();
            match before || after {
                false => (pairs, answered) = (pairs + TOGETHER, answered + 1),
                true => {
                    others += TOGETHER;
                    // The filter is not to grow by what does not count.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            round += 1;
        }
        answer(&format!("{pairs} {others}"));
    }
    other.close().await.unwrap();
    zm.close().await.unwrap();
}

async fn write(zm: &Zmsg, keys: &[String]) {
    let tasks: Vec<_> = keys.iter().map(|key| insert(key)).collect();
    let options = WriteOptions { bloom_keys: keys.to_vec(), ..WriteOptions::default() };
    // What is out of reach for a moment may pass.
    for _ in 0..5 {
        match zm.cache_and_store(None, None, tasks.clone(), options.clone()).await {
            Ok(_) => return,
            Err(error) if error.retryable() => println!("again: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it was not stored");
}
