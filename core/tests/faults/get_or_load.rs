//! Loads by a function of the caller's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use zmsg_core::config::Ttl;
use zmsg_core::engine::{Begun, LoadGuard, LoadOptions, WriteOptions, Zmsg};
use zmsg_core::error::{Error, ErrorKind, Result};

use crate::scene::{Scene, some, text};
use crate::support::engine::until;

/// A loader that counts its runs and waits at a gate.
#[derive(Clone)]
struct Loads {
    begun: Arc<AtomicU32>,
    gate: Arc<Semaphore>,
}

impl Loads {
    fn new() -> Loads {
        Loads { begun: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn open(&self) {
        self.gate.add_permits(1_000);
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }

    async fn run(self, result: Result<Option<Bytes>>) -> Result<Option<Bytes>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        result
    }

    fn getting(&self, zmsg: &Zmsg, key: &'static str, result: Result<Option<Bytes>>) -> Getting {
        let (zmsg, loads) = (zmsg.clone(), self.clone());
        tokio::spawn(async move { zmsg.get_or_load(key, &options(), || loads.run(result)).await })
    }
}

type Getting = JoinHandle<Result<Option<Bytes>>>;

fn options() -> LoadOptions {
    LoadOptions::default()
}

fn brief() -> LoadOptions {
    LoadOptions {
        ttl: Some(Ttl::For(Duration::from_millis(20))),
        stale_ttl: Some(Duration::from_secs(60)),
        ..options()
    }
}

async fn duty(zmsg: &Zmsg, key: &str) -> LoadGuard {
    match zmsg.get_or_begin(key, &options()).await.unwrap() {
        Begun::Load(guard) => guard,
        Begun::Found(data) | Begun::Refresh(data, _) => panic!("it is there: {data:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_of_two_processes_cost_one_load() {
    let scene = Scene::new().await;
    let (zmsg, other) = (scene.redis_view().await, scene.redis_view().await);
    let loads = Loads::new();
    let mut callers: Vec<_> = (0..500).map(|_| loads.getting(&zmsg, "a", Ok(some("v")))).collect();
    callers.extend((0..500).map(|_| loads.getting(&other, "a", Ok(some("v")))));
    let joined = || zmsg.stats().joined_loads + other.stats().joined_loads;
    until("everybody to wait", async || joined() == 998 && loads.begun() == 1).await;
    until("one of them for the other process", async || {
        zmsg.stats().lease_waits + other.stats().lease_waits == 1
    })
    .await;
    loads.open();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), some("v"));
    }
    assert_eq!((loads.begun(), zmsg.stats().caller_loads + other.stats().caller_loads), (1, 1));
    assert_eq!((zmsg.peek("a").unwrap(), other.peek("a").unwrap()), (some("v"), some("v")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absence_is_loaded_once_and_ends_with_a_write() {
    let scene = Scene::new().await;
    let zmsg = scene.redis_view().await;
    assert_eq!(zmsg.get("a").await.unwrap(), None, "a plain read has no loader, and finds nothing");
    let loads = Loads::new();
    loads.open();
    for _ in 0..3 {
        assert_eq!(loads.getting(&zmsg, "a", Ok(None)).await.unwrap().unwrap(), None);
    }
    assert_eq!((loads.begun(), zmsg.peek_entry("a").unwrap()), (1, Some(None)));
    zmsg.cache_only("a", text("now"), WriteOptions::default()).await.unwrap();
    assert_eq!(loads.getting(&zmsg, "a", Ok(None)).await.unwrap().unwrap(), some("now"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_told_to_every_waiter_once_and_not_kept() {
    let scene = Scene::new().await;
    let zmsg = scene.redis_view().await;
    let loads = Loads::new();
    let failure = Error::new(ErrorKind::Store, "the shop is closed");
    let callers: Vec<_> = (0..10).map(|_| loads.getting(&zmsg, "a", Err(failure.clone()))).collect();
    until("everybody to wait", async || zmsg.stats().joined_loads == 9 && loads.begun() == 1).await;
    loads.open();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap_err().message(), "the shop is closed");
    }
    assert_eq!(loads.getting(&zmsg, "a", Ok(some("v"))).await.unwrap().unwrap(), some("v"), "at once");
    assert_eq!(loads.begun(), 2);
    let named = duty(&zmsg, "b").await;
    let error = named.failure("ValueError: no");
    assert_eq!(error.to_string(), "the loader of \"b\" failed: ValueError: no");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duty_that_was_dropped_goes_to_the_next_one_in_any_process() {
    let scene = Scene::new().await;
    let (zmsg, other) = (scene.redis_view().await, scene.redis_view().await);
    let loads = Loads::new();
    loads.open();
    let dropped = duty(&zmsg, "a").await;
    let callers = [&zmsg, &other].map(|engine| loads.getting(engine, "a", Ok(some("v"))));
    until("both to wait", async || zmsg.stats().joined_loads == 1 && other.stats().lease_waits == 1).await;
    assert_eq!(loads.begun(), 0);
    drop(dropped);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), some("v"));
    }
    assert_eq!(loads.begun(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_load_keeps_its_lease() {
    let scene = Scene::new().await;
    let setup = scene.setup.clone().with("lease_wait", "1s");
    let (zmsg, other) = (setup.open().await, setup.open().await);
    let guard = duty(&zmsg, "a").await;
    // Who waited in vain loads for itself, without the right to fill.
    let second = duty(&other, "a").await;
    assert_eq!(second.complete(some("not kept")).await, some("not kept"));
    assert_eq!(other.stats().fills_refused, 1);
    guard.complete(some("kept")).await;
    assert_eq!(other.get("a").await.unwrap(), some("kept"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_during_a_load_stays_also_by_the_loader_itself() {
    let scene = Scene::new().await;
    let (zmsg, other) = (scene.redis_view().await, scene.redis_view().await);
    let writer = zmsg.clone();
    let load = || async move {
        writer.cache_only("a", text("written"), WriteOptions::default()).await?;
        Ok(some("loaded"))
    };
    assert_eq!(zmsg.get_or_load("a", &options(), load).await.unwrap(), some("loaded"));
    assert_eq!(
        (zmsg.get("a").await.unwrap(), other.get("a").await.unwrap()),
        (some("written"), some("written"))
    );

    let guard = duty(&zmsg, "b").await;
    other.cache_only("b", text("written"), WriteOptions::default()).await.unwrap();
    guard.complete(some("loaded")).await;
    assert_eq!(
        (zmsg.get("b").await.unwrap(), other.get("b").await.unwrap()),
        (some("written"), some("written"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_that_fails_or_takes_long_is_covered_by_the_last_good_value() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("l1_max_cost", 0).open().await;
    let give = |data: &'static str| move || async move { Ok(some(data)) };
    assert_eq!(zmsg.get_or_load("a", &brief(), give("old")).await.unwrap(), some("old"));
    tokio::time::sleep(Duration::from_millis(40)).await;
    let fail = || async { Err(Error::new(ErrorKind::Store, "down")) };
    assert_eq!(zmsg.get_or_load("a", &brief(), fail).await.unwrap(), some("old"));
    assert!(zmsg.get_or_load("b", &brief(), fail).await.is_err());

    let (loads, soft) = (Loads::new(), Some(Duration::from_millis(30)));
    let softly = LoadOptions { soft_timeout: soft, ..brief() };
    let slow = loads.clone().run(Ok(some("new")));
    assert_eq!(zmsg.get_or_load("a", &softly, || slow).await.unwrap(), some("old"));
    loads.open();
    until("the load to have filled", async || zmsg.stats().cache_fills == 2).await;
    assert_eq!(zmsg.stats().stale_served, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_ends_soon_is_the_duty_of_one_caller_while_all_have_it() {
    let scene = Scene::new().await;
    let zmsg = scene.setup.clone().with("l1_max_cost", 0).with("refresh_ahead", 0.9).open().await;
    let ten = LoadOptions { ttl: Some(Ttl::For(Duration::from_secs(10))), ..options() };
    duty(&zmsg, "a").await.complete(some("never fresh for long")).await;
    zmsg.del("a").await.unwrap();
    zmsg.get_or_load("a", &ten, || async { Ok(some("old")) }).await.unwrap();
    let mut duty = None;
    until("it to end soon", async || {
        match zmsg.get_or_begin("a", &ten).await.unwrap() {
            Begun::Found(data) => assert_eq!(data, some("old")),
            Begun::Refresh(data, guard) => {
                assert_eq!(data, some("old"));
                duty = Some(guard);
            }
            Begun::Load(_) => panic!("it has ended"),
        }
        duty.is_some()
    })
    .await;
    for _ in 0..100 {
        let begun = zmsg.get_or_begin("a", &ten).await.unwrap();
        assert!(matches!(begun, Begun::Found(data) if data == some("old")));
    }
    duty.unwrap().complete(some("new")).await;
    assert_eq!(zmsg.get("a").await.unwrap(), some("new"));
    assert_eq!(zmsg.stats().refreshes, 1);
}
