//! What builders' statements do in a real PostgreSQL (`ZMSG_POSTGRES_DSN`); each test in a schema of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::error::Error as StdError;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Client, NoTls};
use zmsg_core::params;
use zmsg_core::sql::{self, Arg, BIND, Counter, Task, counter};
use zmsg_core::value::{Decimal, Value};

/// Sends every value as text, so that the server's own input functions read it as the type of its place.
#[derive(Debug)]
struct AsText(Value);

impl ToSql for AsText {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let text = match &self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::Int(it) => it.to_string(),
            Value::Decimal(it) => it.to_string(),
            Value::Text(it) | Value::Json(it) => it.to_string(),
            other => return Err(format!("not in these tests: {other:?}").into()),
        };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

struct Db {
    client: Client,
    schema: String,
}

impl Db {
    /// A connection whose schema is new and whose name says which test made it.
    async fn open(test: &str) -> Db {
        let client = connect().await;
        let schema = format!("sql_{test}_{}", std::process::id());
        let setup = format!(
            "DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}; SET search_path = {schema}"
        );
        client.batch_execute(&setup).await.unwrap();
        Db { client, schema }
    }

    async fn also(&self) -> Db {
        let client = connect().await;
        client.batch_execute(&format!("SET search_path = {}", self.schema)).await.unwrap();
        Db { client, schema: self.schema.clone() }
    }

    async fn batch(&self, text: &str) {
        self.client.batch_execute(text).await.unwrap();
    }

    /// Runs a task; the number of rows, or the SQLSTATE.
    async fn run(&self, task: &Task) -> Result<u64, String> {
        let rendered = task.render();
        let values: Vec<AsText> = rendered.params.iter().cloned().map(AsText).collect();
        let params: Vec<&(dyn ToSql + Sync)> = values.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
        self.client.execute(&*rendered.sql, &params).await.map_err(|error| match error.code() {
            Some(code) => code.code().to_owned(),
            None => panic!("{error:?}: {}", rendered.sql),
        })
    }

    async fn text(&self, query: &str) -> Option<String> {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }

    async fn done(self) {
        self.batch(&format!("DROP SCHEMA {} CASCADE", self.schema)).await;
    }
}

#[allow(clippy::disallowed_methods, reason = "a test may spawn")]
async fn connect() -> Client {
    let dsn = std::env::var("ZMSG_POSTGRES_DSN")
        .expect("set ZMSG_POSTGRES_DSN to a PostgreSQL for tests (make up)");
    let (client, connection) =
        tokio_postgres::connect(&dsn, NoTls).await.expect("PostgreSQL of ZMSG_POSTGRES_DSN");
    tokio::spawn(connection);
    client
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Inc(Value),
    Dec(Value),
    Mul(Value),
    Set(Value),
    Clean,
}

fn apply(builder: Counter, step: &Step) -> Counter {
    match step.clone() {
        Step::Inc(n) => builder.inc(n),
        Step::Dec(n) => builder.dec(n),
        Step::Mul(n) => builder.mul(n),
        Step::Set(n) => builder.set(n),
        Step::Clean => builder.clean(),
    }
}

fn steps(fractions: bool) -> impl Strategy<Value = Vec<Step>> {
    let small = (-9i64..10).prop_map(Value::Int);
    let number = if fractions {
        prop_oneof![small, (-999i64..999).prop_map(|it| decimal(&format!("{it}e-2")).into())].boxed()
    } else {
        small.boxed()
    };
    let factor = if fractions {
        prop_oneof![Just(2.into()), Just(0.5.into())].boxed()
    } else {
        Just(Value::Int(2)).boxed()
    };
    let step = prop_oneof![
        4 => number.clone().prop_map(Step::Inc),
        3 => number.clone().prop_map(Step::Dec),
        2 => factor.prop_map(Step::Mul),
        1 => number.prop_map(Step::Set),
        1 => Just(Step::Clean),
    ];
    prop::collection::vec(step, 1..6)
}

#[tokio::test]
async fn a_counter_does_what_its_operations_do_one_by_one() {
    let db = Db::open("counter").await;
    let mut runner = TestRunner::new(Config::default());
    for (column_type, fractions) in [
        ("int2", false),
        ("int4", false),
        ("int8", false),
        ("numeric", true),
        ("float4", true),
        ("float8", true),
    ] {
        db.batch(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, c {column_type})"))
            .await;
        db.batch("INSERT INTO t VALUES (1, NULL), (2, NULL)").await;
        for round in 0..40 {
            let start = if round % 4 == 0 { "NULL" } else { "17" };
            db.batch(&format!("UPDATE t SET c = {start}")).await;
            let steps = steps(fractions).new_tree(&mut runner).unwrap().current();
            let row = |id: i64| counter("t", "c").unwrap().where_("id = ?", params![id]).unwrap();
            let together = steps.iter().fold(row(1), apply);
            assert_eq!(db.run(&together.build().unwrap()).await, Ok(1));
            for step in &steps {
                assert_eq!(db.run(&apply(row(2), step).build().unwrap()).await, Ok(1));
            }
            let near = if column_type.starts_with("float") { "abs(a.c - b.c) < 0.01" } else { "a.c = b.c" };
            let both = "FROM t a, t b WHERE a.id = 1 AND b.id = 2";
            let said =
                db.text(&format!("SELECT ({near})::text || ' ' || a.c || ' ' || b.c {both}")).await.unwrap();
            assert!(said.starts_with("true"), "{column_type} from {start}: {steps:?} gave {said}");
        }
    }
    db.done().await;
}

#[tokio::test]
async fn a_counter_loses_no_digit_and_overflows_loudly() {
    let db = Db::open("exact").await;
    db.batch("CREATE TABLE t (id int PRIMARY KEY, i int8, s int2, n numeric, f float8)").await;
    db.batch("INSERT INTO t VALUES (1, 9007199254740993, 32767, 12345678901234567890.5, 0.1)").await;
    let row = |column: &str| counter("t", column).unwrap().where_("id = ?", params![1]).unwrap();
    for (task, result) in [
        (row("i").inc(1.0), Ok(1)),
        (row("n").inc(0.1), Ok(1)),
        (row("f").inc(0.2), Ok(1)),
        (row("s").inc(1), Err("22003".to_owned())),
        (row("i").inc(i64::MAX), Err("22003".to_owned())),
    ] {
        assert_eq!(db.run(&task.build().unwrap()).await, result);
    }
    let wanted = format!("9007199254740994 12345678901234567890.6 {}", 0.1 + 0.2);
    assert_eq!(db.text("SELECT i || ' ' || n || ' ' || f FROM t").await.unwrap(), wanted);
    assert_eq!(db.run(&row("n").set(i64::MAX).inc(1).build().unwrap()).await, Ok(1));
    assert_eq!(db.text("SELECT n::text FROM t").await.unwrap(), (1u64 << 63).to_string());
    let mut deep = row("i").clean();
    for _ in 0..999 {
        deep = deep.inc(1);
    }
    assert_eq!(db.run(&deep.build().unwrap()).await, Ok(1));
    assert_eq!(db.text("SELECT i::text FROM t").await.unwrap(), "999");
    for extreme in [f64::MAX, f64::MIN_POSITIVE, 5e-324, -0.0, 1.0 / 3.0] {
        assert_eq!(db.run(&row("f").set(extreme).build().unwrap()).await, Ok(1));
        let stored: f64 = db.client.query_one("SELECT f FROM t", &[]).await.unwrap().get(0);
        assert_eq!(stored, extreme);
    }
    db.done().await;
}

#[tokio::test]
async fn a_slice_keeps_order_and_duplicates() {
    let db = Db::open("slice").await;
    db.batch("CREATE TABLE x (id int PRIMARY KEY, e jsonb)").await;
    let row = || sql::slice("x", "e").unwrap().where_("id = ?", params![1]).unwrap();
    let list = || Value::List([1.into(), "a".into()].into());
    let object = || Value::Json(r#"{"k": [1]}"#.into());
    let five = row().add("a").add(1).add(Value::Null).add(list()).add(object());
    let all = r#"[1, null, 2, [1, "a"], {"k": [1]}]"#;
    for (before, builder, after) in [
        ("NULL", five, r#"["a", 1, null, [1, "a"], {"k": [1]}]"#),
        ("[]", row().add(true).add(decimal("1.50")).add(0.5), "[true, 1.50, 0.5]"),
        (r#"["b", "a", "b", 1, 1.0]"#, row().delete("b").delete(1), r#"["a"]"#),
        (all, row().delete(Value::Null).delete(list()).delete(object()), "[1, 2]"),
        ("[1]", row().delete(1), "[]"),
        ("NULL", row().delete(1), "[]"),
        ("[1]", row().add(2).delete(2).add(2).add(2).delete(1), "[2, 2]"),
        ("[1]", row().add(2).clean(), "[]"),
        ("[1]", row().clean().add(2), "[2]"),
        (r#"{"a": 1}"#, row().clean(), "[]"),
    ] {
        let start = if before == "NULL" { "NULL".to_owned() } else { format!("'{before}'") };
        db.batch(&format!("DELETE FROM x; INSERT INTO x VALUES (1, {start})")).await;
        assert_eq!(db.run(&builder.build().unwrap()).await, Ok(1), "{before}");
        assert_eq!(db.text("SELECT e::text FROM x").await.unwrap(), after, "{before}");
    }
    for wrong in [r#"{"a": 1}"#, "5", "null", "\"x\""] {
        db.batch(&format!("DELETE FROM x; INSERT INTO x VALUES (1, '{wrong}')")).await;
        for builder in [row().add(1), row().delete(1)] {
            assert_eq!(db.run(&builder.build().unwrap()).await, Err("22023".to_owned()), "{wrong}");
        }
        assert_eq!(db.text("SELECT e::text FROM x").await.unwrap(), wrong);
    }
    db.done().await;
}

#[tokio::test]
async fn a_map_takes_the_last_word_per_key() {
    let db = Db::open("map").await;
    db.batch("CREATE TABLE j (key int PRIMARY KEY, value jsonb)").await;
    let row = || sql::map("j", "value").unwrap().where_("key = ?", params![1]).unwrap();
    let json = |text: &str| Value::Json(text.into());
    for (before, builder, after) in [
        ("NULL", row().set("a", 1).set("b", "x"), r#"{"a": 1, "b": "x"}"#),
        (r#"{"a": 1}"#, row().set("a", Value::Null).set("c", json("[1]")), r#"{"a": null, "c": [1]}"#),
        (r#"{"a": {"b": 1}}"#, row().set("a", json("{}")), r#"{"a": {}}"#),
        (r#"{"a": 1, "b": 2}"#, row().delete("a").delete("z"), r#"{"b": 2}"#),
        ("{}", row().set("a", 1).delete("a").set("a", 2).set("a", 3), r#"{"a": 3}"#),
        ("NULL", row().delete("a"), "{}"),
        ("{}", row().set("", 1).set("0", 2).set("a,b}", 3), r#"{"": 1, "0": 2, "a,b}": 3}"#),
    ] {
        let start = if before == "NULL" { "NULL".to_owned() } else { format!("'{before}'") };
        db.batch(&format!("DELETE FROM j; INSERT INTO j VALUES (1, {start})")).await;
        assert_eq!(db.run(&builder.build().unwrap()).await, Ok(1), "{before}");
        assert_eq!(db.text("SELECT value::text FROM j").await.unwrap(), after, "{before}");
    }
    for wrong in ["[1]", "5", "null", "\"x\""] {
        db.batch(&format!("DELETE FROM j; INSERT INTO j VALUES (1, '{wrong}')")).await;
        for builder in [row().set("0", 1), row().delete("0")] {
            assert_eq!(db.run(&builder.build().unwrap()).await, Err("22023".to_owned()), "{wrong}");
        }
        assert_eq!(db.text("SELECT value::text FROM j").await.unwrap(), wrong);
    }
    db.done().await;
}

#[tokio::test]
async fn a_missing_row_is_inserted_once_and_an_existing_one_changed() {
    let db = Db::open("upsert").await;
    db.batch(
        "CREATE TABLE m (id varchar(20) PRIMARY KEY, kind int NOT NULL DEFAULT 7, hidden bool NOT NULL DEFAULT false,
         likes int8 CHECK (likes >= 0) DEFAULT 100, tags jsonb, extra jsonb)",
    )
    .await;
    let table = format!("{}.m", db.schema);
    let likes = || counter(&table, "likes").unwrap().where_("id = ? AND NOT hidden", params!["f"]).unwrap();
    let or_insert = |builder: Counter| {
        builder.or_insert(&[("id", "f".into()), ("kind", 3.into())]).unwrap().build().unwrap()
    };
    let state = || db.text("SELECT id || ' ' || kind || ' ' || coalesce(likes::text, 'null') FROM m");

    assert_eq!(db.run(&or_insert(likes().inc(2).mul(3))).await, Ok(1));
    assert_eq!(state().await.unwrap(), "f 3 6");
    assert_eq!(db.run(&or_insert(likes().dec(5))).await, Ok(1));
    assert_eq!(state().await.unwrap(), "f 3 1");
    assert_eq!(db.run(&or_insert(likes().dec(5))).await, Err("23514".to_owned()));
    assert_eq!(db.run(&or_insert(likes().set(8).inc(1))).await, Ok(1));
    assert_eq!(state().await.unwrap(), "f 3 9");
    db.batch("UPDATE m SET likes = NULL").await;
    assert_eq!(db.run(&or_insert(likes().inc(1))).await, Ok(1));
    assert_eq!(state().await.unwrap(), "f 3 1");
    db.batch("UPDATE m SET hidden = true").await;
    assert_eq!(db.run(&or_insert(likes().inc(1))).await, Ok(0));
    assert_eq!(state().await.unwrap(), "f 3 1");
    db.batch("DELETE FROM m").await;

    let started = likes().inc(1).or_insert(&[("likes", 10.into()), ("id", "f".into())]).unwrap();
    let started = started.returning(&["likes", "id"]).unwrap().build().unwrap();
    assert_eq!((db.run(&started).await, db.run(&started).await), (Ok(1), Ok(1)));
    assert_eq!(state().await.unwrap(), "f 7 12");

    let id = || [("id", Arg::from("g"))];
    let tags = sql::slice(&table, "tags").unwrap().add("a").delete("b").add("b");
    let tags = tags.where_("m.id = ?", params!["g"]).unwrap().or_insert(&id()).unwrap().build().unwrap();
    let extra = sql::map("m", "extra").unwrap().set("k", "v").where_("id = ?", params!["g"]).unwrap();
    let extra = extra.or_insert(&id()).unwrap().build().unwrap();
    for task in [&tags, &extra, &tags, &extra] {
        assert_eq!(db.run(task).await, Ok(1));
    }
    let both = db.text("SELECT tags::text || extra::text FROM m WHERE id = 'g'").await.unwrap();
    assert_eq!(both, r#"["a", "a", "b"]{"k": "v"}"#);

    let template = counter("m", "likes").unwrap().inc(BIND).where_("id = ?", params![BIND]).unwrap();
    let template = template.or_insert(&[("id", BIND)]).unwrap().build().unwrap();
    for id in ["h", "h", "i"] {
        assert_eq!(db.run(&template.bind(&[2.into(), id.into(), id.into()]).unwrap()).await, Ok(1));
    }
    let rest = db.text("SELECT string_agg(likes::text, ',' ORDER BY id) FROM m WHERE id > 'g'").await;
    assert_eq!(rest.unwrap(), "4,2");
    db.done().await;
}

#[tokio::test]
async fn of_two_first_likes_at_once_none_is_lost() {
    let db = Db::open("first").await;
    let other = db.also().await;
    db.batch("CREATE TABLE m (id int PRIMARY KEY, likes int8)").await;
    let like = counter("m", "likes").unwrap().inc(1).where_("id = ?", params![1]).unwrap();
    let like = like.or_insert(&[("id", 1.into())]).unwrap().build().unwrap();
    for _ in 0..20 {
        db.batch("DELETE FROM m; BEGIN").await;
        assert_eq!(db.run(&like).await, Ok(1));
        let (second, commit) = tokio::join!(other.run(&like), db.client.batch_execute("COMMIT"));
        assert_eq!(second, Ok(1));
        commit.unwrap();
        assert_eq!(db.text("SELECT likes::text FROM m").await.unwrap(), "2");
    }
    db.done().await;
}

#[tokio::test]
async fn hostile_names_keys_and_values_come_back_as_they_went() {
    let db = Db::open("hostile").await;
    let hostile = [
        "x\"; DROP TABLE y; --",
        "a'b",
        "a\\",
        "?",
        "$1",
        "%s",
        "??|",
        "$$",
        "E'",
        "/*",
        "a\nb",
        "ü\u{202e}\u{1f600}",
        "{0,1}",
        "SELECT",
        "a b",
        "\u{1}",
        "'; SELECT pg_sleep(9)--",
        "1 OR 1=1",
        "\u{ffff}",
        "\\u0041",
        "NULL",
        " ",
        "x",
    ];
    for name in hostile {
        let part = format!("\"{}\"", name.replace('"', "\"\""));
        let columns = format!("id text PRIMARY KEY, {part} jsonb, n int8");
        db.batch(&format!("DROP TABLE IF EXISTS {part}; CREATE TABLE {part} ({columns})")).await;
        let insert = sql::sql(&format!("INSERT INTO {part} AS t (id) VALUES (?)"), params![name]).unwrap();
        let insert = insert.on_conflict(&["id"]).unwrap().do_update(&["n", &part]).unwrap();
        assert_eq!(db.run(&insert.returning(&["id", &part]).unwrap()).await, Ok(1), "{name:?}");
        for table in [part.clone(), format!("{}.{part}", db.schema)] {
            let set =
                sql::map(&table, &part).unwrap().set(name, name).where_("id = ?", params![name]).unwrap();
            assert_eq!(db.run(&set.clone().build().unwrap()).await, Ok(1), "{name:?}");
            let set = set.or_insert(&[("id", name.into())]).unwrap().returning(&[&part]).unwrap();
            assert_eq!(db.run(&set.build().unwrap()).await, Ok(1), "{name:?}");
        }
        let query = format!("SELECT id, {part} ->> id, {part} ->> $1::text FROM {part}");
        let row = db.client.query_one(&query, &[&name]).await.unwrap();
        assert_eq!([row.get::<_, &str>(0), row.get(1), row.get(2)], [name; 3]);
    }
    db.done().await;
}

#[tokio::test]
async fn question_marks_reach_the_server_as_what_they_are() {
    let db = Db::open("marks").await;
    for (text, args, wanted) in [
        ("SELECT ('{\"a\": 1}'::jsonb ?? ?)::text", params!["a"].to_vec(), "true"),
        ("SELECT ('{\"a\": 1}'::jsonb ??| ARRAY[?, 'b'])::text", params!["a"].to_vec(), "true"),
        ("SELECT ('{\"a\": 1}'::jsonb ??& ARRAY[?, 'b'])::text", params!["a"].to_vec(), "false"),
        ("SELECT ('{\"a\": 1}'::jsonb @?? '$.a')::text", params![].to_vec(), "true"),
        ("SELECT 'a'||?||'c'", params!["b"].to_vec(), "abc"),
        ("SELECT (7 % ?::int)::text WHERE 1=?", params![4, 1].to_vec(), "3"),
        ("SELECT 'x' LIMIT?", params![1].to_vec(), "x"),
        ("SELECT E'\\'?' || $q$?$q$ || ? -- ?", params!["z"].to_vec(), "'??z"),
        ("SELECT (?-1)::text", params![3].to_vec(), "2"),
    ] {
        let rendered = sql::sql(text, args).unwrap().render();
        let values: Vec<AsText> = rendered.params.iter().cloned().map(AsText).collect();
        let params: Vec<&(dyn ToSql + Sync)> = values.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
        let row =
            db.client.query_one(&*rendered.sql, &params).await.unwrap_or_else(|it| panic!("{text}: {it:?}"));
        assert_eq!(row.get::<_, &str>(0), wanted, "{text}");
    }
    db.done().await;
}

#[tokio::test]
async fn generated_parameters_have_the_type_of_their_cast() {
    let db = Db::open("types").await;
    db.batch("CREATE TABLE t (id uuid PRIMARY KEY, c int2, s jsonb)").await;
    let row = || counter("t", "c").unwrap().where_("id = ?", params![BIND]).unwrap();
    let tags = sql::slice("t", "s").unwrap().add(1).where_("id = ?", params![BIND]).unwrap();
    let extra = sql::map("t", "s").unwrap().set("k", 1).delete("l").all_rows();
    let upsert = row().inc(1).or_insert(&[("id", BIND)]).unwrap();
    let cast = counter("v", "c").unwrap().inc(1).where_("id = ?::bpchar", params![BIND]).unwrap();
    let cast = cast.or_insert(&[("id", BIND)]).unwrap();
    db.batch("CREATE TABLE v (id varchar(9) PRIMARY KEY, c numeric)").await;
    for (task, types) in [
        (row().inc(1).mul(0.5).build(), vec![Type::UUID, Type::INT8, Type::NUMERIC]),
        (tags.build(), vec![Type::TEXT, Type::UUID]),
        (extra.build(), vec![Type::TEXT, Type::TEXT, Type::TEXT]),
        (upsert.build(), vec![Type::UUID, Type::INT8, Type::UUID]),
        (cast.build(), vec![Type::INT8, Type::BPCHAR, Type::VARCHAR]),
    ] {
        let sql = task.unwrap().render().sql;
        let statement = db.client.prepare(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(statement.params(), types, "{sql}");
    }
    db.done().await;
}
