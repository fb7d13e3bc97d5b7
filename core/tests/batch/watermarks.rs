//! The row that says how far a journal is applied is put back, deleted or another database's, and journals that an
//! engine must not apply.

use std::process::{Command, Stdio};

use log::Level;
use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::sql::{params, sql};

use crate::logs;
use crate::scene::{Scene, accept, like, rounds};
use crate::support::engine::{Setup, until};
use crate::support::process::{Process, Start, answer, in_role, orders};
use crate::support::proxy::Proxy;

const SAVE: &str = "CREATE TABLE old_meta AS TABLE meta; CREATE TABLE old_journals AS TABLE zmsg_journals";
/// As a backup that is put back, as far as one database can play it.
const PUT_BACK: &str = "BEGIN; DELETE FROM meta; INSERT INTO meta SELECT * FROM old_meta; DELETE FROM zmsg_journals; \
     INSERT INTO zmsg_journals SELECT * FROM old_journals; COMMIT";

async fn flushed_likes(zm: &Zmsg, count: u32) {
    for _ in 0..count {
        accept(zm, like("f1")).await;
        zm.flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_is_put_back_gets_the_difference_once() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    flushed_likes(&zm, 3).await;
    scene.client.batch_execute(SAVE).await.unwrap();
    let mut expected = 3;
    for _ in 0..rounds(3, 20) {
        flushed_likes(&zm, 4).await;
        expected += 4;
        assert_eq!(scene.text("likes", "f1").await, Some(expected.to_string()));
        scene.client.batch_execute(PUT_BACK).await.unwrap();
        assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("3"));
        flushed_likes(&zm, 1).await;
        expected += 1;
        assert_eq!(scene.text("likes", "f1").await, Some(expected.to_string()));
    }
    zm.close().await.unwrap();
    assert_eq!((scene.journals(), scene.text("likes", "f1").await), (0, Some(expected.to_string())));
}

#[tokio::test]
async fn a_database_that_is_put_back_to_before_the_journal_gets_all_of_it_once() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    flushed_likes(&zm, 3).await;
    // A backup knows nothing of the journal, and draws the numbers that it had.
    let before = "BEGIN; UPDATE meta SET likes = 0; DELETE FROM zmsg_journals; SELECT setval('zmsg_ver', 1, false); COMMIT";
    scene.client.batch_execute(before).await.unwrap();
    flushed_likes(&zm, 1).await;
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("4"));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_difference_that_is_no_longer_kept_is_refused_loudly() {
    let scene = Scene::new().await;
    let setup = scene.with("journal_retain", "1ms").with("journal_max_bytes", 16 << 20).with("timeout", "2s");
    let zm = setup.open().await;
    scene.client.batch_execute("CREATE TABLE long (id int PRIMARY KEY, body text)").await.unwrap();
    flushed_likes(&zm, 1).await;
    scene.client.batch_execute(SAVE).await.unwrap();
    let body = "x".repeat(900_000);
    for _ in 0..8 {
        accept(&zm, sql("UPDATE long SET body = ?", params![body.as_str()]).unwrap()).await;
        flushed_likes(&zm, 1).await;
    }
    scene.client.batch_execute(PUT_BACK).await.unwrap();
    let receipt = accept(&zm, like("f2")).await;
    let error = zm.flush().await.unwrap_err();
    assert!(error.message().contains("cannot be applied again"), "{error}");
    assert_eq!(
        (scene.text("likes", "f1").await.as_deref(), scene.text("likes", "f2").await.as_deref()),
        (Some("1"), Some("0"))
    );
    zm.close().await.unwrap();
    assert_eq!(receipt.done().await.unwrap_err().code(), "closed");
    assert_eq!(scene.journals(), 1, "the journal is kept");
}

#[tokio::test]
async fn a_row_that_somebody_deleted_is_not_taken_for_an_empty_database() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    flushed_likes(&zm, 3).await;
    let (stream, watermark) = delete_row(&scene).await;
    let receipt = accept(&zm, like("f1")).await;
    let error = zm.flush().await.unwrap_err();
    assert!(error.message().contains("is missing in PostgreSQL"), "{error}");
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("3"));
    insert_row(&scene, &stream, watermark).await;
    zm.flush().await.unwrap();
    receipt.done().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("4"));
    zm.close().await.unwrap();
}

async fn delete_row(scene: &Scene) -> (String, i64) {
    let delete = "DELETE FROM zmsg_journals RETURNING stream::text, watermark";
    let row = scene.client.query_one(delete, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn insert_row(scene: &Scene, stream: &str, watermark: i64) {
    let insert = "INSERT INTO zmsg_journals (stream, watermark, owner) VALUES ($1::text::uuid, $2, 'test')";
    scene.client.execute(insert, &[&stream, &watermark]).await.unwrap();
}

#[tokio::test]
async fn a_dead_processs_journal_without_its_row_is_left_alone_until_the_row_is_back() {
    let scene = Scene::new().await;
    owner(&scene.setup).kill();
    let (stream, watermark) = delete_row(&scene).await;
    let zm = scene.open().await;
    until("it is refused", async || zm.stats().journals_refused == 1).await;
    assert!(logs::has(Level::Warn, &["zmsg_journals, and has none now", &stream.replace('-', "")]));
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("1"));
    insert_row(&scene, &stream, watermark).await;
    until("it is adopted", async || scene.journals() == 1).await;
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("3"));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_row_that_goes_away_before_the_first_flush_is_made_again() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    // The first flush makes the row, and is kept from moving it.
    let lock = "ALTER TABLE zmsg_journals ADD CONSTRAINT still CHECK (watermark = 0) NOT VALID";
    scene.client.batch_execute(lock).await.unwrap();
    let receipt = accept(&zm, like("f1")).await;
    zm.flush().await.unwrap_err();
    delete_row(&scene).await;
    scene.client.batch_execute("ALTER TABLE zmsg_journals DROP CONSTRAINT still").await.unwrap();
    zm.flush().await.unwrap();
    receipt.done().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("1"));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_is_made_anew_is_another_database() {
    let scene = Scene::new().await;
    let zm = scene.with("timeout", "3s").open().await;
    flushed_likes(&zm, 3).await;
    scene.client.batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    let receipt = accept(&zm, like("f1")).await;
    assert_eq!(zm.flush().await.unwrap_err().sqlstate(), Some("42P01"));
    // Another engine makes the tables; with our folder it would be refused.
    let other = scene.with("journal_dir", scene.journals.path().join("other").to_str().unwrap());
    let other = other.open().await;
    let table = "CREATE TABLE meta (id text PRIMARY KEY, likes bigint); INSERT INTO meta VALUES ('f1', 0)";
    scene.client.batch_execute(table).await.unwrap();
    let error = zm.flush().await.unwrap_err();
    assert!(error.message().contains("not the one that this engine was opened with"), "{error}");
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("0"));
    zm.close().await.unwrap();
    assert_eq!(receipt.done().await.unwrap_err().code(), "closed");
    other.close().await.unwrap();
    let error = scene.setup.try_open().await.err().expect("another database's journal is in the folder");
    assert!(error.code() == "config" && error.message().contains("another database"), "{error}");
}

#[tokio::test]
async fn another_databases_engine_refuses_the_folder_whether_its_owner_lives_or_not() {
    let (ours, theirs) = (Scene::new().await, Scene::new().await);
    let same_folder = theirs.with("journal_dir", ours.journals.path().join("journal").to_str().unwrap());
    let process = owner(&ours.setup);
    let refused = async || {
        let error = same_folder.try_open().await.err().expect("it is refused");
        assert!(error.code() == "config" && error.message().contains("another database"), "{error}");
    };
    refused().await;
    process.kill();
    refused().await;
    assert_eq!(ours.journals(), 1, "what the refused ones had made is removed");
    ours.adopt().await.close().await.unwrap();
    assert_eq!(ours.text("likes", "f1").await.as_deref(), Some("3"));
    assert_eq!(theirs.text("likes", "f1").await.as_deref(), Some("0"));
    same_folder.open().await.close().await.unwrap();
}

#[tokio::test]
async fn an_engine_that_starts_without_its_database_leaves_another_ones_folder_alone() {
    let (ours, theirs) = (Scene::new().await, Scene::new().await);
    let folder = ours.journals.path().join("journal");
    let degraded = |proxy: &Proxy| {
        let setup = theirs.with("journal_dir", folder.to_str().unwrap()).with("start_degraded", true);
        setup.with("connect_timeout", "500ms").postgres_behind(proxy, &theirs.database)
    };
    // Ours is there already.
    let production = ours.open().await;
    accept(&production, like("f1")).await;
    let proxy = Proxy::start(&theirs.database.dsn).await;
    proxy.down().await;
    let error = degraded(&proxy).try_open().await.err().expect("it is refused");
    assert!(error.code() == "config" && error.message().contains("another database"), "{error}");
    production.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_turns_out_to_be_of_no_use_is_said_to_be_and_nothing_is_accepted_for_it() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    proxy.down().await;
    let setup =
        scene.with("start_degraded", true).with("connect_timeout", "500ms").with("auto_migrate", false);
    let zm = setup.postgres_behind(&proxy, &scene.database).open().await;
    accept(&zm, like("f1")).await;
    proxy.up().await;
    // Its tables are not there, and may not be made.
    until("health says so", async || {
        let health = zm.health().await.unwrap();
        health
            .tiers
            .iter()
            .any(|tier| tier.error.as_ref().is_some_and(|error| error.contains("auto_migrate")))
    })
    .await;
    let error = zm.periodic_now(None, &[like("f1")], &WriteOptions::default()).expect_err("it is refused");
    assert!(error.code() == "config" && error.message().contains("auto_migrate"), "{error}");
    zm.close().await.unwrap();
    assert_eq!(scene.journals(), 1, "what was acknowledged before is kept");
}

#[tokio::test]
async fn a_copy_of_the_database_is_another_database() {
    let mut scene = Scene::new().await;
    owner(&scene.setup).kill();
    let copy = scene.database.copy().await;
    let on_copy = scene.with("postgres_dsn", copy.dsn.as_str());
    let error = on_copy.try_open().await.err().expect("the folder holds the original's journal");
    assert!(error.code() == "config" && error.message().contains("another database"), "{error}");
    scene.client = scene.database.client().await;
    scene.adopt().await.close().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("3"));
    let rows = copy.client().await.query_one("SELECT likes FROM meta WHERE id = 'f1'", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 1, "what was flushed before the copy, and no more");
}

#[tokio::test]
async fn a_child_that_outlives_its_parent_keeps_no_journal_from_being_adopted() {
    let scene = Scene::new().await;
    let mut process = owner(&scene.setup);
    let child: u32 = process.ask("child").parse().unwrap();
    process.kill();
    let (one, other) = tokio::join!(scene.open(), scene.open());
    let adopted = || one.stats().journals_adopted + other.stats().journals_adopted;
    until("it is adopted", async || scene.journals() == 2 && adopted() > 0).await;
    assert_eq!(adopted(), 1);
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("3"));
    crate::support::process::send(child, rustix::process::Signal::KILL);
    one.close().await.unwrap();
    other.close().await.unwrap();
}

const OWNER: &str = "watermarks::is_an_owner";
const SETUP: &str = "ZMSG_TEST_SETUP";

/// A process with one like flushed and two in its journal.
pub fn owner(setup: &Setup) -> Process {
    let mut process = Start::role(OWNER).with(SETUP, setup.text()).start();
    assert_eq!(process.answer(), "ready");
    process
}

/// Not a test: the process itself.
#[tokio::test]
#[allow(clippy::zombie_processes, reason = "this process is killed, and its child is meant to outlive it")]
async fn is_an_owner() {
    if !in_role(OWNER) {
        return;
    }
    let zm = Setup::parse(&std::env::var(SETUP).unwrap()).open().await;
    flushed_likes(&zm, 1).await;
    for _ in 0..2 {
        zm.cache_and_periodic_store(None, None, like("f1"), WriteOptions::default()).await.unwrap();
    }
    answer("ready");
    for _ in orders() {
        #[expect(clippy::zombie_processes, reason = "it outlives this process, which is the point")]
        let child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        answer(&child.id().to_string());
    }
}
