//! The room as its callers see it, without a server.

use super::*;
use crate::error::ErrorKind;
use crate::value::{Decimal, Value};

fn text(source: &str) -> String {
    let nulls = vec![Value::Null; 70_000];
    (0..9)
        .find_map(|n| sql(source, &nulls[..n]).ok())
        .map(|task| task.render().sql.to_string())
        .unwrap_or_else(|| panic!("{source:?} is not taken: {:?}", sql(source, ())))
}

fn message(result: crate::error::Result<impl Sized>) -> String {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::Task);
    error.to_string()
}

#[test]
fn placeholders_are_found_where_they_are() {
    for (source, rendered) in [
        ("SELECT ?", "SELECT $1"),
        ("SELECT ?, ?", "SELECT $1, $2"),
        ("SELECT ?;", "SELECT $1;"),
        ("SELECT '?', ?", "SELECT '?', $1"),
        ("SELECT 'it''s ?', ?", "SELECT 'it''s ?', $1"),
        (r"SELECT 'a\', ?", r"SELECT 'a\', $1"),
        (r"SELECT E'a\'?', ?", r"SELECT E'a\'?', $1"),
        (r"SELECT e'\\', ?", r"SELECT e'\\', $1"),
        ("SELECT E'a'\n  'b\\'?', ?", "SELECT E'a'\n  'b\\'?', $1"),
        ("SELECT E'a' -- c'?\n 'b\\'?', ?", "SELECT E'a' -- c'?\n 'b\\'?', $1"),
        ("SELECT E'a' '\\', ?", "SELECT E'a' '\\', $1"),
        (r"SELECT U&'\0041?', ?", r"SELECT U&'\0041?', $1"),
        (r"SELECT U&'a!0041\' UESCAPE '!', ?", r"SELECT U&'a!0041\' UESCAPE '!', $1"),
        ("SELECT B'01', X'1F', N'?', ?", "SELECT B'01', X'1F', N'?', $1"),
        (r#"SELECT "a?""?", ?"#, r#"SELECT "a?""?", $1"#),
        (r#"SELECT U&"d!0061?" UESCAPE '!', ?"#, r#"SELECT U&"d!0061?" UESCAPE '!', $1"#),
        ("SELECT 1 -- ?\n, ?", "SELECT 1 -- ?\n, $1"),
        ("SELECT /* ? /* ? */ ? */ ?", "SELECT /* ? /* ? */ ? */ $1"),
        ("SELECT $$ ? ' $$, ?", "SELECT $$ ? ' $$, $1"),
        ("SELECT $a$ ? $b$ $$ $a$, ?", "SELECT $a$ ? $b$ $$ $a$, $1"),
        ("SELECT a$b$, ?, c$b$", "SELECT a$b$, $1, c$b$"),
        ("SELECT größe$1, ?", "SELECT größe$1, $1"),
        ("SELECT a ?? 'k' AND ?", "SELECT a ? 'k' AND $1"),
        ("SELECT a ??| b, c ??& ?", "SELECT a ?| b, c ?& $1"),
        ("SELECT a @?? '$.x' AND ?", "SELECT a @? '$.x' AND $1"),
        ("SELECT ?||'x', ?&&a", "SELECT $1||'x', $2&&a"),
        ("SELECT ? | 1, ?-1, -?, a@>?, a <@?, a@@?", "SELECT $1 | 1, $2-1, -$3, a@>$4, a <@$5, a@@$6"),
        ("SELECT @ ?", "SELECT @ $1"),
        ("SELECT ?::int8, (?)::text[]", "SELECT $1::int8, ($2)::text[]"),
        ("SELECT 1 LIMIT?OFFSET ?", "SELECT 1 LIMIT $1 OFFSET $2"),
        ("SELECT ?1", "SELECT $1 1"),
        ("SELECT 1?", "SELECT 1 $1"),
        ("SELECT ?$$x$$", "SELECT $1 $$x$$"),
        ("SELECT 1e5$$?$$, 0x1F, 1_000, .5, ?", "SELECT 1e5$$?$$, 0x1F, 1_000, .5, $1"),
        ("SELECT ARRAY[?, ?][?]", "SELECT ARRAY[$1, $2][$3]"),
        ("SELECT a % s, a %size, '%s', 5 %(2)", "SELECT a % s, a %size, '%s', 5 %(2)"),
        ("SELECT a % ?", "SELECT a % $1"),
        ("  ;SELECT ?; ; -- done", "  ;SELECT $1; ; -- done"),
        (
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        ),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;",
        ),
    ] {
        assert_eq!(text(source), rendered, "{source}");
    }
}

#[test]
fn texts_that_could_be_read_two_ways_are_refused_with_their_place() {
    for (source, says) in [
        ("SELECT a ?| b", "??|"),
        ("SELECT a ?& b", "??&"),
        ("SELECT a @? b", "@??"),
        ("SELECT $1", "use ?"),
        ("SELECT ?, $2", "use ?"),
        ("SELECT %s", "use ?"),
        ("SELECT a WHERE b = %s)", "use ?"),
        ("SELECT %(id)s", "use ?"),
        ("SELECT 'abc", "unterminated string that starts at line 1, column 8"),
        ("SELECT 'abc''", "unterminated string"),
        (r"SELECT E'abc\'", "unterminated E'"),
        ("SELECT E'a\\", "unterminated E'"),
        ("SELECT\n  \"abc", "unterminated quoted identifier that starts at line 2, column 3"),
        ("SELECT /* /* */", "unterminated comment"),
        ("SELECT 'ä' $x$ $y$", "unterminated $x$ string that starts at line 1, column 12"),
        ("SELECT 1; SELECT 2", "second one starts at line 1, column 11"),
        (";SELECT 1; SELECT 2", "second one"),
        ("", "empty"),
        (" -- x", "empty"),
        (" ; ", "empty"),
        ("SELECT 1\0", "NUL"),
        ("SELECT '\0'", "NUL"),
        ("SELECT $$\0$$", "NUL"),
        ("SELECT E'\\\0'", "NUL"),
        ("/* \0 */ SELECT 1", "NUL"),
        ("-- \0\nSELECT 1", "NUL"),
        ("COMMIT", "list of tasks"),
        ("begin", "list of tasks"),
        ("/* x */ ROLLBACK TO a", "list of tasks"),
    ] {
        let message = message(sql(source, ()));
        assert!(message.contains(says), "{source:?}: {message}");
    }
}

#[test]
fn arguments_are_counted() {
    let said = message(sql("SELECT ?, ?", params![1, "x", BIND]));
    assert_eq!(said, "the statement has 2 placeholders but 3 arguments were given");
    assert_eq!(
        message(sql("SELECT 1", params![1])),
        "the statement has 0 placeholders but 1 argument was given"
    );
    let many = |n: usize| format!("SELECT {}1", "?,".repeat(n));
    assert!(sql(&many(65_535), ()).is_ok());
    assert!(message(sql(&many(65_536), ())).contains("65536 placeholders"));
    assert!(sql(&" ".repeat(1 << 20), ()).err().unwrap().to_string().contains("empty"));
    assert!(message(sql(&" ".repeat((1 << 20) + 1), ())).contains("1048577 bytes"));
    assert!(message(sql("SELECT ?", params!["a\0b"])).contains("NUL"));
    assert!(message(sql("SELECT ?", [Value::List([Value::text("\0")].into())])).contains("NUL"));
}

#[test]
fn templates_are_filled_in_the_order_they_were_written() {
    let template = sql("SELECT ?, ?, ?", params![BIND, 2, BIND]).unwrap();
    assert_eq!(template.open_placeholders(), 2);
    assert!(message(template.check_runnable("query")).starts_with("query cannot run a template: 2 "));
    assert!(template.check_template().is_ok());
    assert!(message(template.bind(&[1.into()])).contains("2 placeholders but 1 argument"));
    let task = template.bind(&[1.into(), 3.into()]).unwrap();
    assert_eq!(*task.render().params, [1.into(), 2.into(), 3.into()]);
    assert!(task.check_runnable("query").is_ok() && task.check_template().is_err());

    let open = sql("SELECT ?", ()).unwrap();
    assert_eq!(open.open_placeholders(), 1);
    assert_eq!(*open.bind(&["x".into()]).unwrap().render().params, ["x".into()]);
    assert!(message(open.bind(&["a\0".into()])).contains("NUL"));
    assert!(sql("SELECT 1", ()).unwrap().check_runnable("query").is_ok());
}

#[test]
fn clauses_go_before_what_ends_the_statement() {
    let insert = sql("INSERT INTO feeds (id, content) VALUES (?, ?); -- done", params!["f", "c"]).unwrap();
    let upsert = insert.clone().on_conflict(&["id"]).unwrap().do_update(&["content", "st\"atus"]).unwrap();
    assert_eq!(
        &*upsert.render().sql,
        "INSERT INTO feeds (id, content) VALUES ($1, $2) ON CONFLICT (\"id\") DO UPDATE SET \
         \"content\" = EXCLUDED.\"content\", \"st\"\"atus\" = EXCLUDED.\"st\"\"atus\"; -- done"
    );
    let back =
        insert.on_conflict(&[]).unwrap().do_nothing().unwrap().returning(&["id", "feeds.at", "*"]).unwrap();
    assert_eq!(
        &*back.render().sql,
        "INSERT INTO feeds (id, content) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING \"id\", \"feeds\".\"at\", *; -- done"
    );
    assert_eq!(back.render().params.len(), 2);
    let deletion = sql("DELETE FROM feeds WHERE id = ? /* last */", ()).unwrap().returning(&["id"]).unwrap();
    assert_eq!(&*deletion.render().sql, "DELETE FROM feeds WHERE id = $1 RETURNING \"id\" /* last */");
    assert_eq!(deletion.open_placeholders(), 1);
}

#[test]
fn clauses_are_refused_where_they_make_no_sense() {
    let insert = sql("INSERT INTO t VALUES (1)", ()).unwrap();
    let twice = insert.clone().on_conflict(&["id"]).unwrap().do_nothing().unwrap();
    let returned = insert.clone().returning(&["id"]).unwrap();
    for (said, expected) in [
        (message(twice.on_conflict(&["id"])), "already"),
        (message(returned.clone().on_conflict(&["id"])), "before RETURNING"),
        (message(returned.returning(&["id"])), "already"),
        (message(insert.clone().returning(&[])), "no column"),
        (message(insert.clone().on_conflict(&["a.b"])), "(in: on_conflict)"),
        (message(insert.clone().on_conflict(&["a", "a"])), "twice"),
        (message(insert.clone().on_conflict(&["a"]).unwrap().do_update(&[])), "no column"),
        (message(insert.clone().on_conflict(&[]).unwrap().do_update(&["a"])), "unique index"),
        (message(sql("SELECT 1", ()).unwrap().on_conflict(&["id"])), "only an INSERT"),
        (message(sql("SELECT 1", ()).unwrap().returning(&["id"])), "only INSERT, UPDATE"),
        (
            message(sql("insert into t select 1 on conflict(id) do nothing", ()).unwrap().on_conflict(&[])),
            "already",
        ),
        (
            message(
                sql("insert into t values (1) on /**/ conflict do nothing", ()).unwrap().on_conflict(&[]),
            ),
            "already",
        ),
        (message(sql("insert into t values (1) Returning id", ()).unwrap().returning(&["id"])), "already"),
        (
            message(counter("t", "c").unwrap().inc(1).all_rows().build().unwrap().on_conflict(&["c"])),
            "or_insert",
        ),
    ] {
        assert!(said.contains(expected), "{said}");
    }
    for fine in [
        "WITH a AS (DELETE FROM x RETURNING id) INSERT INTO t SELECT * FROM a",
        "WITH insert AS (SELECT 1), update (a) AS MATERIALIZED (SELECT 2) INSERT INTO t SELECT * FROM update",
        "INSERT INTO t SELECT * FROM b JOIN c ON conflict = id",
        "INSERT INTO t VALUES ('ON CONFLICT (a) RETURNING x')",
    ] {
        let task = sql(fine, ()).unwrap();
        assert!(
            task.on_conflict(&["id"])
                .and_then(|it| it.do_nothing())
                .and_then(|it| it.returning(&["*"]))
                .is_ok(),
            "{fine}"
        );
    }
}

#[test]
fn reads_are_told_from_writes() {
    for read in [
        "SELECT 1",
        "select ?",
        "(SELECT 1) UNION ((SELECT 2))",
        "VALUES (1)",
        "TABLE t",
        "SHOW all",
        "EXPLAIN DELETE FROM t",
        "EXPLAIN ANALYZE SELECT 1",
        "-- x\n/* y */ WITH a AS (SELECT 1) SELECT * FROM a",
        "WITH RECURSIVE delete AS (SELECT 1) SELECT * FROM delete",
    ] {
        assert!(sql(read, ()).unwrap().is_read(), "{read}");
    }
    for write in [
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
        "WITH a AS (SELECT 1) UPDATE t SET b = 1",
        "SELECT 1 INTO t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "EXPLAIN (COSTS, ANALYZE) INSERT INTO t VALUES (1)",
        "CREATE TABLE t (a int)",
        "REFRESH MATERIALIZED VIEW v",
        "VACUUM",
    ] {
        assert!(!sql(write, ()).unwrap().is_read(), "{write}");
    }
    assert!(!counter("t", "c").unwrap().clean().all_rows().build().unwrap().is_read());
}

fn likes() -> Counter {
    counter("public.feed_meta", "likes").unwrap()
}

#[test]
fn counters_render_their_operations_in_order() {
    let task = likes().inc(1).mul(2).where_("id = ?", params!["f"]).unwrap().build().unwrap();
    let rendered = task.render();
    assert_eq!(
        &*rendered.sql,
        "UPDATE \"public\".\"feed_meta\" SET \"likes\" = ((COALESCE(\"likes\", 0) + $1::int8) * $2::int8) WHERE (id = $3)"
    );
    assert_eq!(*rendered.params, [1.into(), 2.into(), "f".into()]);

    let dotted = table("feed_meta").unwrap().column("likes").unwrap().counter();
    let decimal = Decimal::parse("0.10").unwrap();
    let task = dotted
        .where_("a = ?", params![7])
        .unwrap()
        .dec(1.5)
        .inc(decimal)
        .where_("b", ())
        .unwrap()
        .build()
        .unwrap();
    let rendered = task.render();
    assert_eq!(
        &*rendered.sql,
        "UPDATE \"feed_meta\" SET \"likes\" = ((COALESCE(\"likes\", 0) - $2::numeric) + $3::numeric) WHERE (a = $1) AND (b)"
    );
    assert_eq!(rendered.params[1], Value::Decimal(Decimal::parse("1.5e0").unwrap()));

    let set =
        likes().inc(9).where_("id = ?", params![4]).unwrap().set(3).all_rows().returning(&["likes"]).unwrap();
    let rendered = set.build().unwrap().render();
    assert_eq!(
        &*rendered.sql,
        "UPDATE \"public\".\"feed_meta\" SET \"likes\" = $2::int8 WHERE (id = $1) RETURNING \"likes\""
    );
    assert_eq!(*rendered.params, [4.into(), 3.into()]);

    let clean = likes().clean().dec(1).all_rows().build().unwrap().render();
    assert!(clean.sql.contains("(CASE WHEN TRUE THEN 0 ELSE \"likes\" END - $1::int8)"), "{}", clean.sql);
}

#[test]
fn builders_are_values() {
    let half = likes().where_("id = ?", params![1]).unwrap();
    let (one, two) = (half.clone().inc(1), half.clone().inc(2).inc(3));
    assert_eq!(one.clone().build().unwrap().render().params.len(), 2);
    assert_eq!(two.build().unwrap().render().params.len(), 3);
    assert!(half.build().is_err());
    let task = Task::try_from(one.batch_key("meta:1")).unwrap();
    assert_eq!(task.batch_key(), Some("meta:1"));
    assert_eq!(task.clone().returning(&["likes"]).unwrap().batch_key(), Some("meta:1"));
    let cell = task.cell().unwrap();
    assert_eq!(
        (cell.kind(), cell.ops(), cell.arg(1)),
        (CellKind::Counter, &[Op::Inc(1)][..], Some(&1.into()))
    );
    assert_eq!((cell.table().last(), cell.column().last(), cell.returning()), ("feed_meta", "likes", None));
    assert_eq!(sql("SELECT 1", ()).unwrap().with_batch_key("k").batch_key(), Some("k"));
}

#[test]
fn tasks_of_one_shape_share_their_text() {
    let like = |n: Value, id: i64| likes().inc(n).where_("id = ?", params![id]).unwrap().build().unwrap();
    let text = |task: Task| task.render().sql;
    let one = text(like(1.into(), 1));
    assert!(std::sync::Arc::ptr_eq(&one, &text(like(2.into(), 2))));
    for other in [
        text(like(0.5.into(), 1)),
        text(like(1.into(), 1).returning(&["likes"]).unwrap()),
        text(likes().dec(1).where_("id = ?", params![1]).unwrap().build().unwrap()),
        text(likes().where_("id = ?", params![1]).unwrap().inc(1).build().unwrap()),
        text(likes().inc(1).where_("id=?", params![1]).unwrap().build().unwrap()),
        text(
            counter("feed_meta", "likes")
                .unwrap()
                .inc(1)
                .where_("id = ?", params![1])
                .unwrap()
                .build()
                .unwrap(),
        ),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn clauses_are_told_apart_by_all_their_columns() {
    let insert = sql("INSERT INTO t (id, a, b) VALUES (?, ?, ?)", ()).unwrap();
    let upsert = |target: &[&str], set: &[&str]| {
        insert.clone().on_conflict(target).unwrap().do_update(set).unwrap().render().sql
    };
    let one = upsert(&["id"], &["a"]);
    assert!(std::sync::Arc::ptr_eq(&one, &upsert(&["id"], &["a"])));
    for other in [
        upsert(&["id"], &["b"]),
        upsert(&["id"], &["a", "b"]),
        upsert(&["id", "b"], &["a"]),
        insert.clone().on_conflict(&["id"]).unwrap().do_nothing().unwrap().render().sql,
        insert.clone().returning(&["a"]).unwrap().render().sql,
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn builders_refuse_what_cannot_work_and_name_the_cell() {
    let row = || params![1];
    let mut many = likes();
    for _ in 0..1_001 {
        many = many.inc(1);
    }
    for (said, expected) in [
        (message(likes().where_("id = ?", row()).unwrap().build()), "no operation"),
        (message(likes().inc(1).build()), "all_rows()"),
        (message(likes().inc(f64::NAN).all_rows().build()), "finite"),
        (message(likes().inc(f64::INFINITY).clean().all_rows().build()), "finite"),
        (message(likes().set(Decimal::parse("NaN").unwrap()).all_rows().build()), "finite"),
        (message(likes().mul("2").all_rows().build()), "not text"),
        (message(likes().inc(true).all_rows().build()), "not bool"),
        (message(likes().inc(Value::Null).all_rows().build()), "not null"),
        (message(many.all_rows().build()), "1000 operations"),
        (message(likes().where_("id = ?", ())), "1 placeholder but 0 arguments"),
        (message(likes().where_("", ())), "empty"),
        (message(likes().where_("id = 1; DROP TABLE x", ())), "semicolon"),
        (message(likes().where_("id = 1 -- x", ())), "comment"),
        (message(likes().where_("id = 1 /* x */ ", ())), "comment"),
        (message(likes().where_("1 = 1) OR (1 = 1", ())), "closes a )"),
        (message(likes().where_("a[1)", ())), "closes a )"),
        (message(likes().where_("(a", ())), "leaves a bracket open at line 1, column 1"),
        (message(likes().where_("id = 'x", ())), "unterminated"),
        (message(likes().where_("id = $1", ())), "use ?"),
        (message(likes().returning(&[])), "no column"),
        (message(likes().returning(&["a"]).unwrap().returning(&["a"])), "already"),
        (message(slice("public.feed_meta", "likes").unwrap().add(f64::NAN).all_rows().build()), "NaN"),
        (
            message(
                slice("public.feed_meta", "likes").unwrap().add(Value::bytes(&b"x"[..])).all_rows().build(),
            ),
            "bytes",
        ),
        (message(map("public.feed_meta", "likes").unwrap().set(1, 2).all_rows().build()), "key is text"),
        (message(map("public.feed_meta", "likes").unwrap().set("a\0", 2).all_rows().build()), "NUL"),
    ] {
        assert!(said.contains(expected), "{said}");
        assert!(said.ends_with("(table: \"public\".\"feed_meta\", column: \"likes\")"), "{said}");
    }
    assert!(message(counter("", "c")).contains("table \"\""));
    assert!(message(counter("t", "a.b")).contains("column \"a.b\""));
    assert!(likes().inc(1).where_("/* first */ id = 1 -- x\n AND a IN (1, 2)", ()).unwrap().build().is_ok());
}

#[test]
fn slices_and_maps_render_casts_for_every_value() {
    let tags = slice("feed_meta", "tags")
        .unwrap()
        .add("a")
        .delete(1)
        .where_("id = ?", params![7])
        .unwrap()
        .build()
        .unwrap();
    let rendered = tags.render();
    assert_eq!(
        &*rendered.sql,
        "UPDATE \"feed_meta\" SET \"tags\" = COALESCE((SELECT jsonb_agg(x.e ORDER BY x.n) FROM jsonb_array_elements(\
         (CASE WHEN jsonb_array_length(COALESCE(\"tags\", '[]')) >= 0 THEN COALESCE(\"tags\", '[]') END \
         || jsonb_build_array($1::text::jsonb))) WITH ORDINALITY AS x (e, n) WHERE x.e <> $2::text::jsonb), '[]') \
         WHERE (id = $3)"
    );
    assert_eq!(*rendered.params, ["\"a\"".into(), "1".into(), 7.into()]);
    assert_eq!(
        &*slice("t", "c").unwrap().add(1).clean().all_rows().build().unwrap().render().sql,
        "UPDATE \"t\" SET \"c\" = '[]'::jsonb"
    );
    let extra = map("t", "c").unwrap().set("k", Value::Null).delete("l").all_rows().build().unwrap().render();
    assert!(
        extra.sql.ends_with(" || jsonb_build_object($1::text, $2::text::jsonb)) - $3::text)"),
        "{}",
        extra.sql
    );
    assert_eq!(*extra.params, ["k".into(), "null".into(), "l".into()]);
}

#[test]
fn templates_of_builders_take_the_type_of_what_is_bound() {
    let like = likes().inc(BIND).where_("id = ?", params![BIND]).unwrap().build().unwrap();
    assert_eq!(like.open_placeholders(), 2);
    let whole = like.bind(&[5.into(), "f".into()]).unwrap().render();
    assert_eq!(whole.sql, like.render().sql);
    assert_eq!(*whole.params, [5.into(), "f".into()]);
    assert!(std::sync::Arc::ptr_eq(&like.bind(&[6.into(), "g".into()]).unwrap().render().sql, &whole.sql));
    let exact = like.bind(&[Decimal::parse("0.5").unwrap().into(), "f".into()]).unwrap().render();
    assert!(exact.sql.contains("$1::numeric"), "{}", exact.sql);
    assert!(message(like.bind(&["x".into(), "f".into()])).contains("not text (table"));
    let tag = slice("t", "tags").unwrap().where_("id = ?", params![BIND]).unwrap().add(BIND).build().unwrap();
    assert_eq!(*tag.bind(&[1.into(), "x".into()]).unwrap().render().params, [1.into(), "\"x\"".into()]);
}

#[test]
fn a_missing_row_is_inserted_by_the_columns_that_where_compares() {
    let first = likes().inc(1).where_("ID = ? AND NOT hidden", params!["f"]).unwrap();
    let task = first
        .or_insert(&[("id", "f".into()), ("kind", 2.into())])
        .unwrap()
        .returning(&["likes"])
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(
        &*task.render().sql,
        "INSERT INTO \"public\".\"feed_meta\" (\"id\", \"kind\", \"likes\") VALUES ($3, $4, \
         (COALESCE((SELECT \"feed_meta\".\"likes\" FROM \"public\".\"feed_meta\" WHERE \"feed_meta\".\"id\" = $2), 0) + $1::int8)) \
         ON CONFLICT (\"id\") DO UPDATE SET \"likes\" = (COALESCE(\"feed_meta\".\"likes\", 0) + $1::int8) \
         WHERE (SELECT (ID = $2 AND NOT hidden) FROM (SELECT \"feed_meta\".*) AS \"feed_meta\") RETURNING \"likes\""
    );
    let insert = |text: &str, args: [Arg; 1], columns: &[(&str, Arg)]| {
        likes().inc(1).where_(text, args).and_then(|it| it.or_insert(columns)).and_then(|it| it.build())
    };
    for text in ["id = ?", "? = id", "m.\"id\" = ?::text", "a > 1 AND (b OR c) AND id = ? and d"] {
        assert!(insert(text, params!["f"], &[("id", "f".into())]).is_ok(), "{text}");
    }
    for text in [
        "id = ? OR a",
        "id > ?",
        "NOT id = ?",
        "lower(id) = ?",
        "\"ID\" = ?",
        "id BETWEEN 1 AND id = ?",
        "a = ?",
    ] {
        let said = message(insert(text, params!["f"], &[("id", "f".into())]));
        assert!(said.contains("needs the row's key"), "{text}: {said}");
    }
    for (columns, says) in [
        (vec![("id", Arg::from("g"))], "another value"),
        (vec![("id", 1.into())], "another type"),
        (vec![], "no column"),
        (vec![("id", "f".into()), ("id", "f".into())], "twice"),
    ] {
        let said = message(insert("id = ?", params!["f"], &columns));
        assert!(said.contains(says) && said.contains("table"), "{said}");
    }
    assert!(message(insert("likes = ?", params![1], &[("likes", 1.into())])).contains("changed column"));
    assert!(message(likes().or_insert(&[("a.b", 1.into())])).contains("column \"a.b\""));
    let template = insert("id = ?", params![BIND], &[("id", BIND)]).unwrap();
    assert!(template.bind(&["f".into(), "f".into()]).is_ok());
    assert!(message(template.bind(&["f".into(), "g".into()])).contains("another value"));
}

#[test]
fn logs_get_a_hash_and_no_parameter() {
    let task = sql("SELECT ?", params!["canary"]).unwrap();
    assert_eq!(task.render().hash(), "165a22d8");
    assert!(
        !format!("{task:?} {:?} {:?}", task.render(), likes().inc(1).all_rows().build()).contains("canary")
    );
}
