//! Operations that fail by themselves: the others end as if each had run alone, and each that failed is a dead letter.

use std::time::Duration;

use zmsg_core::sql::{Counter, Task, counter, sql};
use zmsg_core::value::Value;

use super::twins::{agree, each};

const T: &str = "CREATE TABLE {s}.t (id bigint PRIMARY KEY, n bigint CHECK (n BETWEEN 0 AND 100), small smallint, word text); \
     INSERT INTO {s}.t SELECT i, 10, 30000, 'x' FROM generate_series(1, 9) AS i";

fn cell(schema: &str, column: &str) -> Counter {
    counter(&format!("{schema}.t"), column).unwrap()
}

fn at(it: Counter, id: impl Into<Value>) -> Task {
    it.where_("id = ?", [id.into()]).unwrap().build().unwrap()
}

fn raw(schema: &str, text: &str, values: &[Value]) -> Task {
    sql(&text.replace("{s}", schema), values).unwrap()
}

#[tokio::test]
async fn what_failed_is_not_applied_to_what_came_after_it() {
    let report = agree(T, &["t"], |s| {
        let barrier = raw(s, "UPDATE {s}.t SET word = ? WHERE id = ?", &["y".into(), 2.into()]);
        each([at(cell(s, "n").mul(20), 1), barrier, at(cell(s, "n").set(1), 1), at(cell(s, "n").inc(2), 1)])
    })
    .await;
    assert_eq!(report.dead, 1, "{report:?}");
}

#[tokio::test]
async fn what_fails_of_one_cell_whatever_comes_later_fails_alone() {
    let report = agree(T, &["t"], |s| {
        let mut tasks = Vec::new();
        for id in 1..9_i64 {
            for n in 0..20 {
                tasks.push(at(cell(s, "small").inc(if n == 7 { 40_000 } else { n }), id));
                tasks.push(at(cell(s, "n").inc(if n % 9 == 8 { 1_000 } else { 1 }), id));
            }
        }
        each(tasks)
    })
    .await;
    assert_eq!(report.dead, 8 * 3, "{report:?}");
}

#[tokio::test]
async fn what_is_refused_at_commit_dies_alone() {
    let schema = format!(
        "{T}; CREATE TABLE {{s}}.child (id bigint, parent bigint REFERENCES {{s}}.t DEFERRABLE INITIALLY DEFERRED)"
    );
    let report = agree(&schema, &["t", "child"], |s| {
        let child = |parent: i64| raw(s, "INSERT INTO {s}.child VALUES (1, ?)", &[parent.into()]);
        each([child(1), child(77), at(cell(s, "n").inc(1), 1), child(2)])
    })
    .await;
    assert_eq!(report.dead, 1, "{report:?}");
}

#[tokio::test]
async fn a_child_may_come_before_its_aggregated_parent() {
    let schema = format!("{T}; CREATE TABLE {{s}}.child (id bigint, parent bigint REFERENCES {{s}}.t)");
    let report = agree(&schema, &["t", "child"], |s| {
        let parent = cell(s, "n").inc(1).where_("id = ?", [50]).unwrap();
        let parent = parent.or_insert(&[("id", 50.into())]).unwrap().build().unwrap();
        each([parent, raw(s, "INSERT INTO {s}.child VALUES (1, ?)", &[50.into()])])
    })
    .await;
    assert_eq!(report.dead, 0, "{report:?}");
}

#[tokio::test]
async fn a_refused_list_of_rows_with_two_spellings_ends() {
    let schema = "CREATE TABLE {s}.t (id numeric PRIMARY KEY, n bigint CHECK (n < 100)); INSERT INTO {s}.t VALUES (1, 1), (2, 1)";
    let decimal = |text: &str| Value::from(zmsg_core::value::Decimal::parse(text).unwrap());
    let work = agree(schema, &["t"], |s| {
        vec![
            vec![at(cell(s, "n").set(3), decimal("1.0"))],
            vec![at(cell(s, "n").mul(2), decimal("1.00"))],
            vec![at(cell(s, "n").inc(1), decimal("2.0")), at(cell(s, "n").inc(1_000), decimal("2.0"))],
            vec![at(cell(s, "n").inc(5), decimal("2.0"))],
        ]
    });
    let report = tokio::time::timeout(Duration::from_secs(20), work).await.unwrap();
    assert_eq!(report.dead, 1, "{report:?}");
}

#[tokio::test]
async fn a_name_that_the_catalogue_cannot_even_look_up_stops_nothing() {
    let report = agree(T, &["t"], |s| {
        let elsewhere = counter(&format!("elsewhere.{s}.t"), "n").unwrap();
        let hidden = counter(&format!("{s}.nothing"), "n").unwrap();
        each([at(elsewhere.inc(1), 1), at(cell(s, "n").inc(1), 1), at(hidden.inc(1), 1)])
    })
    .await;
    assert_eq!(report.dead, 2, "{report:?}");
}

#[tokio::test]
async fn a_composed_cell_that_has_too_many_arguments_goes_out_in_parts() {
    let schema = T.replace("word text", "word text, extra jsonb");
    let report = agree(&schema, &["t"], |s| {
        let ids: Vec<Value> = (0..65_000_i64).map(|id| (id + 1).into()).collect();
        let text = format!("id IN ({}?)", "?,".repeat(ids.len() - 1));
        let extra = || zmsg_core::sql::map(&format!("{s}.t"), "extra").unwrap().where_(&text, &ids).unwrap();
        each((0..4).map(|n| (0..90).fold(extra(), |it, k| it.set(format!("k{n}-{k}"), k)).build().unwrap()))
    })
    .await;
    assert_eq!(report.dead, 0, "{report:?}");
}

const LISTS: &str = "CREATE TABLE {s}.t (id bigint PRIMARY KEY, n bigint, m bigint DEFAULT 7); \
     INSERT INTO {s}.t SELECT i, 10, 10 FROM generate_series(1, 5) AS i; \
     CREATE TABLE {s}.who (id bigint PRIMARY KEY, at bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)";

#[tokio::test]
async fn a_list_does_not_die_of_what_a_dead_one_did() {
    let report = agree(LISTS, &["t", "who"], |s| {
        let who = |id: i64| raw(s, "INSERT INTO {s}.who VALUES (?, ?)", &[id.into(), id.into()]);
        let gone = || at(cell(s, "gone").inc(1), 1);
        vec![
            vec![at(cell(s, "n").inc(1), 1)],
            // Each would die of the one before it, if that one were not dead.
            vec![who(1), gone()],
            vec![who(1), who(2), at(cell(s, "n").mul(3), 1), at(cell(s, "gone").inc(1), 9)],
            vec![who(2), at(cell(s, "n").set(5), 1), who(3)],
            vec![at(cell(s, "n").inc(1), 1), at(cell(s, "n").inc(1), 2)],
            vec![who(3), at(cell(s, "n").set(6), 1)],
            vec![at(cell(s, "n").mul(2), 1)],
        ]
    })
    .await;
    assert_eq!(
        report.dead, 3,
        "two lists that touch what is not there, and one that comes twice: {report:?}"
    );
}

#[tokio::test]
async fn lists_are_applied_as_a_whole_or_not_at_all_whatever_is_beside_them() {
    let setting = std::env::var("ZMSG_SEED").ok().map(|it| it.parse().unwrap());
    for seed in setting.map_or(0..6, |seed: u64| seed..seed + 1) {
        println!("ZMSG_SEED={seed} repeats it");
        agree(LISTS, &["t", "who"], |s| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let one = |rng: &mut fastrand::Rng| {
                let id = rng.i64(1..8);
                let n = rng.i64(1..4);
                match rng.u8(..20) {
                    0 | 1 => raw(s, "INSERT INTO {s}.who VALUES (?, ?)", &[rng.i64(..30).into(), n.into()]),
                    2 | 3 => at(cell(s, "n").set(i64::MAX).inc(1), id.min(5)),
                    4..8 => at(cell(s, "n").mul(n), id),
                    8..10 => at(cell(s, "n").set(n), id),
                    10..13 => {
                        let it = cell(s, "m").inc(n).where_("id = ?", [id + 100]).unwrap();
                        it.or_insert(&[("id", (id + 100).into())]).unwrap().build().unwrap()
                    }
                    _ => at(cell(s, "n").inc(n), id),
                }
            };
            let list = |rng: &mut fastrand::Rng| {
                // In front: it is found while a list is prepared, whatever its other tasks would be told.
                let gone = (rng.u8(..10) == 0).then(|| at(cell(s, "gone").inc(1), 1));
                gone.into_iter().chain((0..rng.usize(1..4)).map(|_| one(rng))).collect()
            };
            (0..150).map(|_| list(&mut rng)).collect()
        })
        .await;
    }
}

#[tokio::test]
async fn one_of_two_spellings_of_a_row_may_be_refused() {
    let schema =
        "CREATE TABLE {s}.t (id numeric PRIMARY KEY, n bigint); INSERT INTO {s}.t VALUES (1, 1), (2, 1)";
    let decimal = |text: &str| Value::from(zmsg_core::value::Decimal::parse(text).unwrap());
    let report = agree(schema, &["t"], |s| {
        each([
            at(cell(s, "n").inc(i64::MAX - 5), decimal("1.0")),
            at(cell(s, "n").inc(i64::MAX - 5), decimal("1.00")),
            at(cell(s, "n").inc(1), decimal("2")),
        ])
    })
    .await;
    assert_eq!(report.dead, 1, "{report:?}");
}

#[tokio::test]
async fn a_row_that_a_policy_refuses_says_nothing_of_the_next_operation() {
    let schema = "CREATE TABLE {s}.t (id bigint PRIMARY KEY, n bigint); INSERT INTO {s}.t VALUES (1, 1); \
         CREATE FUNCTION {s}.policy() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION USING ERRCODE = '42501'; END $$; \
         CREATE TRIGGER policy BEFORE UPDATE ON {s}.t FOR EACH ROW WHEN (NEW.n < 0) EXECUTE FUNCTION {s}.policy()";
    let report =
        agree(schema, &["t"], |s| each([1, -100, 2, -100, 4].map(|n| at(cell(s, "n").inc(n), 1)))).await;
    assert_eq!(report.dead, 2, "{report:?}");
}
