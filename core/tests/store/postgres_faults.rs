//! Servers that are away, slow or changed under us.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zmsg_core::base::Deadline;
use zmsg_core::error::{ErrorKind, Result};
use zmsg_core::store::postgres::{PostgresSettings, PostgresStore};
use zmsg_core::store::{NoHooks, Store};
use zmsg_core::value::Value;

use crate::support::proxy::Proxy;
use crate::support::{TestDatabase, database, soon, task};

async fn kill_idle(database: &TestDatabase) {
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(!database.client().await.query(kill, &[]).await.unwrap().is_empty());
}

/// Waits, by asking the server, until nothing of ours runs any more.
async fn nothing_runs(database: &TestDatabase) {
    let running = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
    let client = database.client().await;
    let started = Instant::now();
    while client.query_one(running, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(started.elapsed() < Duration::from_secs(5), "a statement was left running");
        tokio::task::yield_now().await;
    }
}

async fn refused(settings: PostgresSettings) -> zmsg_core::error::Error {
    match PostgresStore::connect(settings).await {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_killed_backend_between_calls_is_not_noticed() {
    let database = database().await;
    let store = database.store_with(|settings| settings.pool_size = 1).await;
    let read = task("SELECT 1 AS one", &[]);
    for _ in 0..5 {
        kill_idle(&database).await;
        assert_eq!(store.query(&read, soon()).await.unwrap()[0].values, [Value::Int(1)]);
        kill_idle(&database).await;
        store.transact(&[], Arc::new(NoHooks), soon()).await.unwrap();
        kill_idle(&database).await;
        assert!(store.query_many(&[read.clone(), read.clone()], soon()).await.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_statement_that_is_too_slow_is_stopped() {
    let database = database().await;
    let store = database.store().await;
    let slow = || task("SELECT pg_sleep(60)", &[]);
    let brief = || Deadline::after(Duration::from_millis(300));
    let started = Instant::now();
    let error = store.transact(&[slow()], Arc::new(NoHooks), brief()).await.unwrap_err();
    // Whichever clock is first, the server's or ours.
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // Each statement in time, all of them together not.
    let both = [task("SELECT pg_sleep(0.2)", &[]), task("SELECT pg_sleep(0.2)", &[])];
    let error = store.transact(&both, Arc::new(NoHooks), brief()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(store.execute(&slow(), brief()).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(store.query(&slow(), brief()).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(
        store.query_many(&[slow()], brief()).await[0].as_ref().unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    nothing_runs(&database).await;
    store.ping(soon()).await.unwrap();
}

#[tokio::test]
async fn an_exhausted_pool_is_a_timeout() {
    let database = database().await;
    let store = Arc::new(database.store_with(|settings| settings.pool_size = 1).await);
    let lock = database.client().await;
    lock.batch_execute("CREATE TABLE t (id int)").await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let holder = tokio::spawn({
        let store = store.clone();
        async move { store.query(&task("SELECT id FROM t", &[]), soon()).await }
    });
    while store.pool_stats().idle > 0 {
        tokio::task::yield_now().await;
    }
    let error = store.ping(Deadline::after(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("waiting for one of 1 PostgreSQL connections"), "{error}");
    lock.batch_execute("COMMIT").await.unwrap();
    holder.await.unwrap().unwrap();
    store.ping(soon()).await.unwrap();
}

#[tokio::test]
async fn connections_that_the_network_forgot_fail_no_call() {
    let database = database().await;
    let proxy = Proxy::start(&database.dsn).await;
    let dsn = zmsg_core::config::Secret::new(database.dsn_through(proxy.address));
    let store = database.store_with(|settings| settings.dsn = dsn).await;
    let nap = task("SELECT pg_sleep(0.5)", &[]);
    let ten = (0..10).map(|_| store.query(&nap, soon()));
    assert!(futures_util::future::join_all(ten).await.iter().all(Result::is_ok));
    assert_eq!(store.pool_stats().size, 10);
    // The time that a connection is trusted without a question is what this is about.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    proxy.forget_open();
    let read = task("SELECT 1 AS one", &[]);
    let brief = Deadline::after(Duration::from_secs(2));
    assert_eq!(store.query(&read, brief).await.unwrap()[0].values, [Value::Int(1)]);
    assert_eq!(store.pool_stats().size, 1, "the other nine went along");
}

#[tokio::test]
async fn a_schema_change_is_not_noticed() {
    let database = database().await;
    let store = database.store_with(|settings| settings.pool_size = 1).await;
    let client = database.client().await;
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    let read = task("SELECT * FROM t", &[]);
    let change = task("UPDATE t SET a = a RETURNING *", &[]);
    for columns in 1..4 {
        // Prepared by the round before, with one column less.
        assert_eq!(store.query(&read, soon()).await.unwrap()[0].values.len(), columns);
        let committed =
            store.transact(std::slice::from_ref(&change), Arc::new(NoHooks), soon()).await.unwrap();
        assert_eq!(committed.results[0].rows[0].values.len(), columns);
        let many = store.query_many(&[read.clone(), read.clone()], soon()).await;
        assert!(many.iter().all(|rows| rows.as_ref().unwrap()[0].values.len() == columns));
        client.batch_execute(&format!("ALTER TABLE t ADD COLUMN b{columns} int")).await.unwrap();
    }
    let committed = store.transact(&[read], Arc::new(NoHooks), soon()).await.unwrap();
    assert_eq!(
        committed.results[0].rows[0].values.len(),
        4,
        "also where the transaction meets the change first"
    );
}

/// Drops every prepared statement, as a pooler or a restart would; as a task of its own it is refused.
const FORGET: &str = "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$";

#[tokio::test]
async fn prepared_statements_may_vanish() {
    let database = database().await;
    let store = database.store_with(|settings| settings.pool_size = 1).await;
    let read = task("SELECT ?::int8 AS n", &[7.into()]);
    for _ in 0..3 {
        assert_eq!(store.query(&read, soon()).await.unwrap()[0].values, [Value::Int(7)]);
        store.execute(&task(FORGET, &[]), soon()).await.unwrap();
        let committed = store.transact(std::slice::from_ref(&read), Arc::new(NoHooks), soon()).await.unwrap();
        assert_eq!(committed.results[0].rows[0].values, [Value::Int(7)]);
        store.execute(&task(FORGET, &[]), soon()).await.unwrap();
    }
    assert_eq!(store.pool_stats().size, 1);
}

#[tokio::test]
async fn many_statements_do_not_pile_up() {
    let database = database().await;
    let store = database.store_with(|settings| settings.pool_size = 1).await;
    for n in 0..600 {
        store.query(&task(&format!("SELECT {n} AS n"), &[]), soon()).await.unwrap();
    }
    let kept =
        store.query(&task("SELECT count(*) AS n FROM pg_prepared_statements", &[]), soon()).await.unwrap();
    assert!(matches!(kept[0].values[0], Value::Int(n) if n <= 257), "bounded");
}

#[tokio::test]
async fn an_unreachable_server_is_named_without_the_password() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dsn = format!("postgresql://me:canary@127.0.0.1:{free}/db");
    let error = refused(PostgresSettings::new(&dsn)).await;
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.retryable());
    let everything = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
    assert!(everything.contains(&format!("127.0.0.1:{free}")), "{everything}");
    assert!(!everything.contains("canary"), "{everything}");
    assert!(!format!("{:?}", PostgresSettings::new(&dsn)).contains("canary"));
    let lazy = PostgresSettings { lazy: true, ..PostgresSettings::new(&dsn) };
    let store = PostgresStore::connect(lazy).await.unwrap();
    assert_eq!(store.ping(soon()).await.unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(store.transact(&[], Arc::new(NoHooks), soon()).await.unwrap_err().kind(), ErrorKind::Store);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() {
    // Accepts by the kernel's backlog and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut settings = PostgresSettings::new(format!("postgresql://127.0.0.1:{port}/db"));
    settings.connect_timeout = Duration::from_millis(200);
    let started = Instant::now();
    let error = refused(settings).await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.retryable() && error.message().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_no_reason_to_retry() {
    let database = database().await;
    let (dsn, _) = database.dsn.rsplit_once('/').unwrap();
    let error = refused(PostgresSettings::new(format!("{dsn}/no_such_database"))).await;
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Store, Some("3D000")), "{error}");
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_server_without_tls_is_not_trusted_with_a_password_that_asks_for_it() {
    let database = database().await;
    let separator = if database.dsn.contains('?') { '&' } else { '?' };
    let client = database.client().await;
    let ssl: String = client.query_one("SHOW ssl", &[]).await.unwrap().get(0);
    let error =
        refused(PostgresSettings::new(format!("{}{separator}sslmode=verify-full", database.dsn))).await;
    // Either it has no TLS, or its certificate is not signed by anyone we know.
    assert_eq!(error.kind(), ErrorKind::Store, "ssl = {ssl}: {error}");
    assert!(!error.retryable());
}
