//! How often a writer reads which filters there are, where there are none, and that it knows in time of the first one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join;

use crate::scene::{Scene, declare, serving, store};
use crate::support::proxy::{Action, Kind, Proxy, from_client};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_has_a_filter_that_is_read_rarely() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let reading = from_client(Kind::Execute).containing("JOIN zmsg_bloom").each();
    let read = proxy.rule(reading, Action::Delay(Duration::ZERO));
    let zm = scene.setup.clone().postgres_behind(&proxy, &scene.database).open().await;
    let started = Instant::now();
    // The first one is what the first write waits for.
    while read.times() < 1 + 3 {
        store(&zm, "feed_1").await;
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(3 * 1_200), "three more readings in {took:?}");
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_knows_of_the_first_filter_before_it_answers() {
    let scene = Scene::new().await;
    let (writer, zm) = (scene.setup.open().await, scene.setup.open().await);
    let done = AtomicBool::new(false);
    let writing = async {
        let mut written = 0;
        while !done.load(Ordering::Relaxed) {
            store(&writer, &format!("feed_new_{written}")).await;
            written += 1;
        }
        written
    };
    let building = async {
        declare(&zm);
        serving(&zm).await;
        done.store(true, Ordering::Relaxed);
    };
    let (written, ()) = join(writing, building).await;
    for at in 0..written {
        assert!(zm.db_hit(&format!("feed_new_{at}")).await.unwrap(), "{at} of {written}");
    }
    assert!(!zm.db_hit("feed_nobody").await.unwrap(), "it answers");
}
