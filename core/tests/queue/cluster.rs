//! A Redis Cluster of three nodes: all of a queue is in one slot of it.

use zmsg_core::engine::Cancelled;

use crate::crashes::empty;
use crate::scene::{Scene, accept, after, effect};
use crate::support::engine::until;
use crate::support::servers::RedisCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_runs_on_a_cluster() {
    let cluster = RedisCluster::start_with(&["--appendonly", "yes"]).await;
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with_queue("addr", cluster.addrs());
    let mut opened = None;
    until("the nodes know each other", async || {
        opened = setup.try_open().await.ok();
        opened.is_some()
    })
    .await;
    let zm = opened.unwrap();
    until("the cluster serves", async || zm.resume_queue().await.is_ok()).await;
    assert_eq!(accept(&zm, "k", "0").await.durability, "redis_aof");
    for n in 1..200 {
        accept(&zm, &format!("k{}", n % 9), &n.to_string()).await;
    }
    let taken_back =
        zm.cache_and_delay_store(Some("later"), None, effect("later", "x"), after(60_000)).await.unwrap();
    assert_eq!(zm.cancel_delayed(&taken_back.op_id()).await.unwrap(), Cancelled::Yes);
    empty(&zm).await;
    assert_eq!(scene.count("effects").await, 200);
    for key in 0..9 {
        let effects = scene.effects(Some(&format!("k{key}"))).await;
        let numbers: Vec<u32> = effects.iter().map(|it| it.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    zm.close().await.unwrap();
}
