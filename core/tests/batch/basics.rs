//! Without faults.

use bytes::Bytes;
use zmsg_core::engine::WriteOptions;
use zmsg_core::sql::{counter, map, params, slice, sql};
use zmsg_core::value::Value;

use crate::scene::{Scene, accept, like, likes};

#[tokio::test]
async fn five_hundred_likes_become_one_row_of_one_statement() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let mut last = None;
    for _ in 0..500 {
        last = Some(accept(&zm, like("f1")).await);
    }
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("0"));
    assert_eq!(zm.pending(&like("f1")).await.unwrap(), Some(Value::Int(500)));
    let report = zm.flush().await.unwrap();
    assert_eq!((report.operations, report.rows, report.statements), (500, 1, 1), "{report:?}");
    let receipt = last.unwrap();
    assert_eq!(receipt.durability, "journal");
    receipt.done().await.unwrap();
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("500"));
    assert_eq!(zm.flush().await.unwrap().operations, 0);
    zm.close().await.unwrap();
    assert_eq!(
        (scene.journals(), scene.count("zmsg_journals").await),
        (0, 0),
        "nothing is left of the journal"
    );
}

#[tokio::test]
async fn cells_of_one_row_go_out_together_whatever_their_batch_key() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    for n in 0..3 {
        accept(&zm, likes("f1").inc(n).batch_key("f1").build().unwrap()).await;
        let views = counter("meta", "views").unwrap().inc(10).where_("id = ?", ["f1"]).unwrap();
        accept(&zm, views.batch_key("f1").build().unwrap()).await;
        let tags = slice("meta", "tags").unwrap().add(n).where_("id = ?", ["f1"]).unwrap();
        accept(&zm, tags.batch_key("f1").build().unwrap()).await;
        let extra = map("meta", "extra")
            .unwrap()
            .set("k", n)
            .set(format!("k{n}"), n)
            .where_("id = ?", ["f1"])
            .unwrap();
        accept(&zm, extra.batch_key("f1").build().unwrap()).await;
    }
    let tags = slice("meta", "tags").unwrap().delete(1.0).where_("id = ?", ["f1"]).unwrap();
    accept(&zm, tags.build().unwrap()).await;
    let report = zm.flush().await.unwrap();
    assert_eq!((report.rows, report.statements), (1, 1), "{report:?}");
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("3"));
    assert_eq!(scene.text("views", "f1").await.as_deref(), Some("30"));
    assert_eq!(scene.text("tags", "f1").await.as_deref(), Some("[0, 2]"));
    assert_eq!(scene.text("extra", "f1").await.as_deref(), Some(r#"{"k": 2, "k0": 0, "k1": 1, "k2": 2}"#));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn the_first_like_makes_its_row_and_a_missing_row_is_counted() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    for _ in 0..3 {
        let like = likes("new").inc(1).or_insert(&[("id", "new".into())]).unwrap().build().unwrap();
        accept(&zm, like).await;
        accept(&zm, like_of_nobody()).await;
    }
    let report = zm.flush().await.unwrap();
    assert_eq!((report.rows, report.zero_row_updates), (1, 1), "{report:?}");
    assert_eq!(scene.text("likes", "new").await.as_deref(), Some("3"));
    assert_eq!(zm.stats().zero_row_updates, 1);
    zm.close().await.unwrap();
}

fn like_of_nobody() -> zmsg_core::sql::Task {
    like("nobody")
}

#[tokio::test]
async fn statements_in_the_callers_words_run_in_order_and_coalesce_by_batch_key() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    for n in 0..600_i64 {
        let id = format!("raw{n}");
        accept(&zm, sql("INSERT INTO meta (id, likes) VALUES (?, ?)", params![id.as_str(), n]).unwrap())
            .await;
        let last = sql("UPDATE meta SET views = ? WHERE id = 'f2'", params![n]).unwrap().with_batch_key("v");
        accept(&zm, last).await;
    }
    accept(&zm, likes("raw7").inc(1).mul(2).build().unwrap()).await;
    accept(&zm, sql("UPDATE meta SET likes = likes + 100 WHERE id = ?", params!["raw7"]).unwrap()).await;
    accept(&zm, likes("raw7").mul(2).build().unwrap()).await;
    let report = zm.flush().await.unwrap();
    assert!(report.statements < 10, "rows of one text go out together: {report:?}");
    assert_eq!(scene.text("likes", "raw7").await.as_deref(), Some("232"));
    assert_eq!(scene.text("views", "f2").await.as_deref(), Some("599"));
    assert_eq!(scene.count("meta").await, 620);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn upserts_of_one_row_in_the_callers_words_are_one_statement_each() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let upsert =
        "INSERT INTO meta (id, views) VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET views = meta.views + 1";
    for n in 0..200 {
        accept(&zm, sql(upsert, params![format!("u{}", n % 5)]).unwrap()).await;
    }
    let report = zm.flush().await.unwrap();
    assert_eq!((report.dead, report.rows, report.statements), (0, 200, 200), "{report:?}");
    assert_eq!(scene.text("views", "u3").await.as_deref(), Some("40"));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_poisonous_operation_dies_alone_and_can_be_run_again() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let mut poison = None;
    for n in 0..501 {
        if n == 250 {
            let task = likes("f1").inc(i64::MAX).build().unwrap();
            poison = Some(
                zm.cache_and_periodic_store(Some("f1"), None, task, WriteOptions::default()).await.unwrap(),
            );
        } else {
            accept(&zm, like("f1")).await;
            accept(&zm, like("f2")).await;
        }
    }
    let nowhere = counter("nowhere", "n").unwrap().inc(1).where_("id = ?", [1]).unwrap().build().unwrap();
    accept(&zm, nowhere).await;
    let report = zm.flush().await.unwrap();
    assert_eq!(report.dead, 2, "{report:?}");
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("500"));
    assert_eq!(scene.text("likes", "f2").await.as_deref(), Some("500"));
    let poison = poison.unwrap();
    let error = poison.done().await.unwrap_err();
    assert_eq!((error.sqlstate(), error.op_id()), (Some("22003"), Some(poison.op_id().as_str())), "{error}");
    let letters = zm.dead_letters().await.unwrap();
    let codes: Vec<_> = letters.iter().map(|it| it.sqlstate.as_deref().unwrap()).collect();
    assert_eq!(codes, ["22003", "42P01"], "{letters:?}");
    assert_eq!((letters[0].op_id.as_str(), letters[0].key.as_deref()), (poison.op_id().as_str(), Some("f1")));
    assert_eq!(zm.retry_dead(letters[0].id).await.unwrap_err().sqlstate(), Some("22003"));
    scene.client.batch_execute("UPDATE meta SET likes = 0 WHERE id = 'f1'").await.unwrap();
    zm.retry_dead(letters[0].id).await.unwrap();
    assert_eq!(scene.text("likes", "f1").await, Some(i64::MAX.to_string()));
    zm.drop_dead(letters[1].id).await.unwrap();
    assert_eq!(zm.drop_dead(letters[1].id).await.unwrap_err().code(), "not_found");
    assert_eq!(zm.dead_letters().await.unwrap(), []);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_list_of_which_one_task_is_refused_leaves_nothing() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    accept(&zm, like("f1")).await;
    let list = vec![like("f1"), likes("f2").inc(i64::MAX).inc(i64::MAX).build().unwrap(), like("f3")];
    let receipt = zm.cache_and_periodic_store(None, None, list, WriteOptions::default()).await.unwrap();
    accept(&zm, like("f3")).await;
    let report = zm.flush().await.unwrap();
    assert_eq!((report.dead, report.operations), (1, 6), "{report:?}");
    assert_eq!(receipt.done().await.unwrap_err().sqlstate(), Some("22003"));
    for (id, likes) in [("f1", "1"), ("f2", "0"), ("f3", "1")] {
        assert_eq!(scene.text("likes", id).await.as_deref(), Some(likes), "{id}");
    }
    zm.close().await.unwrap();
}

#[tokio::test]
async fn after_the_flush_the_caches_hold_nothing_older() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let source = sql("SELECT likes FROM meta WHERE id = ?", ()).unwrap();
    zm.source("f*", source, Default::default()).unwrap();
    assert_eq!(zm.get("f1").await.unwrap(), Some(Bytes::from("0")));
    let with = |data: Option<&'static str>| {
        let data = data.map(|it| Bytes::from_static(it.as_bytes()));
        zm.cache_and_periodic_store(Some("f1"), data, like("f1"), WriteOptions::default())
    };
    with(None).await.unwrap();
    assert_eq!(zm.get("f1").await.unwrap(), Some(Bytes::from("0")), "until the flush the cache is as it was");
    zm.flush().await.unwrap();
    assert_eq!(zm.get("f1").await.unwrap(), Some(Bytes::from("1")));
    let receipt = with(Some("two")).await.unwrap();
    assert!(receipt.cached);
    assert_eq!(zm.get("f1").await.unwrap(), Some(Bytes::from("two")));
    zm.flush().await.unwrap();
    assert_eq!(
        zm.get("f1").await.unwrap(),
        Some(Bytes::from("two")),
        "the value of the last operation stays"
    );
    let other = scene.open().await;
    assert_eq!(other.get("f1").await.unwrap(), Some(Bytes::from("two")));
    with(Some("three")).await.unwrap();
    with(None).await.unwrap();
    zm.flush().await.unwrap();
    assert_eq!(zm.get("f1").await.unwrap(), Some(Bytes::from("4")), "a later operation made the value old");
    other.close().await.unwrap();
    zm.close().await.unwrap();
}

#[tokio::test]
async fn pending_of_a_builder_that_inserts_reads_the_row_beside_one_that_does_not() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let inserting = likes("f1").inc(1).or_insert(&[("id", "f1".into())]).unwrap().build().unwrap();
    accept(&zm, inserting.clone()).await;
    accept(&zm, like("f1")).await;
    assert_eq!(zm.pending(&inserting).await.unwrap(), Some(Value::Int(2)));
    zm.close().await.unwrap();
}

#[tokio::test]
async fn statements_that_hide_their_tables_are_barriers_for_all_of_them() {
    let scene = Scene::new().await;
    let procedure =
        "CREATE PROCEDURE reset() LANGUAGE sql AS $$ UPDATE meta SET likes = 0 WHERE id = 'f1' $$";
    scene.client.batch_execute(procedure).await.unwrap();
    let zm = scene.open().await;
    for text in [
        "DO $$ BEGIN UPDATE meta SET likes = 0 WHERE id = 'f1'; END $$",
        "CALL reset()",
        "UPDATE U&\"m\\0065ta\" SET likes = 0 WHERE id = 'f1'",
    ] {
        accept(&zm, likes("f1").inc(5).build().unwrap()).await;
        accept(&zm, sql(text, ()).unwrap()).await;
        accept(&zm, like("f1")).await;
        zm.flush().await.unwrap();
        assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("1"), "{text}");
    }
    zm.close().await.unwrap();
}

#[tokio::test]
async fn a_missing_row_is_counted_however_it_was_to_be_found() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let either = |a, b| counter("meta", "likes").unwrap().where_("id = ? OR id = ?", [a, b]).unwrap();
    accept(&zm, either("f1", "nobody").inc(1).build().unwrap()).await;
    accept(&zm, either("nobody", "no one").inc(1).build().unwrap()).await;
    let report = zm.flush().await.unwrap();
    assert_eq!((report.rows, report.zero_row_updates), (1, 1), "{report:?}");
    // In order, because a statement in the caller's words concerns the table.
    accept(&zm, sql("UPDATE meta SET views = 1 WHERE id = 'nobody'", ()).unwrap()).await;
    accept(&zm, like("f1")).await;
    accept(&zm, like("nobody")).await;
    let report = zm.flush().await.unwrap();
    assert_eq!((report.rows, report.zero_row_updates), (1, 1), "{report:?}");
    // After something was refused.
    accept(&zm, likes("f2").inc(i64::MAX).build().unwrap()).await;
    accept(&zm, likes("f2").inc(i64::MAX).build().unwrap()).await;
    accept(&zm, like("nobody")).await;
    accept(&zm, either("nobody", "no one").inc(1).build().unwrap()).await;
    let report = zm.flush().await.unwrap();
    assert_eq!((report.dead, report.zero_row_updates), (1, 2), "{report:?}");
    assert_eq!(zm.stats().zero_row_updates, 4);
    zm.close().await.unwrap();
}

#[tokio::test]
async fn pending_shows_the_value_as_it_will_be_stored() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let price = counter("meta", "price").unwrap().where_("id = ?", ["f1"]).unwrap();
    accept(&zm, price.clone().set(decimal("1.005")).inc(decimal("1.005")).build().unwrap()).await;
    let small = counter("meta", "small").unwrap().where_("id = ?", ["f1"]).unwrap();
    accept(&zm, small.clone().inc(decimal("0.6")).build().unwrap()).await;
    let price = price.inc(1).build().unwrap();
    let small = small.inc(1).build().unwrap();
    let before = (zm.pending(&price).await.unwrap(), zm.pending(&small).await.unwrap());
    zm.flush().await.unwrap();
    let after = (zm.pending(&price).await.unwrap(), zm.pending(&small).await.unwrap());
    assert!(before == after && before.1 == Some(Value::Int(1)), "{before:?} {after:?}");
    assert_eq!(scene.text("price", "f1").await.as_deref(), Some("2.01"));
    zm.close().await.unwrap();
}

fn decimal(text: &str) -> Value {
    Value::Decimal(zmsg_core::value::Decimal::parse(text).unwrap())
}

#[tokio::test]
async fn a_default_that_somebody_else_changed_counts_from_the_next_flush() {
    let scene = Scene::new().await;
    scene.client.batch_execute("CREATE TABLE d (id bigint PRIMARY KEY, a bigint, b bigint)").await.unwrap();
    let zm = scene.open().await;
    let inc = |column: &str, id: i64| {
        let cell = counter("d", column).unwrap().inc(1).where_("id = ?", [id]).unwrap();
        cell.or_insert(&[("id", id.into())]).unwrap().build().unwrap()
    };
    for (id, starts) in [(1, 0), (2, 100)] {
        if starts > 0 {
            scene.client.batch_execute("ALTER TABLE d ALTER COLUMN a SET DEFAULT 100").await.unwrap();
        }
        for column in ["b", "a"] {
            accept(&zm, inc(column, id)).await;
        }
        zm.flush().await.unwrap();
        let row = scene.client.query_one("SELECT a, b FROM d WHERE id = $1", &[&id]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (starts + 1, 1), "row {id}");
    }
    zm.close().await.unwrap();
}

#[tokio::test]
async fn of_a_list_with_one_batch_key_twice_the_last_statement_runs() {
    let scene = Scene::new().await;
    let zm = scene.open().await;
    let double = |plus: i64| {
        let text = "UPDATE meta SET views = views * 2 + ? WHERE id = 'f1'";
        zmsg_core::sql::sql(text, [plus]).unwrap().with_batch_key("views")
    };
    let other =
        zmsg_core::sql::sql("UPDATE meta SET likes = 7 WHERE id = 'f1'", ()).unwrap().with_batch_key("likes");
    scene.client.batch_execute("UPDATE meta SET views = 10 WHERE id = 'f1'").await.unwrap();
    let list = vec![double(1), other, double(2), double(3)];
    zm.cache_and_periodic_store(None, None, list, WriteOptions::default()).await.unwrap();
    zm.flush().await.unwrap();
    assert_eq!(scene.text("views", "f1").await.as_deref(), Some("23"));
    assert_eq!(scene.text("likes", "f1").await.as_deref(), Some("7"));
    zm.close().await.unwrap();
}
