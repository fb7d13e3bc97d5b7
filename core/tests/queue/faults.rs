//! Workers that are killed or stopped, servers that go away and come back, with their data or without.

use std::time::{Duration, Instant};

use zmsg_core::engine::DelayOptions;
use zmsg_core::sql::sql;

use crate::crashes::empty;
use crate::scene::{Scene, accept, after, effect};
use crate::support::database_on;
use crate::support::engine::{Setup, until, within};
use crate::support::process::{Process, Start, answer, in_role, orders};
use crate::support::servers::{PostgresServer, RedisServer};

const ROLE: &str = "faults::is_a_worker";
const SETUP: &str = "ZMSG_TEST_SETUP";

fn worker(setup: &Setup) -> Process {
    let mut process = Start::role(ROLE).with(SETUP, setup.text()).start();
    assert_eq!(process.answer(), "ready");
    process
}

/// Not a test: a process that works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_a_worker() {
    if !in_role(ROLE) {
        return;
    }
    let zm = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
    answer("ready");
    tokio::task::spawn_blocking(|| orders().for_each(drop)).await.unwrap();
    zm.close().await.unwrap();
}

/// An effect that takes a while, so that its worker can be met in the middle.
fn slow(key: &str, what: &str, seconds: f64) -> zmsg_core::sql::Task {
    let text = "INSERT INTO effects (key, what) SELECT ?, ? FROM pg_sleep(?)";
    sql(text, zmsg_core::sql::params![key, what, seconds]).unwrap()
}

impl Scene {
    /// Somebody sleeps in the database.
    async fn is_running(&self) -> bool {
        let question = "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event = 'PgSleep'";
        self.client.query_one(question, &[]).await.unwrap().get::<_, i64>(0) > 0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_worker_had_runs_elsewhere_once_its_lease_has_ended() {
    let scene = Scene::new().await;
    let api = scene.setup.clone().with_queue("worker", false).with_queue("lease", "2s");
    let first = worker(&scene.setup.clone().with_queue("lease", "2s"));
    let zm = api.open().await;
    let receipt = zm.cache_and_delay_store(Some("k"), None, slow("k", "slow", 30.0), after(0)).await.unwrap();
    let behind = accept(&zm, "k", "behind").await;
    until("it runs", async || scene.is_running().await).await;
    let killed = Instant::now();
    first.kill();
    scene
        .client
        .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        .await
        .unwrap();
    let second = worker(&scene.setup.clone().with_queue("lease", "2s"));
    until("it runs again", async || scene.is_running().await).await;
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
    second.kill();
    drop((receipt, behind));
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_stopped_past_its_lease_has_no_second_effect() {
    let scene = Scene::new().await;
    let short = scene.setup.clone().with_queue("lease", "1s");
    let api = short.clone().with_queue("worker", false).open().await;
    let first = worker(&short);
    let mut receipts =
        vec![api.cache_and_delay_store(Some("k"), None, slow("k", "slow", 0.7), after(0)).await.unwrap()];
    for n in 0..20 {
        receipts.push(accept(&api, &format!("k{n}"), "quick").await);
    }
    until("it runs", async || scene.is_running().await).await;
    first.stop();
    let second = worker(&short);
    for receipt in &receipts {
        within(Duration::from_secs(20), "the other worker", receipt.done()).await.unwrap();
    }
    first.go_on();
    // It finds that nothing is its own any more, and works on.
    let behind = accept(&api, "k", "behind").await;
    behind.done().await.unwrap();
    first.close();
    second.close();
    let mut effects = scene.effects(None).await;
    effects.sort();
    let mut expected: Vec<&str> = std::iter::repeat_n("quick", 20).chain(["behind", "slow"]).collect();
    expected.sort();
    assert_eq!(effects, expected);
    assert_eq!(scene.effects(Some("k")).await, ["slow", "behind"]);
    api.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_kills_its_worker_three_times_is_dead_and_its_companions_are_done() {
    let scene = Scene::new().await;
    let short = scene.setup.clone().with_queue("lease", "1s");
    let api = short.clone().with_queue("worker", false).open().await;
    api.pause_queue().await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..99 {
        receipts.push(accept(&api, &format!("k{n}"), "companion").await);
    }
    let killer =
        api.cache_and_delay_store(Some("k50"), None, slow("k50", "killer", 60.0), after(0)).await.unwrap();
    api.resume_queue().await.unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    for _ in 0..3 {
        let process = worker(&short);
        until("the killer runs", async || scene.is_running().await).await;
        process.kill();
        scene.client.query_one(end, &[]).await.unwrap();
    }
    let last = worker(&short);
    for receipt in &receipts {
        within(Duration::from_secs(20), "a companion", receipt.done()).await.unwrap();
    }
    let error = within(Duration::from_secs(20), "the killer", killer.done()).await.unwrap_err();
    assert!(error.message().contains("3 processes ended while they ran it"), "{error}");
    assert_eq!(scene.effects(None).await, ["companion"; 99]);
    assert_eq!(scene.count("zmsg_dead").await, 1);
    last.close();
    api.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_die_before_they_begin_a_write_are_not_its_fault() {
    let scene = Scene::new().await;
    let short = scene.setup.clone().with_queue("lease", "1s");
    let api = short.clone().with_queue("worker", false).open().await;
    let mut receipts = Vec::new();
    for n in 0..20 {
        receipts.push(accept(&api, "k", &n.to_string()).await);
        receipts.push(accept(&api, &format!("k{n}"), "other").await);
    }
    for _ in 0..4 {
        let mut process =
            Start::role(ROLE).with(SETUP, short.text()).crash_at("queue.after_claim", 1).start();
        assert_eq!(process.answer(), "ready");
        assert!(tokio::task::spawn_blocking(move || process.crashed()).await.unwrap());
    }
    let last = worker(&short);
    for receipt in &receipts {
        within(Duration::from_secs(20), "what was leased", receipt.done()).await.unwrap();
    }
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!((scene.effects(Some("k")).await, scene.count("effects").await), (expected, 40));
    assert_eq!(scene.count("zmsg_dead").await, 0);
    last.close();
    api.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_away_costs_time_and_no_try() {
    let mut server = PostgresServer::start().await;
    let mut scene = Scene::on(database_on(&server).await).await;
    let zm = scene.setup.clone().with_queue("retry_max", 0).open().await;
    accept(&zm, "k", "before").await.done().await.unwrap();
    server.kill();
    let mut receipts = Vec::new();
    for n in 0..50 {
        receipts.push(accept(&zm, "k", &n.to_string()).await);
    }
    let away = if std::env::var_os("ZMSG_SOAK").is_some() { 30 } else { 2 };
    tokio::time::sleep(Duration::from_secs(away)).await;
    server.start_again().await;
    for receipt in &receipts {
        within(Duration::from_secs(30), "the queue goes on", receipt.done()).await.unwrap();
    }
    scene.reconnect().await;
    let expected: Vec<String> =
        ["before".to_owned()].into_iter().chain((0..50).map(|n| n.to_string())).collect();
    assert_eq!((scene.effects(Some("k")).await, scene.count("zmsg_dead").await), (expected, 0));
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_keeps_its_log_loses_nothing() {
    let settings = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = RedisServer::start_with(&settings).await;
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("addr", server.addr.as_str()).with_queue("lease", "1s");
    let zm = setup.open().await;
    let mut accepted = 0;
    for round in 0..3 {
        for n in 0..60 {
            let key = format!("k{}", n % 7);
            let options = DelayOptions { op_id: Some(format!("{round}/{n}")), ..after(n % 40) };
            let accept = async || {
                zm.cache_and_delay_store(
                    Some(&key),
                    None,
                    effect(&key, &format!("{round}/{n}")),
                    options.clone(),
                )
                .await
            };
            if n == 30 {
                server.kill();
                let error = accept().await.unwrap_err();
                assert_eq!((error.code(), error.op_id()), ("queue", options.op_id.as_deref()), "{error}");
                server.start_again().await;
            }
            until("it is accepted", async || accept().await.is_ok()).await;
            accepted += 1;
        }
    }
    until("all have run", async || scene.count("effects").await == accepted).await;
    empty(&zm).await;
    assert_eq!((scene.count("effects").await, zm.stats().queue_losses), (accepted, 0));
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loses_its_data_is_noticed_and_nothing_has_a_second_effect() {
    let mut server = RedisServer::start_with(&["--save", "", "--appendonly", "no"]).await;
    let scene = Scene::new().await;
    let zm = scene.setup.clone().with_queue("addr", server.addr.as_str()).open().await;
    let done = accept(&zm, "k", "done").await;
    assert_eq!(done.durability, "redis");
    done.done().await.unwrap();
    let lost = zm.cache_and_delay_store(Some("k"), None, effect("k", "lost"), after(60_000)).await.unwrap();
    server.kill();
    server.start_again().await;
    until("the loss is noticed", async || zm.stats().queue_losses == 1).await;
    let error = within(Duration::from_secs(10), "the lost one", lost.done()).await.unwrap_err();
    assert!(error.code() == "queue" && error.message().contains("Redis has lost it"), "{error}");
    let again = |op_id: &str, what: &str| {
        let options = DelayOptions { op_id: Some(op_id.to_owned()), ..after(0) };
        zm.cache_and_delay_store(Some("k"), None, effect("k", what), options)
    };
    again(&lost.op_id(), "lost").await.unwrap().done().await.unwrap();
    again(&done.op_id(), "done").await.unwrap().done().await.unwrap();
    assert_eq!(scene.effects(None).await, ["done", "lost"]);
    assert_eq!(zm.stats().queue_losses, 1);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_may_evict_writes_is_refused_unless_that_is_allowed() {
    let server = RedisServer::start_with(&["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("addr", server.addr.as_str());
    let error = setup.try_open().await.err().expect("it is refused");
    assert!(error.code() == "config" && error.message().contains("allkeys-lru"), "{error}");
    let zm = setup.with_queue("allow_eviction", true).open().await;
    accept(&zm, "k", "a").await.done().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn without_redis_the_write_fails_or_runs_at_once_as_the_setting_says() {
    let mut server = RedisServer::start().await;
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("addr", server.addr.as_str()).with("redis_timeout", "300ms");
    let (plain, falling_back) = (setup.open().await, setup.with_queue("fallback", "sync").open().await);
    plain.cache_only("k", crate::scene::bytes("before"), Default::default()).await.unwrap();
    server.kill();
    let value = || Some(crate::scene::bytes("after"));
    let error =
        plain.cache_and_delay_store(Some("k"), value(), effect("k", "a"), after(0)).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("queue", true), "{error}");
    for ms in [1, 10, 20, 40] {
        let brief = plain.with_timeout(Some(Duration::from_millis(ms)));
        let error =
            brief.cache_and_delay_store(Some("k"), None, effect("k", "a"), after(0)).await.unwrap_err();
        assert!(error.op_id().is_some(), "{error}");
    }
    assert_eq!(plain.get("k").await.unwrap(), Some(crate::scene::bytes("before")), "the cache is as before");
    let named = DelayOptions { op_id: Some("once".to_owned()), ..after(0) };
    let receipt = falling_back
        .cache_and_delay_store(Some("k"), value(), effect("k", "b"), named.clone())
        .await
        .unwrap();
    assert_eq!(receipt.durability, "postgres");
    receipt.done().await.unwrap();
    assert_eq!(
        (scene.effects(None).await, falling_back.get("k").await.unwrap()),
        (vec!["b".to_owned()], value())
    );
    server.start_again().await;
    // As if Redis had accepted it all the same.
    plain
        .cache_and_delay_store(Some("k"), None, effect("k", "b"), named)
        .await
        .unwrap()
        .done()
        .await
        .unwrap();
    assert_eq!(scene.effects(None).await, ["b"]);
    plain.close().await.unwrap();
    falling_back.close().await.unwrap();
}

#[tokio::test]
async fn a_write_that_never_ends_is_stopped_and_tried_again_until_it_is_dead() {
    let scene = Scene::new().await;
    let zm = scene.setup.clone().with_queue("retry_max", 1).open().await;
    let options = DelayOptions { task_timeout: Some(Duration::from_millis(200)), ..after(0) };
    let endless =
        zm.cache_and_delay_store(Some("k"), None, slow("k", "endless", 60.0), options).await.unwrap();
    let other = accept(&zm, "other", "other").await;
    within(Duration::from_secs(5), "another key", other.done()).await.unwrap();
    let error = within(Duration::from_secs(10), "the endless one", endless.done()).await.unwrap_err();
    assert_eq!(error.op_id(), Some(&*endless.op_id()), "{error}");
    accept(&zm, "k", "behind").await.done().await.unwrap();
    assert_eq!(scene.effects(None).await, ["other", "behind"]);
    until("the figures are read", async || zm.stats().queue_retried == 1 && zm.stats().queue_dead == 1).await;
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_declared_dead_while_its_worker_was_stopped_stays_dead() {
    let scene = Scene::new().await;
    scene.client.batch_execute("CREATE TABLE doomed (what text)").await.unwrap();
    let short = scene.setup.clone().with_queue("lease", "1s");
    let api = short.clone().with_queue("worker", false).open().await;
    let first = worker(&short);
    let text = "INSERT INTO doomed SELECT 'a' FROM pg_sleep(0.5)";
    let doomed = api.cache_and_delay_store(Some("k"), None, sql(text, ()).unwrap(), after(0)).await.unwrap();
    let behind = accept(&api, "k", "behind").await;
    until("it runs", async || scene.is_running().await).await;
    first.stop();
    // Its transaction is ended by the server once it has been idle for as long as its lease.
    scene.client.batch_execute("DROP TABLE doomed").await.unwrap();
    let second = worker(&short);
    let error = within(Duration::from_secs(20), "the doomed one", doomed.done()).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"), "{error}");
    behind.done().await.unwrap();
    scene.client.batch_execute("CREATE TABLE doomed (what text)").await.unwrap();
    first.go_on();
    accept(&api, "k", "last").await.done().await.unwrap();
    first.close();
    second.close();
    assert_eq!((scene.count("doomed").await, scene.count("zmsg_dead").await), (0, 1));
    assert_eq!(scene.effects(None).await, ["behind", "last"]);
    api.close().await.unwrap();
}
