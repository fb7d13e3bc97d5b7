//! Locks among processes: one holder, tokens that grow, and what becomes of a lock whose holder is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use zmsg_core::engine::{LockOptions, Zmsg};
use zmsg_core::error::ErrorKind;

use crate::scene::Scene;
use crate::support::engine::{Setup, until};
use crate::support::process::{Start, answer, in_role, orders};
use crate::support::proxy::Proxy;
use crate::support::redis_addr;

const SETUP: &str = "ZMSG_TEST_SETUP";

fn for_up_to(ttl_ms: u64, wait_ms: u64) -> LockOptions {
    LockOptions { ttl: Some(Duration::from_millis(ttl_ms)), wait: Some(Duration::from_millis(wait_ms)) }
}

async fn is_free(zmsg: &Zmsg, name: &str) -> bool {
    zmsg.lock(name, for_up_to(1_000, 0)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_holds_a_lock_and_tokens_grow() {
    let scene = Scene::new().await;
    let engines = [scene.engine().await, scene.engine().await];
    let (inside, last) = (AtomicU64::new(0), AtomicU64::new(0));
    join_all((0..20).map(|n| {
        let (zmsg, inside, last) = (&engines[n % 2], &inside, &last);
        async move {
            let lock = zmsg.lock("x", for_up_to(5_000, 20_000)).await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
            assert!(last.swap(lock.token(), Ordering::SeqCst) < lock.token());
            tokio::task::yield_now().await;
            assert!(lock.is_held() && lock.extend().await.unwrap());
            inside.fetch_sub(1, Ordering::SeqCst);
            assert!(lock.release().await.unwrap());
            assert!(!lock.is_held() && !lock.release().await.unwrap());
        }
    }))
    .await;
    let _held = engines[0].lock("x", for_up_to(5_000, 0)).await.unwrap();
    let refused = engines[1].lock("x", for_up_to(5_000, 0)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    assert!(is_free(&engines[1], "another").await);
    for (name, ttl) in [("", 1_000), ("x", 99), ("x", 86_400_001)] {
        let refused = engines[0].lock(name, for_up_to(ttl, 0)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Task, "{name:?} {ttl}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_kept_beyond_its_ttl_and_free_once_dropped_or_closed() {
    let scene = Scene::new().await;
    let (one, two) = (scene.engine().await, scene.engine().await);
    let lock = one.lock("x", for_up_to(200, 0)).await.unwrap();
    let until_ms = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until_ms {
        assert!(!is_free(&two, "x").await && lock.is_held());
    }
    drop(lock);
    until("it to be given back", async || is_free(&two, "x").await).await;
    let lock = one.lock("y", for_up_to(60_000, 0)).await.unwrap();
    one.close().await.unwrap();
    lock.lost().await;
    assert!(is_free(&two, "y").await);
    // Whoever stops waiting gets none.
    let held = two.lock("z", for_up_to(60_000, 0)).await.unwrap();
    let three = scene.engine().await;
    let waiting = tokio::spawn({
        let three = three.clone();
        async move { three.lock("z", for_up_to(60_000, 20_000)).await.map(drop) }
    });
    waiting.abort();
    let _ = waiting.await;
    held.release().await.unwrap();
    until("z to be free", async || is_free(&two, "z").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_extend_is_told_and_gives_nothing_back_that_is_another_ones() {
    let scene = Scene::new().await;
    let proxy = Proxy::to_redis(&redis_addr()).await;
    let cut = scene.setup.clone().with("redis_timeout", "200ms").redis_behind(&proxy).open().await;
    let well = scene.engine().await;
    let lock = cut.lock("x", for_up_to(300, 0)).await.unwrap();
    proxy.down().await;
    lock.lost().await;
    assert!(!lock.is_held());
    let next = well.lock("x", for_up_to(60_000, 10_000)).await.unwrap();
    assert!(next.token() > lock.token());
    proxy.up().await;
    assert!(!lock.release().await.unwrap(), "late");
    assert!(!is_free(&well, "x").await && next.extend().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_a_killed_process_is_free_after_its_ttl() {
    let scene = Scene::new().await;
    let mut holder = Start::role("locks::is_a_holder").with(SETUP, scene.setup.text()).start();
    let token: u64 = tokio::task::block_in_place(|| holder.answer()).parse().unwrap();
    let one = scene.engine().await;
    assert!(!is_free(&one, "x").await);
    holder.kill();
    let killed = Instant::now();
    let lock = one.lock("x", for_up_to(1_000, 20_000)).await.unwrap();
    assert!(lock.token() > token);
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_for_too_long_finds_its_lock_lost() {
    let scene = Scene::new().await;
    let mut holder = Start::role("locks::is_a_holder").with(SETUP, scene.setup.text()).start();
    let token: u64 = tokio::task::block_in_place(|| holder.answer()).parse().unwrap();
    let one = scene.engine().await;
    tokio::task::block_in_place(|| holder.stop());
    let lock = one.lock("x", for_up_to(60_000, 20_000)).await.unwrap();
    assert!(lock.token() > token);
    holder.go_on();
    // The first thing that it asks itself, before anything could have told it.
    assert_eq!(tokio::task::block_in_place(|| holder.ask("held?")), "false");
    assert_eq!(tokio::task::block_in_place(|| holder.ask("release")), "false");
    assert!(lock.is_held() && !is_free(&one, "x").await);
}

/// A process that holds a lock until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_a_holder() {
    if !in_role("locks::is_a_holder") {
        return;
    }
    let zmsg = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
    let lock = zmsg.lock("x", for_up_to(1_000, 0)).await.unwrap();
    answer(&lock.token().to_string());
    for order in orders() {
        let told = if order == "release" { lock.release().await.unwrap() } else { lock.is_held() };
        answer(&told.to_string());
    }
}
