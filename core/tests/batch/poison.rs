//! Operations that the database refuses, in ways that a savepoint around a statement does not find.

use std::time::{Duration, Instant};

use zmsg_core::engine::WriteOptions;
use zmsg_core::sql::{Task, counter, params, sql};

use crate::scene::{Scene, accept, like, likes};
use crate::support::engine::within;

#[tokio::test]
async fn what_only_the_commit_refuses_dies_alone() {
    let scene = Scene::new().await;
    let child =
        "CREATE TABLE child (id text PRIMARY KEY, parent text REFERENCES meta DEFERRABLE INITIALLY DEFERRED)";
    scene.client.batch_execute(child).await.unwrap();
    let zm = scene.open().await;
    let insert = |id: &str, parent: &str| {
        sql("INSERT INTO child (id, parent) VALUES (?, ?)", params![id, parent]).unwrap()
    };
    let mut good = Vec::new();
    // Its parent comes later in the batch.
    good.push(accept(&zm, insert("c1", "late")).await);
    let poison = accept(&zm, insert("c2", "nobody")).await;
    good.push(accept(&zm, like("f1")).await);
    good.push(accept(&zm, sql("INSERT INTO meta (id) VALUES (?)", params!["late"]).unwrap()).await);
    let report = within(Duration::from_secs(10), "the flush", zm.flush()).await.unwrap();
    assert_eq!(report.dead, 1, "{report:?}");
    assert_eq!(poison.done().await.unwrap_err().sqlstate(), Some("23503"));
    for receipt in good {
        receipt.done().await.unwrap();
    }
    assert_eq!((scene.text("likes", "f1").await.as_deref(), scene.count("child").await), (Some("1"), 1));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn statements_that_would_end_the_transaction_are_not_accepted() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let mut accepted = Vec::new();
    let texts = [
        "COMMIT",
        "commit",
        "/* x */ ROLLBACK",
        "END",
        "ABORT",
        "BEGIN",
        "START TRANSACTION",
        "ROLLBACK TO SAVEPOINT zmsg",
        "SAVEPOINT zmsg",
        "RELEASE SAVEPOINT zmsg",
        "PREPARE TRANSACTION 'x'",
        "COMMIT AND CHAIN",
        "SET TRANSACTION READ ONLY",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "ROLLBACK AND CHAIN",
        "SET statement_timeout = 1",
        "reset all",
        "LISTEN x",
        "EXECUTE a",
        "SET CONSTRAINTS ALL DEFERRED",
    ];
    for text in texts {
        accept(&zm, like("f1")).await;
        if let Ok(task) = sql(text, ())
            && zm.cache_and_periodic_store(None, None, task, WriteOptions::default()).await.is_ok()
        {
            accepted.push(text);
        }
        accept(&zm, like("f1")).await;
    }
    assert_eq!(accepted, Vec::<&str>::new());
    zm.flush().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await, Some((2 * texts.len()).to_string()));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_run_in_a_transaction_dies_alone() {
    let scene = Scene::new().await;
    let procedure = "CREATE PROCEDURE ends() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$";
    scene.client.batch_execute(procedure).await.unwrap();
    let zm = scene.open().await;
    for text in [
        "CALL ends()",
        "DO $$ BEGIN ROLLBACK; END $$",
        "VACUUM meta",
        "CREATE DATABASE x",
        "SELECT 1/0 INTO y",
    ] {
        let good = accept(&zm, like("f1")).await;
        let poison = accept(&zm, sql(text, ()).unwrap()).await;
        let report = zm.flush().await.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(report.dead, 1, "{text}: {report:?}");
        assert!(poison.done().await.is_err(), "{text}");
        good.done().await.unwrap();
    }
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("5"));
    zm.close().await.unwrap();
    assert_eq!(scene.count("zmsg_journals").await, 0);
}

#[tokio::test]
async fn what_fails_each_time_with_errors_that_usually_pass_is_given_up_in_the_end() {
    let scene = Scene::new().await;
    let trigger = "CREATE FUNCTION locked() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$; \
         CREATE TRIGGER locked BEFORE UPDATE ON meta FOR EACH ROW WHEN (NEW.id = 'f3') EXECUTE FUNCTION locked()";
    scene.client.batch_execute(trigger).await.unwrap();
    let patience = Duration::from_millis(500);
    let zm = scene.with("batch_give_up_after", "500ms").open().await;
    // Of one kind and of another, and a sequence in which neither comes twice in a row.
    let turns = "CREATE SEQUENCE turns; CREATE FUNCTION turn() RETURNS void LANGUAGE plpgsql AS \
         $$ BEGIN IF nextval('turns') % 2 = 0 THEN RAISE EXCEPTION USING ERRCODE = '53400'; \
         ELSE RAISE EXCEPTION USING ERRCODE = '58P01'; END IF; END $$";
    scene.client.batch_execute(turns).await.unwrap();
    let statement = accept(&zm, sql("DO $$ BEGIN PERFORM turn(); END $$", ()).unwrap()).await;
    let cell = accept(&zm, like("f3")).await;
    let good = [accept(&zm, like("f1")).await, accept(&zm, like("f2")).await];
    let begun = Instant::now();
    let report = loop {
        match zm.flush().await {
            Ok(report) => break report,
            Err(error) => assert!(error.sqlstate().is_some(), "{error}"),
        }
        assert!(begun.elapsed() < 10 * patience);
    };
    assert!(begun.elapsed() >= patience, "given up after {:?}", begun.elapsed());
    assert_eq!((report.dead, report.rows, report.operations), (2, 2, 4), "{report:?}");
    assert!(matches!(statement.done().await.unwrap_err().sqlstate(), Some("53400" | "58P01")));
    assert_eq!(cell.done().await.unwrap_err().sqlstate(), Some("55P03"));
    for good in good {
        good.done().await.unwrap();
    }
    let found = scene.likes().await;
    assert_eq!(found, [("f1".to_owned(), 1), ("f2".to_owned(), 1)].into());
    // The next batch begins anew.
    accept(&zm, like("f3")).await;
    assert_eq!(zm.flush().await.unwrap_err().sqlstate(), Some("55P03"));
    scene.client.batch_execute("DROP TRIGGER locked ON meta").await.unwrap();
    zm.flush().await.unwrap();
    assert_eq!(scene.text("likes", "f3").await.as_deref(), Some("1"));
    zm.close().await.unwrap();
}

/// A pair of rows that change places, which is right only as a whole.
fn swap(table: &str) -> Vec<Task> {
    let one =
        |id: &str, at: i32| sql(&format!("UPDATE {table} SET at = ? WHERE id = ?"), params![at, id]).unwrap();
    vec![one("a", 2), one("b", 1)]
}

#[tokio::test]
async fn what_is_right_as_a_whole_does_not_die_of_the_poison_beside_it() {
    let scene = Scene::new().await;
    for (table, constraint) in [("pos", "DEFERRED"), ("strict", "IMMEDIATE")] {
        let schema = format!(
            "CREATE TABLE {table} (id text PRIMARY KEY, at int UNIQUE DEFERRABLE INITIALLY {constraint}); \
             INSERT INTO {table} VALUES ('a', 1), ('b', 2)"
        );
        scene.client.batch_execute(&schema).await.unwrap();
    }
    let zm = scene.open().await;
    let mut lists = Vec::new();
    for list in [swap("pos"), swap("strict"), swap("pos"), swap("pos")] {
        lists.push(zm.cache_and_periodic_store(None, None, list, WriteOptions::default()).await.unwrap());
    }
    let alone = accept(&zm, sql("UPDATE pos SET at = 2 WHERE id = 'a'", ()).unwrap());
    let alone =
        [alone.await, accept(&zm, sql("UPDATE meta SET likes = 1/0 WHERE id = 'f1'", ()).unwrap()).await];
    accept(&zm, like("f1")).await;
    let report = zm.flush().await.unwrap();
    // Every other swap undoes the one before; the one that is asked at every statement is refused, as it is by itself.
    assert_eq!(report.dead, 2, "{report:?} {:?}", zm.dead_letters().await.unwrap());
    let strict = lists.remove(1).done().await.unwrap_err();
    assert_eq!(strict.sqlstate(), Some("23505"));
    for list in lists {
        list.done().await.unwrap();
    }
    let [same, poison] = alone;
    same.done().await.unwrap();
    assert_eq!(poison.done().await.unwrap_err().sqlstate(), Some("22012"));
    let row = scene.client.query_one("SELECT at FROM pos WHERE id = 'a'", &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), scene.text("likes", "f1").await.as_deref()), (2, Some("1")));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn thousands_of_dead_lists_are_buried_in_one_flush() {
    const LISTS: i64 = 1_000;
    let scene = Scene::new().await;
    let who = "CREATE TABLE who (u int PRIMARY KEY); INSERT INTO who SELECT generate_series(1, 1000)";
    scene.client.batch_execute(who).await.unwrap();
    let zm = scene.with("timeout", "60s").open().await;
    let gone = || counter("meta", "gone").unwrap().inc(1).where_("id = ?", ["f2"]).unwrap().build().unwrap();
    let mut receipts = Vec::new();
    for n in 1..=LISTS {
        let follow = sql("INSERT INTO who VALUES (?)", params![n]).unwrap();
        let list = if n % 2 == 0 { vec![follow, like("f1")] } else { vec![like("f1"), gone()] };
        receipts.push(zm.cache_and_periodic_store(None, None, list, WriteOptions::default()).await.unwrap());
        for id in ["f1", "f2", "f3"] {
            accept(&zm, like(id)).await;
        }
        let good = vec![like("f1"), like("f3")];
        zm.cache_and_periodic_store(None, None, good, WriteOptions::default()).await.unwrap();
    }
    let report = within(Duration::from_secs(60), "the flush", zm.flush()).await.unwrap();
    assert_eq!((report.dead, report.operations), (LISTS as u64, 7 * LISTS as u64), "{report:?}");
    for (n, receipt) in (1..).zip(&receipts) {
        let code = if n % 2 == 0 { "23505" } else { "42703" };
        assert_eq!(receipt.done().await.unwrap_err().sqlstate(), Some(code));
    }
    let expected = [("f1", 2 * LISTS), ("f2", LISTS), ("f3", 2 * LISTS)];
    assert_eq!(scene.likes().await, expected.map(|(id, likes)| (id.to_owned(), likes)).into());
    assert_eq!((scene.count("zmsg_dead").await, scene.count("who").await), (LISTS, LISTS));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_cell_that_refuses_thousands_of_operations_costs_little_more_than_a_try_each() {
    let scene = Scene::new().await;
    scene.client.batch_execute("ALTER TABLE meta ADD CHECK (likes < 10)").await.unwrap();
    let zm = scene.with("timeout", "60s").open().await;
    for n in 0..3_000 {
        accept(&zm, likes("f1").inc(if n % 1_000 == 999 { 1 } else { 10 }).build().unwrap()).await;
    }
    let report = within(Duration::from_secs(30), "the flush", zm.flush()).await.unwrap();
    assert_eq!((report.dead, scene.text("likes", "f1").await.as_deref()), (2_997, Some("3")));
    zm.close().await.unwrap();
}
