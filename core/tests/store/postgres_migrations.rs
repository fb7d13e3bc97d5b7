//! Migrations on PostgreSQL: once, whole, whatever PostgreSQL takes.

use std::sync::Arc;
use std::time::Duration;

use zmsg_core::base::Deadline;
use zmsg_core::error::ErrorKind;
use zmsg_core::store::Store;
use zmsg_core::store::migrations::{Migration, load_dir};
use zmsg_core::store::postgres::{PostgresSettings, PostgresStore};

use crate::support::{database, soon, task};

/// The advisory lock of migrations.
const LOCK: i64 = 0x7a6d_7367_0000_0001;

fn migration(name: &str, text: &str) -> Migration {
    Migration::from_text(text, name).unwrap()
}

#[tokio::test]
async fn anything_that_postgresql_takes() {
    let database = database().await;
    let store = database.store().await;
    let text = "\u{feff}-- a comment; with a semicolon\r\n\
        CREATE TABLE t (id int, note text DEFAULT 'a;b'); /* ; /* nested ; */ */\r\n\
        CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN PERFORM 1; RETURN 1; END; $body$;\r\n\
        DO $$ BEGIN INSERT INTO t VALUES (1); END $$;\r\n\
        INSERT INTO t VALUES (2, E'it\\'s; fine');\r\n\
        SAVEPOINT a; INSERT INTO t VALUES (3); ROLLBACK TO a;\r\n\
        SELECT pg_catalog.set_config('search_path', '', false);";
    let second = "INSERT INTO t VALUES (4)";
    let both = [migration("1.sql", text), migration("2.sql", second)];
    assert_eq!(store.migrate(&both, soon()).await.unwrap().applied.len(), 2);
    let rows = store.query(&task("SELECT id FROM t ORDER BY id", &[]), soon()).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(store.migrate(&both, soon()).await.unwrap().skipped.len(), 2);
}

#[tokio::test]
async fn what_cannot_run_in_a_transaction() {
    let database = database().await;
    let store = database.store().await;
    let text = "-- zmsg:no-transaction\n\
        CREATE TABLE t (id int);\n\
        CREATE INDEX CONCURRENTLY t_id ON t (id);\n\
        VACUUM t;\n";
    store.migrate(&[migration("1.sql", text)], soon()).await.unwrap();
    let failing = "-- zmsg:no-transaction\nINSERT INTO t VALUES (1);\nDROP TABLE nowhere;\n";
    let error = store.migrate(&[migration("2.sql", failing)], soon()).await.unwrap_err();
    assert!(error.message().starts_with("migration 2.sql, line 3:"), "{error}");
}

#[tokio::test]
async fn an_error_leaves_nothing_and_names_file_and_line() {
    let database = database().await;
    let store = database.store().await;
    let good = migration("1.sql", "CREATE TABLE a (id int)");
    let bad = migration("2.sql", "CREATE TABLE b (id int);\n-- é\nINSERT INTO b\n  VALUS (1);");
    let error = store.migrate(&[good.clone(), bad], soon()).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Store, Some("42601")));
    assert!(error.message().starts_with("migration 2.sql, line 4:"), "{error}");
    assert!(store.query(&task("SELECT id FROM b", &[]), soon()).await.is_err(), "b was rolled back");
    let mended = migration("2.sql", "CREATE TABLE b (id int)");
    let report = store.migrate(&[good, mended], soon()).await.unwrap();
    assert_eq!((report.skipped, report.applied), (vec!["1.sql".to_owned()], vec!["2.sql".to_owned()]));
}

#[tokio::test]
async fn a_migration_takes_the_time_it_takes() {
    let database = database().await;
    let store = database.store().await;
    let whole = migration("1.sql", "CREATE TABLE t (id int); SELECT pg_sleep(1.2)");
    let pieces =
        migration("2.sql", "-- zmsg:no-transaction\nINSERT INTO t VALUES (1);\nSELECT pg_sleep(1.2);");
    let brief = Deadline::after(Duration::from_secs(1));
    assert_eq!(store.migrate(&[whole, pieces], brief).await.unwrap().applied.len(), 2);
}

#[tokio::test]
async fn another_process_is_waited_for_until_the_deadline() {
    let database = database().await;
    let store = database.store().await;
    let other = database.client().await;
    other.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await.unwrap();
    let due = [migration("1.sql", "CREATE TABLE t (id int)")];
    let error = store.migrate(&due, Deadline::after(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains("another process"), "{error}");
}

#[tokio::test]
async fn nothing_due_needs_no_lock() {
    let database = database().await;
    let store = database.store().await;
    let had = [migration("1.sql", "CREATE TABLE t (id int)")];
    store.migrate(&had, soon()).await.unwrap();
    let other = database.client().await;
    other.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await.unwrap();
    let report = store.migrate(&had, Deadline::after(Duration::from_secs(2))).await.unwrap();
    assert_eq!(report.skipped, ["1.sql"]);
}

#[tokio::test]
async fn a_file_may_change_its_role_and_settings() {
    let database = database().await;
    let store = database.store().await;
    let client = database.client().await;
    let role: String = client.query_one("SELECT 'r_' || current_database()", &[]).await.unwrap().get(0);
    client.batch_execute(&format!("CREATE ROLE {role}")).await.unwrap();
    let who = "CREATE TABLE who_N AS SELECT session_user::text AS s, current_user::text AS u";
    let files = [
        migration("1.sql", &format!("SET SESSION AUTHORIZATION {role}; SELECT 1")),
        migration("2.sql", &format!("{}; SET ROLE {role}", who.replace('N', "2"))),
        migration("3.sql", &format!("-- zmsg:no-transaction\n{};\nSET ROLE {role};", who.replace('N', "3"))),
        migration("4.sql", &who.replace('N', "4")),
    ];
    let applied = store.migrate(&files, soon()).await.map(|report| report.applied.len());
    let users = "SELECT count(*) FROM (TABLE who_2 UNION ALL TABLE who_3 UNION ALL TABLE who_4) AS w \
                 WHERE s = session_user AND u = session_user";
    let same = client.query_one(users, &[]).await.map(|row| row.get::<_, i64>(0));
    client.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    assert_eq!((applied.unwrap(), same.unwrap()), (4, 3));
}

/// Keeps the warnings of this test program.
struct Warnings;

static WARNINGS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNINGS.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn a_second_schema_with_nodes_is_warned_of() {
    log::set_logger(&Warnings).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let database = database().await;
    let told = || WARNINGS.lock().unwrap().iter().any(|it| it.contains("tenant_b") && it.contains("public"));
    let store = database.store().await;
    store.open_own_tables(false, soon()).await.unwrap();
    assert!(!told());
    let second = "CREATE SCHEMA tenant_b; CREATE TABLE tenant_b.zmsg_nodes (node_id int)";
    database.client().await.batch_execute(second).await.unwrap();
    store.open_own_tables(false, soon()).await.unwrap();
    assert!(told());
}

#[tokio::test]
async fn two_processes_at_once_run_each_file_once() {
    let database = database().await;
    let settings = || PostgresSettings::new(&database.dsn);
    let slow = "CREATE TABLE t (id int); INSERT INTO t VALUES (1); SELECT pg_sleep(0.1)";
    let concurrently = "-- zmsg:no-transaction\nCREATE INDEX CONCURRENTLY t_id ON t (id)";
    let files = Arc::new([migration("1.sql", slow), migration("2.sql", concurrently)]);
    let mut processes = Vec::new();
    for _ in 0..4 {
        let (store, files) = (PostgresStore::connect(settings()).await.unwrap(), files.clone());
        processes.push(tokio::spawn(async move {
            store.open_own_tables(true, soon()).await.unwrap();
            store.migrate(&*files, soon()).await.unwrap().applied.len()
        }));
    }
    let mut applied = 0;
    for process in processes {
        applied += process.await.unwrap();
    }
    assert_eq!(applied, 2);
}

#[tokio::test]
async fn rights_to_rows_are_enough_at_run_time() {
    let database = database().await;
    let client = database.client().await;
    let role: String = client.query_one("SELECT 'r_' || current_database()", &[]).await.unwrap().get(0);
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")).await.unwrap();
    let plain = tokio_postgres::Config::clone(&database.dsn.parse().unwrap());
    let (host, port) = match (&plain.get_hosts()[0], plain.get_ports()[0]) {
        (tokio_postgres::config::Host::Tcp(host), port) => (host.clone(), port),
        (tokio_postgres::config::Host::Unix(path), port) => (path.display().to_string(), port),
    };
    let name = plain.get_dbname().unwrap();
    let dsn = format!("host={host} port={port} user={role} password=x dbname={name}");
    client.batch_execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await.unwrap();
    let store = PostgresStore::connect(PostgresSettings::new(dsn)).await.unwrap();
    let error = store.open_own_tables(false, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("open once with auto_migrate: true"), "{error}");
    assert_eq!(store.open_own_tables(true, soon()).await.unwrap_err().sqlstate(), Some("42501"));

    database.store().await;
    let grants = format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}"
    );
    client.batch_execute(&grants).await.unwrap();
    for migrate in [false, true] {
        store.open_own_tables(migrate, soon()).await.unwrap();
    }
    let revoke = format!(
        "REVOKE INSERT ON zmsg_dead FROM {role}; REVOKE DELETE ON zmsg_journals FROM {role}; \
         REVOKE USAGE ON SEQUENCE zmsg_ver FROM {role}"
    );
    client.batch_execute(&revoke).await.unwrap();
    let error = store.open_own_tables(false, soon()).await.unwrap_err();
    let lacking = "DELETE ON zmsg_journals, INSERT ON zmsg_dead, USAGE ON SEQUENCE zmsg_ver";
    assert!(error.kind() == ErrorKind::Config && error.message().contains(lacking), "{error}");
    client.batch_execute(&grants).await.unwrap();
    store.transact(&[], Arc::new(zmsg_core::store::NoHooks), soon()).await.unwrap();
    store.close().await;
    drop(store);
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn a_directory_from_disk() {
    let database = database().await;
    let store = database.store().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("2_rows.sql"), "INSERT INTO t VALUES (1)").unwrap();
    std::fs::write(dir.path().join("1_table.sql"), "CREATE TABLE t (id int)").unwrap();
    let report = store.migrate(&load_dir(dir.path()).unwrap(), soon()).await.unwrap();
    assert_eq!(report.applied, ["1_table.sql", "2_rows.sql"]);
    std::fs::write(dir.path().join("1_table.sql"), "CREATE TABLE t (id bigint)").unwrap();
    let error = store.migrate(&load_dir(dir.path()).unwrap(), soon()).await.unwrap_err();
    assert!(error.message().contains("1_table.sql was changed"), "{error}");
}
