//! What did not go as it should is made up for, in every process.

use zmsg_core::engine::{DelayOptions, WriteOptions, Zmsg};
use zmsg_core::error::ErrorKind;
use zmsg_core::value::Value;

use crate::scene::{Scene, declare, put, some, write};
use crate::sees;
use crate::support::engine::{Setup, until};
use crate::support::proxy::{Action, Proxy, commit};
use crate::support::servers::RedisServer;
use crate::support::{queue_addr, redis_addr, task};

async fn opened(setup: &Setup) -> Zmsg {
    let zmsg = setup.open().await;
    declare(&zmsg);
    zmsg
}

/// Both have what the row has in memory.
async fn hold(engines: &[&Zmsg], key: &str, content: &str) {
    for zmsg in engines {
        until("it to be held", async || {
            zmsg.get(key).await.unwrap();
            zmsg.peek(key).unwrap() == some(content)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_write_that_runs_at_once_ends_what_another_process_holds() {
    let mut queue = RedisServer::start().await;
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("addr", queue.addr.as_str()).with_queue("fallback", "sync");
    let setup = setup.with("redis_timeout", "300ms");
    let (one, two) = (opened(&setup).await, opened(&setup).await);
    queue.kill();
    let keys = ["feed_1", "feed_2", "feed_3", "feed_4"];
    for key in keys {
        write(&one, key, "old").await.unwrap();
        hold(&[&one, &two], key, "old").await;
    }
    let named = DelayOptions {
        write: WriteOptions { invalidates: vec![keys[3].to_owned()], ..WriteOptions::default() },
        ..DelayOptions::default()
    };
    let plain = DelayOptions::default;
    let with_value = one.cache_and_delay_store(Some(keys[0]), some("value"), put(keys[0], "new"), plain());
    assert_eq!(with_value.await.unwrap().durability, "postgres", "it is committed");
    sees(&two, keys[0], "old", Some("value")).await;
    one.cache_and_delay_store(Some(keys[1]), None, put(keys[1], "new"), plain()).await.unwrap();
    one.del_delay_store(Some(keys[2]), put(keys[2], "new"), plain()).await.unwrap();
    one.cache_and_delay_store(None, None, put(keys[3], "new"), named).await.unwrap();
    for key in &keys[1..] {
        assert_eq!(one.get(key).await.unwrap(), some("new"), "{key}");
        sees(&two, key, "old", Some("new")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_value_of_an_aggregated_write_that_was_refused_is_gone_everywhere() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    write(&one, "feed_1", "row").await.unwrap();
    let refused = task("UPDATE feeds SET content = NULL WHERE id = ?", &[Value::text("feed_1")]);
    let receipt = one
        .cache_and_periodic_store(Some("feed_1"), some("accepted"), refused, WriteOptions::default())
        .await
        .unwrap();
    hold(&[&one, &two], "feed_1", "accepted").await;
    one.flush().await.unwrap();
    assert_eq!(receipt.done().await.unwrap_err().sqlstate(), Some("23502"));
    assert_eq!(one.get("feed_1").await.unwrap(), some("row"));
    sees(&two, "feed_1", "accepted", Some("row")).await;
    assert_eq!(scene.redis_view().await.get("feed_1").await.unwrap(), some("row"));
}

/// Without the fence, which Redis may lose as any key, the old row is read and cached before the COMMIT; what was to drop
/// it afterwards never arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_could_not_be_lifted_is_made_up_for_by_the_outbox() {
    let scene = Scene::new().await;
    let redis = Proxy::to_redis(&redis_addr()).await;
    let postgres = Proxy::start(&scene.database.dsn).await;
    let setup = scene.setup.clone().with("redis_timeout", "200ms");
    let well = opened(&setup).await;
    let cut = opened(&setup.redis_behind(&redis).postgres_behind(&postgres, &scene.database)).await;
    write(&well, "feed_1", "old").await.unwrap();
    let held_up = postgres.rule(commit(), Action::Hold);
    let writing = tokio::spawn({
        let cut = cut.clone();
        async move { write(&cut, "feed_1", "new").await }
    });
    held_up.fired().await;
    scene.forget_in_redis("feed_1").await;
    hold(&[&well], "feed_1", "old").await;
    redis.down().await;
    held_up.release();
    let receipt = writing.await.unwrap().unwrap();
    assert!(!receipt.cached);
    sees(&well, "feed_1", "old", Some("new")).await;
    assert_eq!(scene.redis_view().await.get("feed_1").await.unwrap(), some("new"));
    assert!(well.stats().outbox_relayed >= 1);
    redis.up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_write_that_may_not_run_at_once_says_what_the_queue_said() {
    let scene = Scene::new().await;
    let (redis, queue) = (Proxy::to_redis(&redis_addr()).await, Proxy::to_redis(&queue_addr()).await);
    let setup = scene.setup.clone().with_queue("fallback", "sync").with("on_cache_down", "strict");
    let setup = setup.with("redis_timeout", "300ms").redis_behind(&redis).queue_behind(&queue);
    let zmsg = opened(&setup).await;
    redis.down().await;
    queue.down().await;
    let soon = DelayOptions { op_id: Some("mine".to_owned()), ..DelayOptions::default() };
    let refused = zmsg.cache_and_delay_store(Some("feed_1"), None, put("feed_1", "new"), soon).await;
    let error = refused.map(|_| ()).unwrap_err();
    // Not of the caches: the queue may have it all the same, and a call with the same name finds out.
    assert_eq!((error.kind(), error.op_id()), (ErrorKind::Queue, Some("mine")), "{error}");
    assert_eq!(scene.row("feed_1").await, None);
}
