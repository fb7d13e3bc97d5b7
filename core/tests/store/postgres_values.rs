//! Every type there and back, and what is refused on the way.

use zmsg_core::error::ErrorKind;
use zmsg_core::store::Store;
use zmsg_core::value::{Decimal, Value};

use crate::support::{database, soon, task};

fn decimal(text: &str) -> Value {
    Value::Decimal(Decimal::parse(text).unwrap())
}

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::from(items.into_iter().collect::<Vec<_>>())
}

fn json(text: &str) -> Value {
    Value::Json(text.into())
}

/// (type, what is sent, what comes back)
fn round_trips() -> Vec<(&'static str, Value, Value)> {
    let same = |ty, value: Value| (ty, value.clone(), value);
    let mut cases = vec![
        same("bool", true.into()),
        same("bool", Value::Null),
        same("text", "".into()),
        same("text", "naïve 😀 'quoted' \\ \"".into()),
        same("varchar(20)", "v".into()),
        ("char(3)", "a".into(), "a  ".into()),
        same("name", "n".into()),
        same("bytea", Value::bytes(&[0_u8, 255, 92, 39][..])),
        same("bytea", Value::bytes(&[][..])),
        same("uuid", Value::Uuid([0xab; 16])),
        ("text", Value::Uuid([0xab; 16]), "abababab-abab-abab-abab-abababababab".into()),
        ("numeric", 5.into(), decimal("5")),
        ("numeric", 0.1.into(), decimal("0.1")),
        ("numeric", f64::NAN.into(), decimal("NaN")),
        ("numeric(10,2)", decimal("1.005"), decimal("1.01")),
        ("numeric(10,2)", decimal("7"), decimal("7.00")),
        ("float8", 5.into(), 5.0.into()),
        ("float4", 0.5.into(), 0.5.into()),
        ("int4", 3.0.into(), 3.into()),
        ("int8", decimal("1.2e3"), 1200.into()),
        ("date", Value::Date(-719_162), Value::Date(-719_162)),
        ("timestamp", Value::Date(1), Value::Timestamp(86_400_000_000)),
        ("timestamp", Value::Date(i32::MAX), Value::Timestamp(i64::MAX)),
        ("timetz", "12:30:00.5+05:30".into(), "12:30:00.5+05:30".into()),
        ("timetz", "01:02:03-08".into(), "01:02:03-08".into()),
        ("inet", "10.0.0.1".into(), "10.0.0.1".into()),
        ("inet", "10.0.0.1/8".into(), "10.0.0.1/8".into()),
        ("cidr", "10.0.0.0/8".into(), "10.0.0.0/8".into()),
        ("inet", "::1".into(), "::1".into()),
        ("oid", 4_294_967_295_i64.into(), 4_294_967_295_i64.into()),
        ("\"char\"", "x".into(), "x".into()),
        ("json", json("{\"b\": 1, \"a\": 2}"), json("{\"b\": 1, \"a\": 2}")),
        ("jsonb", json("{\"b\":1,\"a\":2}"), json("{\"a\": 2, \"b\": 1}")),
        ("jsonb", "[1]".into(), json("[1]")),
        ("text", json("{}"), "{}".into()),
        ("jsonb", list([1.into(), "a\"b".into(), Value::Null, list([])]), json("[1, \"a\\\"b\", null, []]")),
        ("jsonb", 5.into(), json("5")),
        same("mood", "sad".into()),
        same("positive", 5.into()),
        same("int8[]", list([1.into(), Value::Null, i64::MAX.into()])),
        same("int8[]", list([])),
        same("text[]", list(["a,b".into(), "NULL".into(), Value::Null, "\"\\{}".into(), "".into()])),
        same("numeric[]", list([decimal("1.50"), Value::Null, decimal("-3")])),
        same("int4[]", list([list([1.into(), 2.into()]), list([3.into(), Value::Null])])),
        same("numeric[]", list([list([decimal("1")]), list([decimal("2.5")])])),
        same("uuid[]", list([Value::Uuid([1; 16])])),
        same("mood[]", list(["sad".into(), "glad".into()])),
        ("jsonb[]", list([json("{}"), "1".into()]), list([json("{}"), json("1")])),
        ("date[]", list(["2000-01-01".into()]), list([Value::Date(10_957)])),
        ("int4[]", "{{1,2},{3,4}}".into(), list([list([1.into(), 2.into()]), list([3.into(), 4.into()])])),
        same("bytea[]", list([Value::bytes(&[0_u8, 34][..])])),
        ("inet[]", list(["10.0.0.1".into(), Value::Null]), list(["10.0.0.1".into(), Value::Null])),
    ];
    for n in [i64::MIN, -1, 0, 1, i64::MAX] {
        cases.push(same("int8", n.into()));
        cases.push(same("timestamptz[]", list([Value::TimestampTz(n.signum() * 1_000_001)])));
    }
    cases.extend([i32::MIN, i32::MAX].map(|n| same("int4", n.into())));
    cases.extend([i16::MIN, i16::MAX].map(|n| same("int2", n.into())));
    cases.extend(
        [f64::MIN, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, -0.0].map(|n| same("float8", n.into())),
    );
    for text in
        ["0", "0.00", "-12345678901234567890.000123000", "10000", "99999999", "1e30", "0.00000001", "NaN"]
    {
        let shown = if text == "1e30" { "1000000000000000000000000000000" } else { text };
        cases.push(("numeric", decimal(text), decimal(shown)));
    }
    cases.extend([i32::MIN, -719_162, 0, 2_932_896, i32::MAX].map(|days| same("date", Value::Date(days))));
    cases.extend([0, 1, 86_399_999_999, 86_400_000_000].map(|micros| same("time", Value::Time(micros))));
    for micros in [i64::MIN, -62_135_596_800_000_000, -1, 0, 253_402_300_799_999_999, i64::MAX] {
        cases.push(same("timestamp", Value::Timestamp(micros)));
        cases.push(same("timestamptz", Value::TimestampTz(micros)));
    }
    for (months, days, micros) in [(0, 0, 0), (-13, 40, -1), (i32::MAX / 2, i32::MIN / 2, 86_400_000_001)] {
        cases.push(same("interval", Value::Interval { months, days, micros }));
    }
    cases
}

#[tokio::test]
async fn every_type_goes_there_and_back() {
    let database = database().await;
    let store = database.store().await;
    for ddl in
        ["CREATE TYPE mood AS ENUM ('sad', 'glad')", "CREATE DOMAIN positive AS int4 CHECK (value > 0)"]
    {
        store.execute(&task(ddl, &[]), soon()).await.unwrap();
    }
    for (index, (ty, sent, want)) in round_trips().into_iter().enumerate() {
        store.execute(&task(&format!("CREATE TABLE t{index} (x {ty})"), &[]), soon()).await.unwrap();
        let insert = task(&format!("INSERT INTO t{index} VALUES (?) RETURNING x"), &[sent]);
        let result = store.execute(&insert, soon()).await;
        let got = result.unwrap_or_else(|error| panic!("{index}: {ty}: {error}")).rows[0].values[0].clone();
        // Debug shows no value, so the test does.
        assert!(got == want, "{index}: {ty}: {}", shown(&got));
    }
    let rows = store.query(&task("SELECT 'NaN'::float8 AS x", &[]), soon()).await.unwrap();
    assert!(matches!(rows[0].values[0], Value::Float(it) if it.is_nan()));
    let rows = store.query(&task("SELECT pg_sleep(0)", &[]), soon()).await.unwrap();
    assert_eq!(rows[0].values, [Value::Null], "void reads as null");
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(it) | Value::Json(it) => it.to_string(),
        Value::Decimal(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::List(items) => items.iter().map(shown).collect::<Vec<_>>().join("; "),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_read_fails_before_it_has_an_effect() {
    let database = database().await;
    let store = database.store().await;
    store.execute(&task("CREATE TABLE t (x int4range)", &[]), soon()).await.unwrap();
    let insert = task("INSERT INTO t VALUES ('[1,5)') RETURNING x", &[]);
    let error = store.execute(&insert, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.message().contains("column \"x\" has type int4range"), "{error}");
    let rows = store.query(&task("SELECT x::text FROM t", &[]), soon()).await.unwrap();
    assert!(rows.is_empty());
    let far = task("SELECT '294276-12-31 23:59:59'::timestamp AS far", &[]);
    let error = store.query(&far, soon()).await.unwrap_err();
    assert!(error.message().contains("\"far\""), "{error}");
}

#[tokio::test]
async fn refusals_name_what_was_refused_and_show_no_data() {
    let database = database().await;
    let store = database.store().await;
    store
        .execute(&task("CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE)", &[]), soon())
        .await
        .unwrap();
    let insert = |id: i64, email: &str| task("INSERT INTO t VALUES (?, ?)", &[id.into(), email.into()]);
    store.execute(&insert(1, "canary"), soon()).await.unwrap();
    let cases = [
        (insert(2, "canary"), ErrorKind::Store, Some("23505"), "t_email_key"),
        (
            task("SELECT 2147483647::int4 + ?::int4", &[1.into()]),
            ErrorKind::Store,
            Some("22003"),
            "out of range",
        ),
        (task("SELECT ?::int4", &["canary".into()]), ErrorKind::Store, Some("22P02"), "integer"),
        (
            task("SELECT to_tsquery(?)::text", &["canary &&& (".into()]),
            ErrorKind::Store,
            Some("42601"),
            "tsquery",
        ),
        (
            task("SELECT ?::text::regclass::text", &["canary".into()]),
            ErrorKind::Store,
            Some("42P01"),
            "relation …",
        ),
        (task("SELECT * FROM nowhere", &[]), ErrorKind::Store, Some("42P01"), "nowhere"),
        (
            task("DO $$ BEGIN RAISE 'no \"such\" post'; END $$", &[]),
            ErrorKind::Store,
            Some("P0001"),
            "no \"such\" post",
        ),
        (task("SELEC 1", &[]), ErrorKind::Store, Some("42601"), "SELEC"),
        (task("SELECT 1/0", &[]), ErrorKind::Store, Some("22012"), "division by zero"),
        (insert(40_000_000_000, "x"), ErrorKind::Task, None, "argument 1"),
        (task("SELECT ?::text", &[1.into()]), ErrorKind::Task, None, "argument 1 is int"),
        (task("SELECT ?::timestamptz", &[Value::Timestamp(0)]), ErrorKind::Task, None, "time zone"),
    ];
    for (task, kind, sqlstate, mention) in cases {
        let error = store.execute(&task, soon()).await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (kind, sqlstate), "{error}");
        assert!(!error.retryable());
        let everything = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
        assert!(everything.contains(mention), "{everything}");
        assert!(!everything.contains("canary"), "{everything}");
    }
    assert_eq!(store.pool_stats().size, 1, "a refusal costs no connection");
}
