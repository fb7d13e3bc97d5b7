//! What every [`Store`] does alike. The SQL is such that every backend takes it.

use std::sync::Arc;

use zmsg_core::error::ErrorKind;
use zmsg_core::store::migrations::Migration;
use zmsg_core::store::{NoHooks, Store};
use zmsg_core::value::Value;

use crate::hooks::Recorder;
use crate::support::{soon, task};

/// Runs the suite on an open store with the engine's own tables and none of the user's.
pub async fn run(store: &dyn Store) {
    migrations_run_once(store).await;
    statements_report_rows(store).await;
    reads_keep_their_order(store).await;
    a_failed_task_leaves_nothing(store).await;
    hooks_are_called_in_order(store).await;
    hooks_can_abort(store).await;
    versions_grow(store).await;
    transaction_control_is_refused(store).await;
    own_tables_are_opened_twice(store).await;
    a_closed_store_says_so(store).await;
}

async fn count(store: &dyn Store, table: &str) -> i64 {
    let rows = store.query(&task(&format!("SELECT count(*) AS n FROM {table}"), &[]), soon()).await.unwrap();
    match rows[0].get("n") {
        Some(Value::Int(n)) => *n,
        other => panic!("a count is an int, not {other:?}"),
    }
}

async fn migrations_run_once(store: &dyn Store) {
    let first =
        Migration::from_text("CREATE TABLE things (id BIGINT PRIMARY KEY, name TEXT, n BIGINT)", "1.sql")
            .unwrap();
    let report = store.migrate(std::slice::from_ref(&first), soon()).await.unwrap();
    assert_eq!((report.applied, report.skipped), (vec!["1.sql".to_owned()], vec![]));
    let second = Migration::from_text("CREATE TABLE more (id BIGINT PRIMARY KEY)", "2.sql").unwrap();
    let report = store.migrate(&[first, second], soon()).await.unwrap();
    assert_eq!((report.applied, report.skipped), (vec!["2.sql".to_owned()], vec!["1.sql".to_owned()]));
    let changed = Migration::from_text("CREATE TABLE things (id BIGINT)", "1.sql").unwrap();
    let error = store.migrate(&[changed], soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("1.sql"), "{error}");
}

async fn statements_report_rows(store: &dyn Store) {
    let insert = task(
        "INSERT INTO things (id, name, n) VALUES (?, ?, 0), (?, ?, 0) RETURNING id, name",
        &[1.into(), "a".into(), 2.into(), Value::Null],
    );
    let result = store.execute(&insert, soon()).await.unwrap();
    assert_eq!(result.rows_affected, 2);
    assert_eq!(result.rows[0].get("name"), Some(&Value::text("a")));
    assert_eq!(result.rows[1].get("name"), Some(&Value::Null));
    let update = task("UPDATE things SET n = n + ? WHERE id < ?", &[5.into(), 100.into()]);
    let result = store.execute(&update, soon()).await.unwrap();
    assert_eq!((result.rows_affected, result.rows.len()), (2, 0));
}

async fn reads_keep_their_order(store: &dyn Store) {
    let by_id = |id: i64| task("SELECT name, n FROM things WHERE id = ?", &[id.into()]);
    let reads = [by_id(2), task("SELECT nothing FROM nowhere", &[]), by_id(1), by_id(99)];
    let answers = store.query_many(&reads, soon()).await;
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0].as_ref().unwrap()[0].values, [Value::Null, Value::Int(5)]);
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(answers[2].as_ref().unwrap()[0].values, [Value::text("a"), Value::Int(5)]);
    assert!(answers[3].as_ref().unwrap().is_empty());
    let many: Vec<_> = (0..200).map(|id| task("SELECT ? + 0 AS n", &[i64::from(id).into()])).collect();
    for (id, answer) in store.query_many(&many, soon()).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap()[0].values, [Value::Int(id as i64)]);
    }
    assert!(store.query_many(&[], soon()).await.is_empty());
}

async fn a_failed_task_leaves_nothing(store: &dyn Store) {
    let before = count(store, "more").await;
    let insert = |id: i64| task("INSERT INTO more (id) VALUES (?)", &[id.into()]);
    let hooks = Recorder::new();
    let error = store.transact(&[insert(1), insert(2), insert(1)], hooks.clone(), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("task: 3"), "{error}");
    assert_eq!(count(store, "more").await, before);
    assert_eq!(hooks.calls(), ["before_tasks", "aborted"]);
    // The same connections go on.
    let committed = store.transact(&[insert(1), insert(2)], Arc::new(NoHooks), soon()).await.unwrap();
    assert_eq!(committed.total().rows_affected, 2);
    assert_eq!(count(store, "more").await, before + 2);
}

async fn hooks_are_called_in_order(store: &dyn Store) {
    let hooks = Recorder::new();
    let tasks = [
        task("INSERT INTO more (id) VALUES (?) RETURNING id", &[10.into()]),
        task("UPDATE things SET n = ? WHERE id = ?", &[7.into(), 1.into()]),
        task("INSERT INTO more (id) VALUES (?) RETURNING id", &[11.into()]),
    ];
    let committed = store.transact(&tasks, hooks.clone(), soon()).await.unwrap();
    assert_eq!(hooks.calls(), ["before_tasks", "before_commit", "committed"]);
    assert_eq!(hooks.results(), [(1, 1), (1, 0), (1, 1)], "one result per task");
    assert_eq!(committed.results.len(), 3);
    let total = committed.total();
    let ids: Vec<_> = total.rows.iter().map(|row| row.values[0].clone()).collect();
    assert_eq!(ids, [Value::Int(10), Value::Int(11)]);
    assert_eq!(total.rows_affected, 3);
}

async fn hooks_can_abort(store: &dyn Store) {
    for (hook, calls) in [
        ("before_tasks", vec!["before_tasks", "aborted"]),
        ("before_commit", vec!["before_tasks", "before_commit", "aborted"]),
    ] {
        let hooks = Recorder::failing(hook);
        let insert = task("INSERT INTO more (id) VALUES (?)", &[20.into()]);
        let error = store.transact(&[insert], hooks.clone(), soon()).await.unwrap_err();
        assert_eq!(error.message(), "the hook says no");
        assert_eq!(hooks.calls(), calls);
        assert!(
            store.query(&task("SELECT id FROM more WHERE id = 20", &[]), soon()).await.unwrap().is_empty()
        );
    }
}

async fn versions_grow(store: &dyn Store) {
    let mut last = 0;
    for _ in 0..3 {
        let update = task("UPDATE things SET n = n + 1 WHERE id = ?", &[1.into()]);
        let version = store.transact(&[update], Arc::new(NoHooks), soon()).await.unwrap().version;
        assert!(version > last);
        last = version;
    }
    assert!(
        store.transact(&[], Arc::new(NoHooks), soon()).await.unwrap().version > last,
        "no task is fine too"
    );
}

async fn transaction_control_is_refused(store: &dyn Store) {
    for text in ["BEGIN", "/* x */ commit", "ROLLBACK", "END", "START TRANSACTION"] {
        let Ok(control) = zmsg_core::sql::sql(text, &[]) else { continue };
        let error = store.execute(&control, soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Task, "{text}");
        let error = store.transact(&[control], Arc::new(NoHooks), soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Task, "{text}");
    }
}

async fn own_tables_are_opened_twice(store: &dyn Store) {
    store.open_own_tables(true, soon()).await.unwrap();
    store.open_own_tables(false, soon()).await.unwrap();
    assert_eq!(count(store, "zmsg_nodes").await, 1024);
    assert_eq!(count(store, "zmsg_identity").await, 1);
}

async fn a_closed_store_says_so(store: &dyn Store) {
    store.ping(soon()).await.unwrap();
    store.close().await;
    store.close().await;
    assert_eq!(store.ping(soon()).await.unwrap_err().kind(), ErrorKind::Closed);
    let read = task("SELECT 1", &[]);
    assert_eq!(store.query(&read, soon()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.query_many(&[read], soon()).await[0].as_ref().unwrap_err().kind(), ErrorKind::Closed);
    let error = store.transact(&[], Arc::new(NoHooks), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
