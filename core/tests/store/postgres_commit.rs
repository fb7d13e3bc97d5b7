//! Around COMMIT: nothing is guessed, nothing happens twice.

use std::sync::Arc;
use std::time::Duration;

use zmsg_core::base::Deadline;
use zmsg_core::error::ErrorKind;
use zmsg_core::store::postgres::PostgresStore;
use zmsg_core::store::{NoHooks, Store};
use zmsg_core::value::Value;

use crate::hooks::Recorder;
use crate::support::proxy::{Cut, Proxy};
use crate::support::{TestDatabase, database, soon, task};

async fn table(database: &TestDatabase) {
    let ddl = "CREATE TABLE t (id int, n int NOT NULL, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED); INSERT INTO t VALUES (1, 0), (2, 0)";
    database.client().await.batch_execute(ddl).await.unwrap();
}

async fn sum(database: &TestDatabase) -> i64 {
    database.client().await.query_one("SELECT sum(n) FROM t", &[]).await.unwrap().get(0)
}

fn add(id: i64) -> zmsg_core::sql::Task {
    task("UPDATE t SET n = n + 1 WHERE id = ?", &[id.into()])
}

async fn behind(database: &TestDatabase, proxy: &Proxy) -> PostgresStore {
    database
        .store_with(|settings| {
            settings.dsn = zmsg_core::config::Secret::new(database.dsn_through(proxy.address))
        })
        .await
}

#[tokio::test]
async fn a_commit_cut_on_either_side_takes_effect_once() {
    let database = database().await;
    table(&database).await;
    let proxy = Proxy::start(&database.dsn).await;
    let store = behind(&database, &proxy).await;
    for (cut, commits) in [(Cut::BeforeCommit, 2), (Cut::AfterCommit, 1), (Cut::Nowhere, 1)] {
        for round in 0..5 {
            let before = sum(&database).await;
            proxy.arm(cut);
            let hooks = Recorder::new();
            store.transact(&[add(1)], hooks.clone(), soon()).await.unwrap();
            assert_eq!(sum(&database).await, before + 1, "{cut:?}, round {round}");
            let mut calls = ["before_tasks", "before_commit"].repeat(commits);
            calls.push("committed");
            assert_eq!(hooks.calls(), calls, "{cut:?}");
        }
    }
    assert_eq!(proxy.cuts_made(), 10);
}

#[tokio::test]
async fn a_commit_whose_answer_never_comes_takes_its_connection_along() {
    let database = database().await;
    table(&database).await;
    let proxy = Proxy::start(&database.dsn).await;
    let dsn = zmsg_core::config::Secret::new(database.dsn_through(proxy.address));
    let store = database.store_with(|settings| (settings.dsn, settings.pool_size) = (dsn, 1)).await;
    proxy.arm(Cut::HoldAnswer);
    let deadline = Deadline::after(Duration::from_millis(700));
    store.transact(&[add(1)], Arc::new(NoHooks), deadline).await.unwrap();
    assert_eq!((proxy.cuts_made(), sum(&database).await), (1, 1));
    // The held answer is nobody else's.
    let deadline = Deadline::after(Duration::from_secs(5));
    store.transact(&[add(2)], Arc::new(NoHooks), deadline).await.unwrap();
    assert_eq!(sum(&database).await, 2);
}

#[tokio::test]
async fn a_commit_that_nobody_can_tell_about_is_unknown() {
    let database = database().await;
    table(&database).await;
    let proxy = Proxy::start(&database.dsn).await;
    let store = behind(&database, &proxy).await;
    proxy.arm(Cut::AfterCommit);
    proxy.refuse_after_cut();
    let hooks = Recorder::new();
    let deadline = Deadline::after(Duration::from_millis(700));
    let error = store.transact(&[add(1)], hooks.clone(), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error}");
    assert!(!error.retryable());
    assert_eq!(hooks.calls(), ["before_tasks", "before_commit", "unknown"]);
}

#[tokio::test]
async fn a_commit_that_the_server_refuses_is_an_abort() {
    let database = database().await;
    table(&database).await;
    let store = database.store().await;
    let hooks = Recorder::new();
    // The constraint is checked at COMMIT.
    let clash = task("UPDATE t SET id = 2 WHERE id = 1", &[]);
    let error = store.transact(&[add(1), clash], hooks.clone(), soon()).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("23505"));
    assert_eq!(hooks.calls(), ["before_tasks", "before_commit", "aborted"]);
    assert_eq!(sum(&database).await, 0);
}

#[tokio::test]
async fn an_aborted_transaction_is_never_committed() {
    let database = database().await;
    table(&database).await;
    let store = database.store().await;
    let hooks = Recorder::new();
    let fails = task("SELECT 1 / (? - 1)", &[1.into()]);
    let error = store.transact(&[add(1), fails, add(2)], hooks.clone(), soon()).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"), "the first failure counts, not 25P02: {error}");
    assert_eq!(hooks.calls(), ["before_tasks", "aborted"]);
    assert_eq!(sum(&database).await, 0);
    let idle =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    assert_eq!(database.client().await.query_one(idle, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_backend_killed_in_the_middle_costs_one_more_run() {
    let database = database().await;
    table(&database).await;
    let store = database.store().await;
    let client = Arc::new(database.client().await);
    let hooks = Recorder::acting(move |run| {
        let client = client.clone();
        async move {
            if run == 1 {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                            WHERE datname = current_database() AND state = 'idle in transaction'";
                assert_eq!(client.query(kill, &[]).await.unwrap().len(), 1);
            }
        }
    });
    let committed = store.transact(&[add(1), add(2)], hooks.clone(), soon()).await.unwrap();
    assert_eq!(committed.total().rows_affected, 2);
    assert_eq!(
        hooks.calls(),
        ["before_tasks", "before_commit", "before_tasks", "before_commit", "committed"]
    );
    assert_eq!(sum(&database).await, 2);
}

#[tokio::test]
async fn who_stood_still_until_its_time_was_over_does_not_commit() {
    let database = database().await;
    table(&database).await;
    let store = database.store().await;
    let allowed = Duration::from_millis(700);
    // As a process that is stopped: nothing of it sees the time pass.
    let hooks = Recorder::acting(move |_| async move { std::thread::sleep(allowed) });
    let error = store.transact(&[add(1)], hooks.clone(), Deadline::after(allowed)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(hooks.calls(), ["before_tasks", "before_commit", "aborted"]);
    assert_eq!(sum(&database).await, 0);
}

#[tokio::test]
async fn deadlocks_are_run_again() {
    let database = database().await;
    table(&database).await;
    let client = database.client().await;
    let name: String = client.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    client.batch_execute(&format!("ALTER DATABASE {name} SET deadlock_timeout = '20ms'")).await.unwrap();
    let store = Arc::new(database.store().await);
    // Each holds its first row until the other has its own.
    let pause = || task("SELECT pg_sleep(0.2)", &[]);
    let (one, two) = ([add(1), pause(), add(2)], [add(2), pause(), add(1)]);
    let (one, two) = tokio::join!(
        store.transact(&one, Arc::new(NoHooks), soon()),
        store.transact(&two, Arc::new(NoHooks), soon()),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.version, two.version);
    assert_eq!(sum(&database).await, 4);
}

#[tokio::test]
async fn what_commits_on_its_way_is_not_run_again() {
    let database = database().await;
    let store = database.store().await;
    let ddl = "CREATE TABLE seen (n int);
        CREATE PROCEDURE conflict() LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen VALUES (1); COMMIT; RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$;
        CREATE PROCEDURE slow() LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen VALUES (2); COMMIT; PERFORM pg_sleep(60); END $$";
    database.client().await.batch_execute(ddl).await.unwrap();
    let block = "DO $$ BEGIN INSERT INTO seen VALUES (3); COMMIT; RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$";
    for (text, allowed_ms) in [("CALL conflict()", 20_000), ("CALL slow()", 700), (block, 20_000)] {
        let deadline = Deadline::after(Duration::from_millis(allowed_ms));
        let error = store.execute(&task(text, &[]), deadline).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{text}: {error}");
    }
    let seen = "SELECT string_agg(n::text, ',' ORDER BY n) FROM seen";
    assert_eq!(database.client().await.query_one(seen, &[]).await.unwrap().get::<_, String>(0), "1,2,3");
}

#[tokio::test]
async fn a_single_statement_that_met_another_one_is_run_again() {
    let database = database().await;
    let store = database.store().await;
    let ddl = "CREATE SEQUENCE runs; CREATE TABLE seen (n int);
        CREATE FUNCTION second() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('runs') < 2 THEN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END IF; RETURN 1; END $$";
    database.client().await.batch_execute(ddl).await.unwrap();
    let insert = task("INSERT INTO seen SELECT second()", &[]);
    assert_eq!(store.execute(&insert, soon()).await.unwrap().rows_affected, 1);
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing_open() {
    let database = database().await;
    table(&database).await;
    let store = database.store_with(|settings| settings.pool_size = 1).await;
    let (reached, waiting) = tokio::sync::oneshot::channel();
    let reached = std::sync::Mutex::new(Some(reached));
    let hooks = Recorder::acting(move |_| {
        reached.lock().unwrap().take().unwrap().send(()).unwrap();
        std::future::pending()
    });
    let tasks = [add(1)];
    tokio::select! {
        _ = store.transact(&tasks, hooks, soon()) => panic!("the hook never returns"),
        _ = waiting => {}
    }
    // The only connection was closed, so this one waits for nobody's row lock.
    store.transact(&[add(1)], Arc::new(NoHooks), soon()).await.unwrap();
    assert_eq!(sum(&database).await, 1);
    assert_eq!(store.pool_stats().size, 1);
}

#[tokio::test]
async fn versions_follow_the_order_of_commits() {
    let database = database().await;
    database
        .client()
        .await
        .batch_execute("CREATE TABLE v (id int, n int); INSERT INTO v VALUES (1, 0)")
        .await
        .unwrap();
    let store = Arc::new(database.store().await);
    let writers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let add = task("UPDATE v SET n = n + 1 WHERE id = 1 RETURNING n", &[]);
            let committed = store.transact(&[add], Arc::new(NoHooks), soon()).await.unwrap();
            (committed.results[0].rows[0].values[0].clone(), committed.version)
        })
    });
    let mut seen = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        let (Value::Int(n), version) = writer.await.unwrap() else { panic!("an int") };
        seen.push((n, version));
    }
    seen.sort_unstable();
    assert!(seen.is_sorted_by_key(|(_, version)| *version), "{seen:?}");
}
