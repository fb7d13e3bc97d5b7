//! What Redis has is not as it should be: nobody says "no", and the filter is built anew by itself.

use crate::scene::{Scene, built_after, declare, figures, redis_at, serving, shared_redis, store};
use crate::support::engine::until;
use crate::support::servers::RedisServer;

/// Whether any of a hundred keys that do not exist is "no".
async fn says_no(zm: &zmsg_core::engine::Zmsg) -> bool {
    for n in 0..100 {
        if !zm.db_hit(&format!("feed_no_{n}")).await.unwrap() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn what_somebody_did_to_the_strings_is_noticed_at_the_next_question() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let mut redis = shared_redis().await;
    // The marker comes first by name; this filter has one chunk.
    for (which, words) in [
        (1, vec!["DEL", "@"]),
        (0, vec!["DEL", "@"]),
        (0, vec!["SET", "@", "another program's"]),
        (1, vec!["SET", "@", "cut off"]),
        (1, vec!["APPEND", "@", "x"]),
        (1, vec!["SETRANGE", "@", "0", "foreign."]),
        (1, vec!["RENAME", "@", "somewhere else"]),
        (0, vec!["APPEND", "@", "x"]),
    ] {
        let generation = figures(&zm).generation;
        let all = scene.strings(&mut redis).await;
        let strings: Vec<_> = all.iter().filter(|name| name.contains(&format!("}}:{generation}-"))).collect();
        assert!(says_no(&zm).await);
        let name = strings[which];
        let mut command = redis::cmd(words[0]);
        for &word in &words[1..] {
            command.arg(if word == "@" { name } else { word });
        }
        let _: redis::Value = command.query_async(&mut redis).await.unwrap();
        assert!(!says_no(&zm).await, "{words:?}");
        store(&zm, &format!("feed_new_{generation}")).await;
        built_after(&zm, generation).await;
        assert!(zm.db_hit(&format!("feed_new_{generation}")).await.unwrap());
    }
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_redis_that_is_flushed_gets_the_filter_again() {
    let mut scene = Scene::new().await;
    let server = RedisServer::start().await;
    scene.setup = scene.setup.with("redis_addr", server.addr.as_str());
    let zm = scene.open().await;
    let (mut redis, generation) = (redis_at(&server.addr).await, figures(&zm).generation);
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    assert!(!says_no(&zm).await);
    store(&zm, "feed_while_lost").await;
    built_after(&zm, generation).await;
    assert!(zm.db_hit("feed_while_lost").await.unwrap() && zm.db_hit("feed_1").await.unwrap());
    assert!(says_no(&zm).await);
    // What is retired goes away.
    until("one generation is left", async || scene.row("(retired IS NULL)::int").await == 1).await;
    zm.close().await.unwrap();
}

#[tokio::test]
async fn an_older_dump_is_not_believed() {
    let mut scene = Scene::new().await;
    let mut server = RedisServer::start_with(&["--appendonly", "no"]).await;
    scene.setup = scene.setup.with("redis_addr", server.addr.as_str());
    let zm = scene.open().await;
    let mut redis = redis_at(&server.addr).await;
    let () = redis::cmd("SAVE").query_async(&mut redis).await.unwrap();
    let generation = figures(&zm).generation;
    store(&zm, "feed_after_the_dump").await;
    server.kill();
    server.start_again().await;
    let mut redis = redis_at(&server.addr).await;
    assert_eq!(scene.strings(&mut redis).await.len(), 2, "the dump has the filter without the last key");
    until("the engine is connected again", async || zm.health().await.unwrap().ok).await;
    // A process without a copy of its own asks Redis.
    let other = scene.setup.open().await;
    declare(&other);
    for _ in 0..50 {
        assert!(other.db_hit("feed_after_the_dump").await.unwrap());
        assert!(!says_no(&other).await || figures(&other).generation > generation);
    }
    built_after(&zm, generation).await;
    serving(&other).await;
    assert!(other.db_hit("feed_after_the_dump").await.unwrap() && says_no(&other).await);
    other.close().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_is_left_of_a_lost_generation_goes_away() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let mut redis = shared_redis().await;
    let lost = scene.strings(&mut redis).await;
    // As after a restart with the data kept: it is the marker of another life of the server.
    let () = redis::cmd("APPEND").arg(&lost[0]).arg("x").query_async(&mut redis).await.unwrap();
    assert!(!says_no(&zm).await);
    built_after(&zm, 1).await;
    for name in &lost {
        until("its end is near", async || {
            let left: i64 = redis::cmd("PTTL").arg(name).query_async(&mut redis).await.unwrap();
            left != -1
        })
        .await;
    }
    assert!(!zm.db_hit("feed_nobody").await.unwrap(), "the new one answers");
    zm.close().await.unwrap();
}
