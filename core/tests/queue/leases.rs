//! Leases of which somebody does not hear: Redis has given them, or has not been told that they are begun.

use std::time::Duration;

use zmsg_core::engine::Zmsg;

use crate::scene::{Scene, after, effect};
use crate::support::engine::{until, within};
use crate::support::proxy::{Action, Kind, Proxy, Rule, Trigger, from_client, from_server};
use crate::support::queue_addr;

/// A worker behind a proxy that cuts the connection at each such message, and an engine that accepts.
async fn behind(scene: &Scene, trigger: Trigger) -> (Zmsg, Zmsg, Rule) {
    let proxy = Proxy::to_redis(&queue_addr()).await;
    let rule = proxy.rule(trigger.each(), Action::Close);
    let setup = scene.setup.clone().with_queue("lease", "1s");
    let api = setup.clone().with_queue("worker", false).open().await;
    let worker = setup.with_queue("addr", proxy.address.to_string().as_str()).open().await;
    (api, worker, rule)
}

#[tokio::test]
async fn a_lease_whose_answer_is_lost_is_not_the_fault_of_the_write() {
    let scene = Scene::new().await;
    let (api, worker, rule) = behind(&scene, from_server(Kind::Reply).containing("some effect")).await;
    let task = effect("k", "some effect");
    let receipt = api.cache_and_delay_store(Some("k"), None, task, after(0)).await.unwrap();
    until("its answer is lost again and again", async || rule.times() >= 4).await;
    rule.cancel();
    within(Duration::from_secs(5), "the write", receipt.done()).await.unwrap();
    assert_eq!((scene.effects(None).await.len(), scene.count("zmsg_dead").await), (1, 0));
    for zm in [worker, api] {
        zm.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_redis_is_not_told_to_be_begun_does_not_run() {
    let scene = Scene::new().await;
    // Of the messages of a worker only those about its leases name a write.
    let (api, worker, rule) = behind(&scene, from_client(Kind::Command).containing("the-write")).await;
    let mut options = after(0);
    options.op_id = Some("the-write".to_owned());
    let receipt = api.cache_and_delay_store(Some("k"), None, effect("k", "a"), options).await.unwrap();
    until("it is told in vain", async || rule.times() >= 8).await;
    assert_eq!((scene.count("zmsg_done").await, scene.effects(None).await.len()), (0, 0));
    rule.cancel();
    within(Duration::from_secs(5), "the write", receipt.done()).await.unwrap();
    assert_eq!((scene.effects(None).await.len(), scene.count("zmsg_dead").await), (1, 0));
    for zm in [worker, api] {
        zm.close().await.unwrap();
    }
}
