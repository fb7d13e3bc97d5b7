//! What is bounded, how long things live, and what is refused before anybody is asked.

use std::time::Duration;

use futures_util::future::join_all;
use zmsg_core::config::Ttl;
use zmsg_core::engine::{SourceOptions, WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::{Scene, declare, some, text, write};
use crate::support::engine::within;
use crate::support::proxy::Proxy;
use crate::support::{redis_addr, task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_below_its_bound() {
    const BOUND: u64 = 1 << 20;
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("l1_max_cost", BOUND).open().await;
    let value = text(&"v".repeat(4_096));
    for batch in 0..20 {
        let keys: Vec<String> = (0..100).map(|n| format!("feed_{batch}_{n}")).collect();
        let writes = keys.iter().map(|key| zmsg.cache_only(key, value.clone(), WriteOptions::default()));
        join_all(writes).await.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
        let bytes = zmsg.stats().l1_bytes;
        assert!(bytes <= BOUND, "{bytes}");
    }
    let stats = zmsg.stats();
    assert!(stats.l1_bytes > BOUND / 2 && stats.l1_entries < 250, "{stats:?}");
    // What memory gave up is still in Redis.
    for key in ["feed_0_0", "feed_19_99"] {
        assert_eq!(zmsg.get(key).await.unwrap(), Some(value.clone()));
    }
    assert!(stats.l1_evictions > 0);
}

#[tokio::test]
async fn nothing_larger_than_memory_is_kept_and_zero_keeps_nothing() {
    let scene = Scene::new().await;
    for bound in [0_u64, 1_000] {
        let zmsg = scene.setup.clone().with("l1_max_cost", bound).open().await;
        let value = text(&"v".repeat(10_000));
        zmsg.cache_only("big", value.clone(), WriteOptions::default()).await.unwrap();
        assert_eq!(zmsg.get("big").await.unwrap(), Some(value));
        assert!(zmsg.stats().l1_bytes <= bound);
    }
}

/// What Redis says about the life of a key, in milliseconds; -1 is for ever.
async fn pttl(scene: &Scene, key: &str) -> i64 {
    let client = redis::Client::open(format!("redis://{}", redis_addr())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let full = format!("{}:v:{{.{key}}}", scene.setup.namespace());
    redis::cmd("PTTL").arg(full).query_async(&mut connection).await.unwrap()
}

async fn lives_about(scene: &Scene, key: &str, seconds: f64) {
    let left = pttl(scene, key).await as f64 / 1e3;
    // Moved by a twentieth at most; a minute for a machine that is slow.
    assert!(left <= seconds * 1.05 && left >= seconds * 0.95 - 60.0, "{key} lives {left} s, not {seconds} s");
}

fn options(ttl: Ttl) -> WriteOptions {
    WriteOptions { ttl: Some(ttl), ..WriteOptions::default() }
}

#[tokio::test]
async fn what_lives_how_long_in_redis() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("default_ttl", "2h").with("absent_ttl", "20m").open().await;
    declare(&zmsg);
    let hour = Ttl::For(Duration::from_secs(3_600));
    let row = task("SELECT content FROM feeds WHERE id = ?", &[]);
    let absent_ttl = Some(Duration::from_secs(600));
    let own = SourceOptions { ttl: Some(hour), absent_ttl, ..SourceOptions::default() };
    zmsg.source("own_*", row, own).unwrap();
    scene.insert("feed_row", "v").await;
    scene.insert("own_row", "v").await;
    for key in ["feed_row", "own_row", "feed_none", "own_none"] {
        zmsg.get(key).await.unwrap();
    }
    zmsg.cache_only("default", text("v"), WriteOptions::default()).await.unwrap();
    zmsg.cache_only("hour", text("v"), options(hour)).await.unwrap();
    zmsg.cache_only("never", text("v"), options(Ttl::Never)).await.unwrap();
    let task = crate::scene::put("feed_stored", "v");
    zmsg.cache_and_store(Some("feed_stored"), some("v"), task, options(hour)).await.unwrap();
    for (key, seconds) in [
        ("feed_row", 7_200.0),
        ("own_row", 3_600.0),
        ("feed_none", 1_200.0),
        ("own_none", 600.0),
        ("default", 7_200.0),
        ("hour", 3_600.0),
        ("feed_stored", 3_600.0),
    ] {
        lives_about(&scene, key, seconds).await;
    }
    assert_eq!(pttl(&scene, "never").await, -1);
    // A write with another life replaces the old one; a drop ends it.
    zmsg.cache_only("never", text("w"), options(hour)).await.unwrap();
    lives_about(&scene, "never", 3_600.0).await;
    zmsg.del("never").await.unwrap();
    assert_eq!(pttl(&scene, "never").await, -2);
}

async fn refused(what: &str, error: Option<zmsg_core::error::Error>) {
    let error = error.unwrap_or_else(|| panic!("{what} should be refused"));
    assert_eq!(error.kind(), ErrorKind::Task, "{what}: {error}");
    assert!(!error.retryable() && !error.to_string().contains("vvvvvvvvv"), "{what}: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_before_anybody_is_asked() {
    let scene = Scene::new().await;
    let (postgres, redis) = (Proxy::start(&scene.database.dsn).await, Proxy::to_redis(&redis_addr()).await);
    let zmsg =
        scene.setup.clone().postgres_behind(&postgres, &scene.database).redis_behind(&redis).open().await;
    // With no server to ask, only what was never sent can be quick.
    postgres.silence(true);
    redis.silence(true);
    let limit = Duration::from_millis(900);
    within(limit, "refusals", async {
        let (long, value) = ("k".repeat(1_025), text("v"));
        for key in ["", &long] {
            refused("get", zmsg.get(key).await.err()).await;
            refused("get_many", zmsg.get_many(&["fine", key]).await.err()).await;
            refused("peek", zmsg.peek(key).err()).await;
            refused("del", zmsg.del(key).await.err()).await;
            refused("cache_only", zmsg.cache_only(key, value.clone(), WriteOptions::default()).await.err())
                .await;
            refused("a write", write(&zmsg, key, "v").await.err()).await;
            let invalidates = WriteOptions { invalidates: vec![key.to_owned()], ..WriteOptions::default() };
            let task = crate::scene::put("feed_1", "v");
            refused("invalidates", zmsg.cache_and_store(None, None, task, invalidates).await.err()).await;
        }
        let large = text(&"v".repeat((16 << 20) + 1));
        refused("a large value", zmsg.cache_only("a", large.clone(), WriteOptions::default()).await.err())
            .await;
        let task = crate::scene::put("feed_1", "v");
        let written = zmsg.cache_and_store(Some("feed_1"), Some(large), task, WriteOptions::default()).await;
        refused("a large value stored", written.err()).await;
        let none: Vec<zmsg_core::sql::Task> = Vec::new();
        refused("no task", zmsg.sql_exec(none).await.err()).await;
        refused("a template", zmsg.sql_exec(task_template()).await.err()).await;
    })
    .await;
    let brief = zmsg.with_timeout(Some(Duration::from_millis(10)));
    brief.close().await.unwrap();
}

fn task_template() -> zmsg_core::sql::Task {
    task("SELECT ?::int", &[])
}

const HOSTILE: &[&str] = &[
    "a\r\nDEL b\r\n",
    "feed_*",
    "feed_?[a-z]",
    "{}",
    "}{",
    "zmsg:m:generation",
    "zmsg:v:{.feed_1}",
    "nul\0nul",
    "'; DROP TABLE feeds; --",
    "$1 ? %s",
    "\u{10ffff}é漢\u{202e}",
    " ",
    "../../etc/passwd",
];

/// Every key has its own value, in both tiers and through the database.
async fn round_trips(scene: &Scene, zmsg: &Zmsg, key: &str) {
    zmsg.cache_only(key, text(key), WriteOptions::default()).await.unwrap();
    assert_eq!(zmsg.get(key).await.unwrap(), some(key), "{key:?}");
    assert_eq!(scene.redis_view().await.get(key).await.unwrap(), some(key), "{key:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_keys_are_names_and_nothing_else() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    for key in HOSTILE {
        round_trips(&scene, &zmsg, key).await;
    }
    let all = zmsg.get_many(HOSTILE).await.unwrap();
    assert!(all.iter().zip(HOSTILE).all(|(value, key)| *value == some(key)), "none overwrote another");
    for key in HOSTILE {
        zmsg.del(key).await.unwrap();
        assert_eq!(zmsg.get(key).await.unwrap(), None, "{key:?}");
    }
    // As the id of a row, and with a NUL, which no row can have.
    for key in ["feed_'; DROP TABLE feeds; --", "feed_\r\n*{}", "feed_$1"] {
        write(&zmsg, key, "row").await.unwrap();
        zmsg.del(key).await.unwrap();
        assert_eq!(zmsg.get(key).await.unwrap(), some("row"), "{key:?}");
    }
    assert_eq!(zmsg.get("feed_\0").await.unwrap(), None);
    assert_eq!(scene.rows().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_with_more_time_than_others_gets_all_of_it() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("timeout", "500ms").open().await;
    let patient = zmsg.with_timeout(Some(Duration::from_secs(20)));
    let late = task("SELECT 'v' || pg_sleep(0.8)::text || ?", &[]);
    zmsg.source("late_*", late, SourceOptions::default()).unwrap();
    assert_eq!(patient.get("late_1").await.unwrap(), some("vlate_1"));
    assert_eq!(patient.get_many(&["late_2"]).await.unwrap(), [some("vlate_2")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_keys_than_loads_may_be_under_way_are_read_in_parts() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("timeout", "1m").open().await;
    zmsg.cache_only("k70000", text("last"), WriteOptions::default()).await.unwrap();
    let keys: Vec<String> = (0..70_001).map(|n| format!("k{n}")).collect();
    let found = zmsg.get_many(&keys).await.unwrap();
    assert_eq!((found.len(), found.last().cloned().flatten()), (70_001, some("last")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_beyond_the_limit_of_values_is_given_and_not_kept() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("max_value_bytes", 100).open().await;
    declare(&zmsg);
    let long = "v".repeat(101);
    scene.insert("feed_long", &long).await;
    for loads in 1..=2 {
        assert_eq!(zmsg.get("feed_long").await.unwrap(), some(&long));
        assert_eq!(zmsg.peek("feed_long").unwrap(), None);
        assert_eq!((zmsg.stats().source_loads, zmsg.stats().oversized_loads), (loads, loads));
    }
    assert_eq!(zmsg.stats().cache_fills, 0);
}

#[tokio::test]
async fn no_cache_holds_a_callers_buffer() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    let value = text("value");
    zmsg.cache_only("a", value.clone(), WriteOptions::default()).await.unwrap();
    let row = crate::scene::put("feed_1", "value");
    zmsg.cache_and_store(Some("feed_1"), Some(value.clone()), row, WriteOptions::default()).await.unwrap();
    for key in ["a", "feed_1"] {
        assert_ne!(zmsg.peek(key).unwrap().unwrap().as_ptr(), value.as_ptr());
    }
}

#[tokio::test]
async fn keys_whose_parts_do_not_parse_are_counted() {
    let scene = Scene::new().await;
    let zmsg = scene.engine().await;
    let row = task("SELECT content FROM feeds WHERE length(id) = ?", &[]);
    zmsg.source("length:{n:int}", row, SourceOptions::default()).unwrap();
    assert_eq!(zmsg.get("length:many").await.unwrap(), None);
    assert_eq!(zmsg.get("feed_\0").await.unwrap(), None);
    let stats = zmsg.stats();
    assert_eq!((stats.unparsable_misses, stats.unsourced_misses, stats.source_loads), (2, 0, 0));
}
