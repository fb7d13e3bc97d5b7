//! Operations that the database refuses, in ways that a savepoint around a statement does not find.

use std::time::Duration;

use zmsg_core::engine::WriteOptions;
use zmsg_core::sql::{params, sql};

use crate::scene::{Scene, accept, like};
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
