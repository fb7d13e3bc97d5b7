//! Corners, each with its name: what two ways of saying one row, `or_insert`, and statements in between can do.

use zmsg_core::sql::{Counter, Task, counter, map, params, slice, sql};
use zmsg_core::value::Value;

use super::twins::{agree, each};

const T: &str = "CREATE TABLE {s}.t (id bigint PRIMARY KEY, n bigint, m bigint, tags jsonb, extra jsonb); \
     INSERT INTO {s}.t SELECT i, 10, 10 FROM generate_series(1, 9) AS i";
const FOLDED: &str = "CREATE COLLATION {s}.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
     CREATE TABLE {s}.t (id text COLLATE {s}.folded PRIMARY KEY, n bigint, m bigint DEFAULT 5)";

fn cell(schema: &str, column: &str) -> Counter {
    counter(&format!("{schema}.t"), column).unwrap()
}

fn at(it: Counter, id: impl Into<Value>) -> Task {
    it.where_("id = ?", [id.into()]).unwrap().build().unwrap()
}

fn inserted(it: Counter, id: impl Into<Value>, more: &[(&str, Value)]) -> Task {
    let id = id.into();
    let mut columns = vec![("id", id.clone().into())];
    columns.extend(more.iter().map(|(name, value)| (*name, value.clone().into())));
    it.where_("id = ?", [id]).unwrap().or_insert(&columns).unwrap().build().unwrap()
}

fn raw(schema: &str, text: &str, values: &[Value]) -> Task {
    sql(&text.replace("{s}", schema), values).unwrap()
}

#[tokio::test]
async fn a_list_that_names_a_cell_twice_leaves_the_numbers_of_later_cells_right() {
    agree(T, &["t"], |s| {
        let inc = |id: i64, n: i64| at(cell(s, "n").inc(n), id);
        let barrier = raw(s, "UPDATE {s}.t SET n = n * 2 WHERE id = ?", &[3.into()]);
        vec![
            vec![inc(1, 1), inc(1, 2), inc(2, 4)],
            vec![inc(2, 8)],
            vec![inc(3, 16)],
            vec![barrier],
            vec![inc(3, 32)],
        ]
    })
    .await;
}

#[tokio::test]
async fn a_constant_with_or_insert_asks_for_no_start() {
    agree(T, &["t"], |s| {
        let start = [("n", Value::from(7))];
        let tags = slice(&format!("{s}.t"), "tags").unwrap().clean().add(1).where_("id = ?", [20]).unwrap();
        let tags = tags.or_insert(&[("id", 20.into()), ("tags", Value::Json("[9]".into()).into())]).unwrap();
        each([
            inserted(cell(s, "n").set(5), 11, &start),
            inserted(cell(s, "n").clean(), 12, &start),
            inserted(cell(s, "n").set(5).inc(1), 13, &start),
            tags.build().unwrap(),
        ])
    })
    .await;
}

#[tokio::test]
async fn a_row_that_is_inserted_has_its_defaults_in_what_is_changed_later() {
    let schema =
        "CREATE TABLE {s}.t (id bigint PRIMARY KEY, n bigint DEFAULT 100, m bigint NOT NULL DEFAULT 200)";
    let report = agree(schema, &["t"], |s| {
        let one = |column: &str, id: i64| inserted(cell(s, column).inc(1), id, &[]);
        each([one("n", 1), one("m", 1), one("m", 2), one("n", 2), one("n", 3), one("n", 3)])
    })
    .await;
    assert_eq!(report.statements, 6, "one INSERT and one UPDATE for each column that came first: {report:?}");
}

#[tokio::test]
async fn keys_that_mean_one_row_keep_their_order_through_thousands_of_rows() {
    let schema =
        format!("{FOLDED}; INSERT INTO {{s}}.t SELECT 'k' || i, 1 FROM generate_series(0, 2500) AS i");
    agree(&schema, &["t"], |s| {
        let rows = 0..2_500;
        let mut tasks: Vec<Task> = rows.map(|n| at(cell(s, "n").mul(3), format!("k{n}"))).collect();
        // Of one length 'K…' is in front of every 'k…': these are a thousand rows, and so a statement, apart.
        tasks.extend((2_200..2_300).step_by(10).map(|n| at(cell(s, "n").set(5), format!("K{n}"))));
        each(tasks)
    })
    .await;
}

#[tokio::test]
async fn keys_that_mean_one_row_keep_their_order_over_different_columns() {
    let schema = format!("{FOLDED}; INSERT INTO {{s}}.t VALUES ('k', 1, 1)");
    agree(&schema, &["t"], |s| {
        // Rows that change one column go out in front of those that change two.
        each([at(cell(s, "n").set(7), "K"), at(cell(s, "m").inc(1), "K"), at(cell(s, "n").set(5), "k")])
    })
    .await;
}

#[tokio::test]
async fn one_key_of_several_rows_and_another_that_means_some_of_them_are_both_applied() {
    let schema = "CREATE COLLATION {s}.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE {s}.t (id text COLLATE {s}.folded, n bigint); INSERT INTO {s}.t VALUES ('k', 1), ('K', 2), ('k', 3)";
    agree(schema, &["t"], |s| each([at(cell(s, "n").inc(10), "k"), at(cell(s, "n").inc(100), "K")])).await;
}

#[tokio::test]
async fn the_row_that_is_inserted_is_spelled_as_the_first_operation_spells_it() {
    agree(FOLDED, &["t"], |s| {
        each([
            inserted(cell(s, "n").inc(1), "key", &[("m", 1.into())]),
            inserted(cell(s, "n").inc(2), "KEY", &[("m", 2.into())]),
            inserted(cell(s, "n").inc(2), "other", &[("m", 2.into())]),
        ])
    })
    .await;
}

#[tokio::test]
async fn a_row_that_one_type_of_key_inserts_and_another_changes_keeps_its_order() {
    agree(T, &["t"], |s| {
        each([
            inserted(cell(s, "n").inc(4), 22, &[("m", 1.into())]),
            inserted(cell(s, "n").inc(4), "23", &[("m", 3.into())]),
            inserted(cell(s, "n").inc(4), 23, &[("m", 4.into())]),
        ])
    })
    .await;
    agree(T, &["t"], |s| {
        each([
            at(cell(s, "n").inc(1), "21"),
            inserted(cell(s, "n").inc(2), 21, &[]),
            inserted(cell(s, "n").inc(2), 22, &[]),
            at(cell(s, "n").inc(8), "22"),
        ])
    })
    .await;
}

#[tokio::test]
async fn rows_that_are_found_by_different_keys_are_inserted_in_order() {
    let schema = "CREATE TABLE {s}.t (id bigint UNIQUE, name text UNIQUE, n bigint)";
    agree(schema, &["t"], |s| {
        let by = |column: &str, id: i64, name: &str, n: i64| {
            let key = if column == "id" { Value::from(id) } else { name.into() };
            let it = cell(s, "n").inc(n).where_(&format!("{column} = ?"), [key]).unwrap();
            it.or_insert(&[("id", id.into()), ("name", name.into())]).unwrap().build().unwrap()
        };
        each([by("id", 1, "a", 1), by("name", 2, "b", 2), by("id", 2, "c", 4)])
    })
    .await;
}

#[tokio::test]
async fn or_insert_of_a_null_key_inserts_a_row_each_time() {
    let schema = "CREATE TABLE {s}.t (id bigint UNIQUE, n bigint)";
    agree(schema, &["t"], |s| each((0..3).map(|_| inserted(cell(s, "n").inc(1), Value::Null, &[])))).await;
    agree(schema, &["t"], |s| {
        each([inserted(cell(s, "n").inc(1), Value::Null, &[]), at(cell(s, "n").inc(5), Value::Null)])
    })
    .await;
}

#[tokio::test]
async fn what_where_says_beside_the_key_counts_for_the_row_that_or_insert_made() {
    let schema = "CREATE TABLE {s}.t (id bigint PRIMARY KEY, n bigint, m bigint DEFAULT 5)";
    agree(schema, &["t"], |s| {
        let one = || {
            let it = cell(s, "n").inc(1).where_("id = ? AND m > 5", [1]).unwrap();
            it.or_insert(&[("id", 1.into())]).unwrap().build().unwrap()
        };
        each([one(), one(), one()])
    })
    .await;
}

#[tokio::test]
async fn a_where_that_looks_into_another_table_sees_it_as_it_is_then() {
    let schema = format!(
        "{T}; CREATE TABLE {{s}}.u (id bigint PRIMARY KEY, k bigint); INSERT INTO {{s}}.u VALUES (1, 0)"
    );
    for first in [true, false] {
        agree(&schema, &["t", "u"], |s| {
            let k = || {
                counter(&format!("{s}.u"), "k")
                    .unwrap()
                    .inc(1)
                    .where_("id = ?", [1])
                    .unwrap()
                    .build()
                    .unwrap()
            };
            let looks = |n: i64| {
                let text = format!("id IN (SELECT id FROM {s}.u WHERE k = ?)");
                cell(s, "n").inc(n).where_(&text, [1]).unwrap().build().unwrap()
            };
            let mut tasks = vec![looks(1), k(), looks(2), k(), looks(4)];
            if first {
                tasks.rotate_left(1);
            }
            each(tasks)
        })
        .await;
    }
}

#[tokio::test]
async fn an_insert_that_reads_its_own_table_sees_the_one_before() {
    agree(T, &["t"], |s| {
        let one = |id: i64| {
            raw(s, "INSERT INTO {s}.t (id, n) VALUES (?, (SELECT count(*) FROM {s}.t))", &[id.into()])
        };
        each((100..110).map(one))
    })
    .await;
}

#[tokio::test]
async fn a_column_that_is_a_counter_and_a_map_keeps_its_order() {
    let schema = format!("{T}; ALTER TABLE {{s}}.t ALTER extra TYPE numeric USING 1");
    let report = agree(&schema, &["t"], |s| {
        let put = || {
            map(&format!("{s}.t"), "extra")
                .unwrap()
                .set("k", 1)
                .where_("id = ?", [1])
                .unwrap()
                .build()
                .unwrap()
        };
        each([at(cell(s, "extra").inc(1), 1), put(), at(cell(s, "extra").mul(2), 1), put()])
    })
    .await;
    assert_eq!(report.dead, 2, "{report:?}");
}

#[tokio::test]
async fn thousands_of_operations_on_one_array_go_through() {
    for text in ["id = ?", "id = ? AND true", "id = ANY(?)"] {
        agree(T, &["t"], |s| {
            let id = if text.contains("ANY") {
                Value::List([Value::Int(1), Value::Int(2)].into())
            } else {
                1.into()
            };
            let tags = || slice(&format!("{s}.t"), "tags").unwrap().where_(text, [id.clone()]).unwrap();
            let one = |n: i64| if n % 5 == 4 { tags().delete(n - 2) } else { tags().add(n).add(n) };
            each((0..1_300).map(|n| one(n).build().unwrap()))
        })
        .await;
    }
}

#[tokio::test]
async fn whole_numbers_whose_product_passes_64_bits_on_the_way_go_through() {
    agree(T, &["t"], |s| {
        let big = 3_000_000_000_000_000_000_i64;
        each([
            at(cell(s, "n").inc(big), 1),
            at(cell(s, "m").inc(1), 2),
            at(cell(s, "n").inc(1_i64), 1),
            at(cell(s, "n").dec(big - 1), 1),
            at(cell(s, "n").mul(4), 1),
            sql(&format!("UPDATE {s}.t SET m = 0 WHERE id = ?"), params![2]).unwrap().with_batch_key("m"),
        ])
    })
    .await;
}

#[tokio::test]
async fn keys_that_mean_one_row_keep_their_order_when_one_of_them_does_not_compose() {
    let schema = "CREATE TABLE {s}.t (id numeric PRIMARY KEY, n bigint); INSERT INTO {s}.t VALUES (1, 1)";
    let report = agree(schema, &["t"], |s| {
        let key = |text: &str| Value::from(zmsg_core::value::Decimal::parse(text).unwrap());
        let big = 4_000_000_000_000_000_000_i64;
        each([
            at(cell(s, "n").set(0), key("1.0")),
            at(cell(s, "n").mul(big), key("1.00")),
            at(cell(s, "n").mul(big), key("1.00")),
        ])
    })
    .await;
    assert_eq!(report.dead, 0, "{report:?}");
}
