//! Where the journal ends: no room, no disk, damage, and what each class keeps.

use std::path::PathBuf;
use std::time::Duration;

use log::Level;
use rustix::process::{Resource, getrlimit, setrlimit};
use zmsg_core::engine::{Receipt, WriteOptions, Zmsg};
use zmsg_core::error::Result;
use zmsg_core::sql::{Task, params, sql};

use crate::logs;
use crate::scene::{Scene, accept, like, rounds};
use crate::support::engine::{Setup, until, within};
use crate::support::process::{Start, answer, in_role, orders};
use crate::support::proxy::Proxy;
use crate::{watermarks, writer};

const JOURNAL_BYTES: u64 = 16 << 20;
/// Where records begin in a segment.
const RECORDS: usize = 1024;

/// A like and a long statement in one record; of the statements the last one counts, so that they take no memory.
fn long() -> Vec<Task> {
    let body = "x".repeat(250_000);
    let long = sql("UPDATE meta SET price = length(?) WHERE id = 'f2'", params![body.as_str()]).unwrap();
    vec![like("f1"), long.with_batch_key("long")]
}

async fn try_accept(zm: &Zmsg) -> Result<Receipt> {
    zm.cache_and_periodic_store(None, None, long(), WriteOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_journal_makes_callers_wait_and_goes_on_by_itself() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let setup = scene.with("journal_max_bytes", JOURNAL_BYTES).with("overload_timeout", "20ms");
    let zm = setup.postgres_behind(&proxy, &scene.database).open().await;
    let mut accepted = 0;
    for round in 0..rounds(2, 20) {
        proxy.down().await;
        let error = loop {
            match try_accept(&zm).await {
                Ok(_) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), "overloaded", "{error}");
        let stats = zm.stats();
        assert!(stats.journal_bytes <= JOURNAL_BYTES && stats.pending_bytes < 1 << 20, "{stats:?}");
        assert!(stats.batch_overloads > u64::from(round), "{stats:?}");
        proxy.up().await;
        let mut last = None;
        until("there is room again", async || {
            last = try_accept(&zm).await.ok().or(last.take());
            accepted += i32::from(last.is_some());
            last.is_some()
        })
        .await;
        zm.flush().await.unwrap();
        last.unwrap().done().await.unwrap();
        assert_eq!(scene.text("likes", "f1").await, Some(accepted.to_string()));
    }
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_waits_for_room_gets_it_with_the_flush_that_makes_it() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let setup = scene.with("journal_max_bytes", JOURNAL_BYTES).with("overload_timeout", "20s");
    let zm = setup.postgres_behind(&proxy, &scene.database).open().await;
    proxy.down().await;
    let (caller, mut accepted) = (zm.clone(), 0);
    let filling = tokio::spawn(async move {
        for _ in 0..100 {
            try_accept(&caller).await.unwrap();
        }
    });
    until("a caller waits", async || zm.stats().batch_waits > 0).await;
    accepted += 100;
    proxy.up().await;
    within(Duration::from_secs(15), "waiting for room", filling).await.unwrap();
    zm.flush().await.unwrap();
    assert_eq!(
        (scene.text("likes", "f1").await, zm.stats().batch_overloads),
        (Some(accepted.to_string()), 0)
    );
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_not_tried_for_every_like() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let zm = scene.with("batch_size", 1).postgres_behind(&proxy, &scene.database).open().await;
    proxy.down().await;
    let started = std::time::Instant::now();
    let mut accepted = 0;
    while started.elapsed() < Duration::from_millis(500) {
        accept(&zm, like("f1")).await;
        accepted += 1;
        tokio::task::yield_now().await;
    }
    let tries = zm.stats().flush_failures;
    assert!((1..=12).contains(&tries), "{tries} tries in half a second, for {accepted} likes");
    proxy.up().await;
    // Whoever asks for a flush is not made to wait.
    within(Duration::from_secs(2), "a flush", zm.flush()).await.unwrap();
    assert_eq!(scene.text("likes", "f1").await, Some(accepted.to_string()));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_an_error_that_says_what_to_set() {
    let scene = Scene::new().await;
    let file = scene.journals.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    for dir in [file.join("journal"), PathBuf::from("/proc/zmsg")] {
        let error = scene.with("journal_dir", dir.to_str().unwrap()).try_open().await.err().expect("refused");
        let says = error.message().contains("set journal_dir or journal: memory");
        assert!(error.code() == "config" && says, "{error}");
    }
    let memory = scene.with("journal_dir", "/proc/zmsg").with("journal", "memory").open().await;
    assert_eq!(accept(&memory, like("f1")).await.durability, "memory");
    memory.close().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("1"));
}

const LIMITED: &str = "bounds::is_limited";
const SETUP: &str = "ZMSG_TEST_SETUP";

#[tokio::test]
async fn a_disk_that_gives_no_more_refuses_and_loses_nothing_of_what_it_gave() {
    let scene = Scene::new().await;
    let setup = scene.with("journal_max_bytes", JOURNAL_BYTES).with("overload_timeout", "20ms");
    let mut process = Start::role(LIMITED).with(SETUP, setup.text()).with_files_up_to(512).start();
    assert_eq!(process.answer(), "overloaded", "there is no room for the first segment");
    assert_eq!(process.ask("raise"), "20", "accepted after that");
    process.close();
    assert_eq!((scene.text("likes", "f1").await.as_deref(), scene.journals()), (Some("20"), 0));
}

/// Not a test: the process itself.
#[tokio::test]
async fn is_limited() {
    if !in_role(LIMITED) {
        return;
    }
    let zm = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
    answer(try_accept(&zm).await.expect_err("no room").code());
    orders().next().unwrap();
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
    for _ in 0..20 {
        try_accept(&zm).await.unwrap();
    }
    zm.close().await.unwrap();
    answer("20");
    orders().for_each(drop);
}

/// The only segment of the only journal.
fn segment(scene: &Scene) -> PathBuf {
    let mut streams = std::fs::read_dir(scene.journals.path().join("journal")).unwrap();
    streams.next().expect("a journal").unwrap().path().join("00000000.seg")
}

#[tokio::test]
async fn a_damaged_journal_is_kept_and_refused() {
    let scene = Scene::new().await;
    watermarks::owner(&scene.setup).kill();
    let segment = segment(&scene);
    let whole = std::fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    damaged[RECORDS + 20] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let zm = scene.open().await;
    until("it is refused", async || zm.stats().journals_refused == 1).await;
    let stream = segment.parent().unwrap().to_str().unwrap().to_owned();
    assert!(logs::has(Level::Warn, &[&stream, "it is damaged"]));
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("1"));
    zm.close().await.unwrap();
    assert!(std::fs::read(&segment).unwrap() == damaged, "it is as it was");
    // Whoever mends it gets what is in it.
    std::fs::write(&segment, &whole).unwrap();
    scene.adopt().await.close().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn of_a_journal_that_was_cut_at_its_tail_the_rest_is_applied() {
    let scene = Scene::new().await;
    watermarks::owner(&scene.setup).kill();
    let segment = segment(&scene);
    let mut cut = std::fs::read(&segment).unwrap();
    let last = cut.iter().rposition(|byte| *byte != 0).unwrap();
    cut[last - 3..=last].fill(0);
    std::fs::write(&segment, &cut).unwrap();
    let zm = scene.adopt().await;
    until("it is counted", async || zm.stats().journals_adopted == 1).await;
    assert_eq!(zm.stats().journals_refused, 0);
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("2"), "without the like that was cut");
    zm.close().await.unwrap();
    assert_eq!((scene.journals(), scene.count("zmsg_journals").await), (0, 0));
}

#[tokio::test]
async fn the_class_that_syncs_acknowledges_what_any_death_leaves() {
    let scene = Scene::new().await;
    scene.client.batch_execute("CREATE TABLE long (id int, body text)").await.unwrap();
    let setup = scene.with("journal", "journal_fsync");
    let points = [("journal.after_append", 60), ("flush.after_commit", 2), ("journal.mid_retire", 1)];
    for (seed, (point, hit)) in (1..).zip(points) {
        let mut process = writer::start(&scene, &setup, point, seed, (point, hit));
        assert!(process.crashed(), "a process did not come to {point}");
        let zm = scene.adopt().await;
        scene.check_histories().await.unwrap_or_else(|wrong| panic!("{point}: {wrong:#?}"));
        zm.close().await.unwrap();
    }
    let zm = setup.open().await;
    let likes: Vec<_> = (0..50).map(|_| accept_owned(&zm)).collect();
    for receipt in futures_util::future::join_all(likes).await {
        assert_eq!(receipt.durability, "journal_fsync");
    }
    let before: i64 = scene.text("likes", "f9").await.unwrap().parse().unwrap();
    zm.close().await.unwrap();
    assert_eq!((before, scene.text("likes", "f9").await.as_deref()), (0, Some("50")));
}

async fn accept_owned(zm: &Zmsg) -> Receipt {
    accept(zm, like("f9")).await
}

#[tokio::test]
async fn the_class_that_keeps_nothing_says_what_it_lost() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let setup = scene.with("journal", "memory").with("timeout", "2s");
    let zm = setup.postgres_behind(&proxy, &scene.database).open().await;
    let first = accept(&zm, like("f1")).await;
    zm.flush().await.unwrap();
    first.done().await.unwrap();
    proxy.down().await;
    let mut receipts = Vec::new();
    for _ in 0..7_531 {
        receipts.push(accept(&zm, like("f1")).await);
    }
    within(Duration::from_secs(10), "closing", zm.close()).await.unwrap();
    for receipt in receipts {
        assert_eq!(receipt.done().await.unwrap_err().code(), "closed");
    }
    assert!(logs::has(Level::Error, &["7531 aggregated writes are lost (journal: memory)"]));
    assert_eq!((scene.text("likes", "f1").await.as_deref(), scene.journals()), (Some("1"), 0));
    assert_eq!(scene.count("zmsg_journals").await, 1, "which nobody could tell PostgreSQL");
    let zm = scene.with("journal", "memory").open().await;
    accept(&zm, like("f2")).await;
    zm.close().await.unwrap();
    assert_eq!(scene.count("zmsg_journals").await, 1, "and no further one");
    let zm = scene.open().await;
    let forgotten = accept(&zm, like("f2")).await;
    drop(zm);
    let told =
        within(Duration::from_secs(10), "the end of an engine that is dropped", forgotten.done()).await;
    assert_eq!(told.unwrap_err().code(), "closed");
}

#[tokio::test]
async fn a_record_that_can_never_fit_is_refused_for_good() {
    let scene = Scene::new().await;
    let zm = scene.with("journal_max_bytes", JOURNAL_BYTES).open().await;
    let body = "x".repeat(JOURNAL_BYTES as usize / 2);
    let task = sql("UPDATE meta SET extra = ? WHERE id = 'f1'", params![body.as_str()]).unwrap();
    let error = zm.cache_and_periodic_store(None, None, task, WriteOptions::default()).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("task", false), "{error}");
    assert!(error.message().contains("half of journal_max_bytes"), "{error}");
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_is_kept_although_it_is_applied_makes_room() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let setup = scene.with("journal_max_bytes", JOURNAL_BYTES).with("overload_timeout", "10ms");
    let zm = setup.postgres_behind(&proxy, &scene.database).open().await;
    // Two of them in a segment, eight segments in the journal.
    let body = "x".repeat(900_000);
    let long =
        || sql("UPDATE meta SET tags = to_jsonb(?::text) WHERE id = 'f1'", params![body.as_str()]).unwrap();
    for _ in 0..7 {
        accept(&zm, long()).await;
    }
    zm.flush().await.unwrap();
    assert!(zm.stats().journal_bytes > JOURNAL_BYTES / 3, "the last ten minutes are kept");
    proxy.down().await;
    let mut accepted = 0;
    while zm.cache_and_periodic_store(None, None, long(), WriteOptions::default()).await.is_ok() {
        accepted += 1;
    }
    assert!((13..=16).contains(&accepted), "{accepted}");
    proxy.up().await;
    zm.flush().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_time_that_is_over_before_the_disk_has_an_operation_leaves_it_in_doubt() {
    let scene = Scene::new().await;
    let zm = scene.with("journal", "journal_fsync").open().await;
    let hasty = zm.with_timeout(Some(Duration::from_nanos(1)));
    // Who wins is the disk's business.
    for n in 1..=200 {
        match hasty.cache_and_periodic_store(None, None, like("f1"), WriteOptions::default()).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!((error.code(), error.retryable()), ("commit_unknown", false), "{error}");
                assert!(error.op_id().is_some_and(|id| id.ends_with(&format!("-{n}"))), "{error:?}");
            }
        }
    }
    zm.flush().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("200"));
    zm.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_that_nobody_will_apply_while_the_engine_closes() {
    let scene = Scene::new().await;
    let other = scene.open().await;
    accept(&other, like("f2")).await;
    let mut accepted = 0;
    for _ in 0..rounds(30, 1_000) {
        let zm = scene.open().await;
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let zm = zm.clone();
                tokio::spawn(async move {
                    let mut accepted = 0;
                    while zm
                        .cache_and_periodic_store(None, None, like("f1"), WriteOptions::default())
                        .await
                        .is_ok()
                    {
                        accepted += 1;
                    }
                    accepted
                })
            })
            .collect();
        tokio::task::yield_now().await;
        zm.close().await.unwrap();
        for caller in callers {
            accepted += caller.await.unwrap();
        }
        assert_eq!(scene.text("likes", "f1").await, Some(accepted.to_string()));
        assert_eq!(scene.journals(), 1, "only that of the engine that is open");
    }
    other.close().await.unwrap();
}
