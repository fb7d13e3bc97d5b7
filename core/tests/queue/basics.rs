//! Without faults.

use std::time::{Duration, Instant};

use zmsg_core::engine::{Cancelled, DelayOptions, Zmsg};
use zmsg_core::sql::{Task, counter, params, sql};
use zmsg_core::value::{Decimal, Value};

use crate::redis::redis_client;
use crate::scene::{Scene, accept, after, bytes, effect};
use crate::support::engine::until;

#[tokio::test]
async fn a_delayed_write_has_its_effect_once_after_its_delay() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let begun = Instant::now();
    let receipt = zm.cache_and_delay_store(Some("k"), None, effect("k", "a"), after(300)).await.unwrap();
    assert_eq!((receipt.durability, receipt.rows_affected, receipt.cached), ("redis_aof", 0, true));
    assert_eq!(scene.effects(None).await, [""; 0]);
    receipt.done().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    receipt.done().await.unwrap();
    assert_eq!(scene.effects(None).await, ["a"]);
    assert_eq!((scene.count("zmsg_done").await, scene.count("zmsg_dead").await), (1, 0));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_is_bound_arrives_as_it_left() {
    let scene = Scene::new().await;
    let table =
        "CREATE TABLE typed (i int8, n numeric, t timestamptz, b bytea, u uuid, x text, j jsonb, l int4[])";
    scene.client.batch_execute(table).await.unwrap();
    let zm = scene.open().await;
    let task = sql(
        "INSERT INTO typed VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        vec![
            Value::Int(i64::MIN),
            Value::Decimal(Decimal::parse("12345678901234567890.123456789").unwrap()),
            Value::TimestampTz(1_700_000_000_123_456),
            Value::bytes(&[0, 255, 10][..]),
            Value::Uuid([9; 16]),
            Value::text("é\u{10ffff}"),
            Value::Json("{\"a\":[1,null]}".into()),
            Value::List(vec![Value::Int(1), Value::Null].into()),
        ],
    )
    .unwrap();
    let delayed = zm.cache_and_delay_store(None, None, task, after(0)).await.unwrap();
    delayed.done().await.unwrap();
    let shown = "SELECT i::text, n::text, (extract(epoch FROM t) * 1000000)::bigint::text, encode(b, 'hex'), u::text, x, j::text, l::text FROM typed";
    let row = scene.client.query_one(shown, &[]).await.unwrap();
    let found: Vec<String> = (0..8).map(|at| row.get(at)).collect();
    let expected = [
        "-9223372036854775808",
        "12345678901234567890.123456789",
        "1700000000123456",
        "00ff0a",
        "09090909-0909-0909-0909-090909090909",
        "é\u{10ffff}",
        "{\"a\": [1, null]}",
        "{1,NULL}",
    ];
    assert_eq!(found, expected);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn writes_of_one_key_run_in_their_order_and_wait_for_each_others_delays() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let first = zm.cache_and_delay_store(Some("k"), None, effect("k", "first"), after(1_500)).await.unwrap();
    let second = accept(&zm, "k", "second").await;
    accept(&zm, "other", "other").await.done().await.unwrap();
    assert_eq!(scene.effects(None).await, ["other"], "another key does not wait");
    let mut receipts = vec![first, second];
    for n in 0..50 {
        receipts.push(accept(&zm, "k", &n.to_string()).await);
    }
    for receipt in &receipts {
        receipt.done().await.unwrap();
    }
    let expected = ["first", "second"].map(str::to_owned).into_iter();
    let expected: Vec<String> = expected.chain((0..50).map(|n| n.to_string())).collect();
    assert_eq!(scene.effects(Some("k")).await, expected);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn after_the_commit_the_caches_hold_nothing_older_and_what_was_accepted_last() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    zm.source("f*", sql("SELECT likes FROM meta WHERE id = ?", ()).unwrap(), Default::default()).unwrap();
    let like = || counter("meta", "likes").unwrap().inc(1).where_("id = ?", ["f1"]).unwrap().build().unwrap();
    let read = async || zm.get("f1").await.unwrap();
    assert_eq!(read().await, Some(bytes("0")));
    let plain = zm.cache_and_delay_store(Some("f1"), None, like(), after(0)).await.unwrap();
    plain.done().await.unwrap();
    assert_eq!(read().await, Some(bytes("1")));
    let with = async |data, ms| {
        zm.cache_and_delay_store(Some("f1"), Some(bytes(data)), like(), after(ms)).await.unwrap()
    };
    let valued = with("two", 0).await;
    valued.done().await.unwrap();
    assert_eq!(read().await, Some(bytes("two")), "its own value stays");
    // The first is committed while the value of the second is cached already.
    let (third, fourth) = (with("three", 100).await, with("four", 0).await);
    third.done().await.unwrap();
    assert_eq!(read().await, Some(bytes("four")), "so does that of a later accepted one");
    fourth.done().await.unwrap();
    assert_eq!((read().await, scene.likes("f1").await), (Some(bytes("four")), 4));
    let deleted = zm.del_delay_store(Some("f1"), like(), after(100)).await.unwrap();
    assert_eq!(read().await, Some(bytes("4")), "dropped at once");
    deleted.done().await.unwrap();
    assert_eq!(read().await, Some(bytes("5")));
    // A synchronous write is newer than what was accepted and not committed.
    let later = with("six", 150).await;
    zm.cache_and_store(Some("f1"), Some(bytes("now")), like(), Default::default()).await.unwrap();
    assert_eq!(read().await, Some(bytes("now")));
    later.done().await.unwrap();
    assert_eq!(read().await, Some(bytes("7")), "which the delayed one made old");
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_that_can_be_run_again() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let poison = sql("INSERT INTO effects (key, what) VALUES (?, NULL)", params!["k"]).unwrap();
    let mut good = Vec::new();
    for n in 0..20 {
        good.push(accept(&zm, &format!("k{n}"), "good").await);
    }
    let dead = zm.cache_and_delay_store(Some("k"), None, poison, after(0)).await.unwrap();
    let behind = accept(&zm, "k", "behind").await;
    let error = dead.done().await.unwrap_err();
    assert_eq!((error.sqlstate(), error.op_id()), (Some("23502"), Some(&*dead.op_id())));
    behind.done().await.unwrap();
    for good in good {
        good.done().await.unwrap();
    }
    assert_eq!(scene.count("effects").await, 21);
    let [letter] = &zm.dead_letters().await.unwrap()[..] else { panic!("one letter") };
    assert_eq!((&*letter.path, &*letter.op_id, letter.key.as_deref()), ("queue", &*dead.op_id(), Some("k")));
    assert_eq!(zm.retry_dead(letter.id).await.unwrap_err().sqlstate(), Some("23502"));
    scene.client.batch_execute("ALTER TABLE effects ALTER what DROP NOT NULL").await.unwrap();
    zm.retry_dead(letter.id).await.unwrap();
    assert_eq!((scene.count("effects").await, scene.count("zmsg_dead").await), (22, 0));
    // Whoever asks later is told the same by the database.
    zm.close().await.unwrap();
}

/// Makes a dead letter of a task, by way of the queue.
async fn bury(zm: &Zmsg, task: Task) {
    let receipt = zm.cache_and_delay_store(None, None, task, after(0)).await.unwrap();
    receipt.done().await.unwrap_err();
}

#[tokio::test]
async fn all_dead_letters_run_again_and_those_refused_again_stay() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let slow = || sql("INSERT INTO effects (key, what) SELECT 'k', NULL FROM pg_sleep(0.8)", ()).unwrap();
    bury(&zm, slow()).await;
    bury(&zm, sql("UPDATE meta SET likes = 1 / 0", ()).unwrap()).await;
    bury(&zm, slow()).await;
    scene.client.batch_execute("UPDATE meta SET likes = 2147483647 WHERE id = 'f1'").await.unwrap();
    let like = counter("meta", "likes").unwrap().inc(1).where_("id = ?", ["f1"]).unwrap().build().unwrap();
    zm.cache_and_periodic_store(Some("f1"), None, like, Default::default()).await.unwrap();
    assert_eq!(zm.flush().await.unwrap().dead, 1);

    let letters = zm.dead_letters().await.unwrap();
    let paths: Vec<&str> = letters.iter().map(|it| &*it.path).collect();
    assert_eq!(paths, ["queue", "queue", "queue", "batch"]);
    assert_eq!(zm.dead_letters_after(letters[0].id, 2).await.unwrap(), letters[1..3]);
    assert_eq!(zm.dead_letters_after(letters[3].id, 10_000).await.unwrap(), []);
    for most in [0, 10_001] {
        assert_eq!(zm.dead_letters_after(0, most).await.unwrap_err().code(), "task");
    }

    let mend = "ALTER TABLE effects ALTER what DROP NOT NULL; UPDATE meta SET likes = 0";
    scene.client.batch_execute(mend).await.unwrap();
    // Less than both slow ones take: the time limit is that of each.
    let brief = zm.with_timeout(Some(Duration::from_millis(1_500)));
    let report = brief.retry_all_dead().await.unwrap();
    assert_eq!((report.retried, report.refused), (3, 1));
    assert_eq!(zm.dead_letters().await.unwrap(), letters[1..2]);
    assert_eq!((scene.count("effects").await, scene.likes("f1").await), (2, 1));
    let report = zm.retry_all_dead().await.unwrap();
    assert_eq!((report.retried, report.refused), (0, 1), "it stays however often");
    zm.close().await.unwrap();
    assert_eq!(zm.retry_all_dead().await.unwrap_err().code(), "closed");
}

#[tokio::test]
async fn running_all_dead_letters_again_stops_where_none_was_refused_and_passes_over_what_others_took() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let add = "ALTER TABLE meta ADD CONSTRAINT unliked CHECK (likes = 0)";
    scene.client.batch_execute(add).await.unwrap();
    for id in ["f1", "f2", "f3", "f4"] {
        bury(&zm, sql("UPDATE meta SET likes = 1 WHERE id = ?", params![id]).unwrap()).await;
    }
    scene.client.batch_execute("ALTER TABLE meta DROP CONSTRAINT unliked").await.unwrap();
    let letters = zm.dead_letters().await.unwrap();

    scene.client.batch_execute("BEGIN; SELECT FROM meta WHERE id = 'f2' FOR UPDATE").await.unwrap();
    let error = zm.with_timeout(Some(Duration::from_millis(500))).retry_all_dead().await.unwrap_err();
    let told = format!("letter: {}, retried: 1, refused: 0", letters[1].id);
    assert!(error.code() == "timeout" && error.to_string().contains(&told), "{error}");
    assert_eq!(zm.dead_letters().await.unwrap(), letters[1..]);

    let walk = tokio::spawn({
        let zm = zm.clone();
        async move { zm.retry_all_dead().await }
    });
    let waits =
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("the walk is at the locked row", async || {
        !scene.client.query(waits, &[]).await.unwrap().is_empty()
    })
    .await;
    zm.drop_dead(letters[2].id).await.unwrap();
    scene.client.batch_execute("ROLLBACK").await.unwrap();
    let report = walk.await.unwrap().unwrap();
    assert_eq!((report.retried, report.refused), (2, 0));
    assert_eq!(zm.dead_letters().await.unwrap(), []);
    assert_eq!((scene.likes("f2").await, scene.likes("f3").await, scene.likes("f4").await), (1, 0, 1));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn an_operation_with_a_name_is_accepted_once() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let named = |ms| DelayOptions { op_id: Some("order-17".to_owned()), ..after(ms) };
    let first = zm.cache_and_delay_store(Some("k"), None, effect("k", "a"), named(200)).await.unwrap();
    let second = zm.cache_and_delay_store(Some("k"), None, effect("k", "b"), named(0)).await.unwrap();
    assert_eq!((&*first.op_id(), &*second.op_id()), ("order-17", "order-17"));
    tokio::try_join!(first.done(), second.done()).unwrap();
    let late = zm.cache_and_delay_store(Some("k"), None, effect("k", "c"), named(0)).await.unwrap();
    late.done().await.unwrap();
    assert_eq!(scene.effects(None).await, ["a"], "also once it is done");
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_write_replaces_one_that_may_be_replaced() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let coalescing = |ms| DelayOptions { coalesce: true, ..after(ms) };
    let add = async |what: &str, options| {
        zm.cache_and_delay_store(Some("k"), None, effect("k", what), options).await.unwrap()
    };
    let plain = add("plain", after(250)).await;
    let mut replaced = Vec::new();
    for n in 0..20 {
        replaced.push(add(&n.to_string(), coalescing(0)).await);
    }
    let last = add("last", coalescing(60_000)).await;
    let behind = add("behind", after(0)).await;
    plain.done().await.unwrap();
    last.done().await.unwrap();
    behind.done().await.unwrap();
    assert_eq!(
        scene.effects(None).await,
        ["plain", "last", "behind"],
        "at the time of the first it replaced"
    );
    for replaced in replaced {
        let error = replaced.done().await.unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("queue", false), "{error}");
    }
    until("the figures are read", async || zm.stats().queue_replaced == 20).await;
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_has_not_begun_can_be_taken_back() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let first = zm.cache_and_delay_store(Some("k"), None, effect("k", "first"), after(60_000)).await.unwrap();
    let second = accept(&zm, "k", "second").await;
    let third = accept(&zm, "k", "third").await;
    assert_eq!(zm.cancel_delayed(&second.op_id()).await.unwrap(), Cancelled::Yes);
    assert_eq!(zm.cancel_delayed(&first.op_id()).await.unwrap(), Cancelled::Yes);
    third.done().await.unwrap();
    for gone in [&first, &second] {
        assert_eq!(gone.done().await.unwrap_err().code(), "queue");
        assert_eq!(zm.cancel_delayed(&gone.op_id()).await.unwrap(), Cancelled::Unknown);
    }
    assert_eq!(scene.effects(None).await, ["third"]);
    accept(&zm, "k", "fourth").await.done().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_paused_queue_accepts_and_runs_nothing() {
    let scene = Scene::new().await;
    let (zm, other) = (scene.open().await, scene.open().await);
    zm.pause_queue().await.unwrap();
    let receipt = accept(&zm, "k", "a").await;
    until("the figures are read", async || zm.stats().queue_paused && zm.stats().queue_due == 1).await;
    assert_eq!(scene.effects(None).await, [""; 0]);
    other.resume_queue().await.unwrap();
    receipt.done().await.unwrap();
    until("the figures are read", async || !zm.stats().queue_paused && zm.stats().queue_done == 1).await;
    zm.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_process_without_a_worker_accepts_and_another_runs() {
    let scene = Scene::new().await;
    let api = scene.setup.clone().with_queue("worker", false).open().await;
    let receipt = accept(&api, "k", "a").await;
    tokio::time::timeout(Duration::from_millis(600), receipt.done()).await.expect_err("nobody runs it");
    let worker = scene.open().await;
    receipt.done().await.unwrap();
    let poison = api.cache_and_delay_store(None, None, sql("SELECT 1 / 0", ()).unwrap(), after(0)).await;
    assert_eq!(poison.unwrap_err().code(), "task", "a read is refused");
    let poison = sql("UPDATE meta SET likes = 1 / 0", ()).unwrap();
    let poison = api.cache_and_delay_store(None, None, poison, after(0)).await.unwrap();
    assert_eq!(poison.done().await.unwrap_err().sqlstate(), Some("22012"), "told by the database");
    worker.close().await.unwrap();
    let left = accept(&api, "k", "b").await;
    api.close().await.unwrap();
    assert_eq!(left.done().await.unwrap_err().code(), "closed");
    let worker = scene.open().await;
    until("it runs", async || scene.effects(None).await == ["a", "b"]).await;
    worker.close().await.unwrap();
}

#[tokio::test]
async fn bad_calls_are_refused_before_anything_is_sent() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let long = "x".repeat(201);
    let options = [
        DelayOptions { op_id: Some("a b".to_owned()), ..after(0) },
        DelayOptions { op_id: Some(String::new()), ..after(0) },
        DelayOptions { op_id: Some(long), ..after(0) },
        DelayOptions { delay: Some(Duration::from_secs(366 * 86_400)), ..DelayOptions::default() },
    ];
    for options in options {
        let error = zm.cache_and_delay_store(Some("k"), None, effect("k", "a"), options).await.unwrap_err();
        assert_eq!(error.code(), "task", "{error}");
    }
    let coalescing = DelayOptions { coalesce: true, ..after(0) };
    let error = zm.cache_and_delay_store(None, None, effect("k", "a"), coalescing).await.unwrap_err();
    assert!(error.message().contains("coalesce needs a key"), "{error}");
    zm.close().await.unwrap();
    let without = scene.setup.clone().with("redis_addr", serde_json::Value::Null);
    let zm = without.with_queue("addr", "").open().await;
    let error = zm.cache_and_delay_store(Some("k"), None, effect("k", "a"), after(0)).await.unwrap_err();
    assert!(error.code() == "config" && error.message().contains("queue.addr"), "{error}");
    zm.close().await.unwrap();
}

#[tokio::test]
async fn rows_of_what_is_long_done_are_removed_and_no_younger_ones() {
    let scene = Scene::new().await;
    let zm = scene.setup.clone().with_queue("worker", false).open().await;
    let rows = "INSERT INTO zmsg_done (op_id, done_on) SELECT 'old' || n, current_date - 9 FROM generate_series(1, 12000) AS n; \
         INSERT INTO zmsg_done (op_id, done_on) SELECT 'young' || n, current_date - 8 FROM generate_series(1, 50) AS n";
    scene.client.batch_execute(rows).await.unwrap();
    let worker = scene.open().await;
    until("the old ones are gone", async || scene.count("zmsg_done").await == 50).await;
    worker.close().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_write_that_is_older_than_what_is_remembered_is_dead() {
    let scene = Scene::new().await;
    let zm = scene.setup.clone().with("done_retention", "24h").open().await;
    zm.pause_queue().await.unwrap();
    let receipt = accept(&zm, "k", "old").await;
    // As if Redis had been put back from a backup of the day before.
    let redis = redis_client().await;
    redis.age(scene.setup.namespace(), &receipt.op_id()).await;
    zm.resume_queue().await.unwrap();
    let error = receipt.done().await.unwrap_err();
    assert!(error.message().contains("done_retention"), "{error}");
    assert_eq!((scene.effects(None).await.len(), scene.count("zmsg_dead").await), (0, 1));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_nobody_can_read_is_a_dead_letter_and_stops_nobody() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    zm.pause_queue().await.unwrap();
    let (strange, behind) = (accept(&zm, "k", "strange").await, accept(&zm, "k", "behind").await);
    let redis = redis_client().await;
    redis.change_version(scene.setup.namespace(), &strange.op_id()).await;
    zm.resume_queue().await.unwrap();
    let error = strange.done().await.unwrap_err();
    assert!(error.message().contains("version 9"), "{error}");
    behind.done().await.unwrap();
    let [letter] = &zm.dead_letters().await.unwrap()[..] else { panic!("one letter") };
    assert_eq!(letter.statement, "(unreadable)");
    assert!(zm.retry_dead(letter.id).await.unwrap_err().message().contains("version 9"));
    zm.drop_dead(letter.id).await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_lost_its_prepared_statements_is_not_noticed() {
    let scene = Scene::new().await;
    let zm = scene.setup.clone().with("pool_size", 1).with_queue("retry_max", 0).open().await;
    for n in 0..5 {
        accept(&zm, "k", &n.to_string()).await.done().await.unwrap();
        // As if a pooler had switched the connection to another server session.
        zm.sql_exec(sql("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$", ()).unwrap()).await.unwrap();
    }
    assert_eq!(scene.effects(None).await, ["0", "1", "2", "3", "4"]);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_a_repeated_call_caches_does_not_outlive_what_the_first_one_did() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    zm.source("f*", sql("SELECT likes FROM meta WHERE id = ?", ()).unwrap(), Default::default()).unwrap();
    let set = |likes: i32| sql("UPDATE meta SET likes = ? WHERE id = 'f1'", params![likes]).unwrap();
    let named = || DelayOptions { op_id: Some("one".to_owned()), ..after(0) };
    let call =
        async || zm.cache_and_delay_store(Some("f1"), Some(bytes("1")), set(1), named()).await.unwrap();
    call().await.done().await.unwrap();
    zm.cache_and_store(Some("f1"), Some(bytes("2")), set(2), Default::default()).await.unwrap();
    call().await.done().await.unwrap();
    assert_eq!((zm.get("f1").await.unwrap(), scene.likes("f1").await), (Some(bytes("2")), 2));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_never_comes_true_leaves_the_caches_and_is_told_to_all_alike() {
    let scene = Scene::new().await;
    let (zm, api) = (scene.open().await, scene.setup.clone().with_queue("worker", false).open().await);
    zm.source("f*", sql("SELECT likes FROM meta WHERE id = ?", ()).unwrap(), Default::default()).unwrap();
    let poison = || sql("UPDATE meta SET likes = 1 / 0", ()).unwrap();
    let dead = zm.cache_and_delay_store(Some("f1"), Some(bytes("99")), poison(), after(0)).await.unwrap();
    let here = dead.done().await.unwrap_err();
    assert_eq!(zm.get("f1").await.unwrap(), Some(bytes("0")), "the value of a dead write");
    let named = DelayOptions { op_id: Some("dead".to_owned()), ..after(0) };
    let elsewhere = api.cache_and_delay_store(None, None, poison(), named.clone()).await.unwrap();
    let there = elsewhere.done().await.unwrap_err();
    assert_eq!(
        (here.code(), here.sqlstate(), here.retryable()),
        (there.code(), there.sqlstate(), there.retryable())
    );
    for letter in zm.dead_letters().await.unwrap() {
        zm.drop_dead(letter.id).await.unwrap();
    }
    let again = api.cache_and_delay_store(None, None, poison(), named).await.unwrap();
    let error = again.done().await.unwrap_err();
    assert!(error.message().contains("its dead letter was dropped"), "{error}");
    let cancelled =
        zm.cache_and_delay_store(Some("f2"), Some(bytes("99")), poison(), after(60_000)).await.unwrap();
    zm.cancel_delayed(&cancelled.op_id()).await.unwrap();
    assert_eq!(zm.get("f2").await.unwrap(), Some(bytes("0")), "the value of one that was taken back");
    zm.close().await.unwrap();
    api.close().await.unwrap();
}

#[tokio::test]
async fn whoever_waited_for_a_write_reads_nothing_older() {
    let scene = Scene::new().await;
    let (worker, api) = (scene.open().await, scene.setup.clone().with_queue("worker", false).open().await);
    api.source("f*", sql("SELECT likes FROM meta WHERE id = ?", ()).unwrap(), Default::default()).unwrap();
    assert_eq!(api.get("f1").await.unwrap(), Some(bytes("0")));
    let like = counter("meta", "likes").unwrap().inc(1).where_("id = ?", ["f1"]).unwrap().build().unwrap();
    let receipt = api.cache_and_delay_store(Some("f1"), None, like, after(0)).await.unwrap();
    receipt.done().await.unwrap();
    assert_eq!(api.get("f1").await.unwrap(), Some(bytes("1")));
    worker.close().await.unwrap();
    api.close().await.unwrap();
}

#[tokio::test]
async fn a_queue_of_another_database_is_not_touched() {
    let (ours, theirs) = (Scene::new().await, Scene::new().await);
    let api = ours.setup.clone().with_queue("worker", false).open().await;
    let receipt = accept(&api, "k", "ours").await;
    let same = theirs.setup.clone().with("namespace", ours.setup.namespace()).open().await;
    let error =
        same.cache_and_delay_store(Some("k"), None, effect("k", "theirs"), after(0)).await.unwrap_err();
    assert!(error.code() == "config" && error.message().contains("another database"), "{error}");
    for touched in [same.cancel_delayed(&receipt.op_id()).await.map(drop), same.pause_queue().await] {
        assert_eq!(touched.unwrap_err().code(), "config");
    }
    let worker = ours.open().await;
    receipt.done().await.unwrap();
    assert_eq!((ours.effects(None).await, theirs.effects(None).await), (vec!["ours".to_owned()], Vec::new()));
    worker.close().await.unwrap();
    same.close().await.unwrap();
    api.close().await.unwrap();
}
