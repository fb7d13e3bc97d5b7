//! A Redis Cluster of three nodes: all of a family's filter is in one slot of it.

use crate::scene::{Scene, declare, serving, store};
use crate::support::engine::until;
use crate::support::servers::RedisCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_works_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    let scene = Scene::new().await;
    // Several chunks.
    let setup = scene.setup.clone().with("redis_addr", cluster.addrs()).with("bloom_capacity", 200_000);
    let mut opened = None;
    until("the nodes know each other", async || {
        opened = setup.try_open().await.ok();
        opened.is_some()
    })
    .await;
    let zm = opened.unwrap();
    declare(&zm);
    serving(&zm).await;
    for n in 0..300 {
        assert!(zm.db_hit(&format!("feed_{}", n + 1)).await.unwrap());
        let key = format!("feed_new_{n}");
        if n % 30 == 0 {
            store(&zm, &key).await;
            assert!(zm.db_hit(&key).await.unwrap());
        }
    }
    let keys: Vec<String> = (0..300).map(|n| format!("feed_no_{n}")).collect();
    assert!(zm.get_many(&keys).await.unwrap().iter().all(Option::is_none));
    assert!(zm.stats().source_loads < 20);
    zm.close().await.unwrap();
}
