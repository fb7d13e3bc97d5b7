//! Operations: a list for every row, of several columns, mixed.

use fastrand::Rng;
use zmsg_core::sql::{Arg, Builder, Counter, Task, counter, map, slice, sql};
use zmsg_core::value::{Decimal, Value};

use super::world::{COLUMNS, Kind, World};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mix {
    /// Only `inc` and `dec` of numbers.
    Commuting,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Insert {
    Never,
    Always,
    /// Also without, and with other values.
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Raw {
    None,
    Some,
    /// Also with a batch key, of which the last counts.
    Keyed,
}

/// See [`super::style_of`].
#[derive(Debug, Clone)]
pub struct Style {
    pub mix: Mix,
    /// How many spellings of WHERE there are.
    pub spellings: usize,
    /// Whether keys are spelled in another way now and then, and WHERE is no key.
    pub wild: bool,
    pub insert: Insert,
    pub raw: Raw,
}

/// One task, on either table.
pub struct Move {
    /// `None` if it is of many rows.
    pub row: Option<usize>,
    /// A later statement has the same batch key.
    pub superseded: bool,
    make: Box<dyn Fn(&str) -> Task + Send + Sync>,
}

impl Move {
    pub fn task(&self, table: &str) -> Task {
        (self.make)(table)
    }

    pub fn told(&self, table: &str) -> String {
        let rendered = self.task(table).render();
        format!("{} {:?}", rendered.sql, rendered.params)
    }
}

#[derive(Debug, Clone)]
struct Place {
    qualified: bool,
    wheres: Vec<(String, Vec<Value>)>,
    insert: Vec<(&'static str, Value)>,
    /// No WHERE.
    all: bool,
}

/// One operation of a builder.
#[derive(Debug, Clone)]
enum Act {
    Inc(Value),
    Dec(Value),
    Mul(Value),
    Set(Value),
    Clean,
    Add(Value),
    Delete(Value),
    Put(&'static str, Value),
    Remove(&'static str),
}

pub fn moves(rng: &mut Rng, world: &World, style: &Style) -> Vec<Move> {
    let mut lists: Vec<Vec<Move>> = Vec::with_capacity(world.rows);
    for row in 0..world.rows {
        let few = if rng.u8(..4) == 0 { 2 } else { COLUMNS.len() };
        lists.push((0..rng.usize(1..9)).map(|_| one(rng, world.kind, row, few, style)).collect());
    }
    let mut mixed = Vec::new();
    lists.iter_mut().for_each(|list| list.reverse());
    while !lists.is_empty() {
        let at = rng.usize(..lists.len());
        match lists[at].pop() {
            Some(it) => mixed.push(it),
            None => drop(lists.swap_remove(at)),
        }
    }
    if style.wild {
        for _ in 0..rng.usize(..3) {
            let place = Place { qualified: rng.bool(), wheres: Vec::new(), insert: Vec::new(), all: true };
            let column = if style.mix == Mix::Commuting { "i8" } else { COLUMNS[rng.usize(..3)] };
            let acts = vec![Act::Inc(rng.i64(1..9).into())];
            let at = rng.usize(..=mixed.len());
            mixed.insert(at, built(None, column, acts, place));
        }
    }
    supersede(&mut mixed);
    mixed
}

fn one(rng: &mut Rng, kind: Kind, row: usize, few: usize, style: &Style) -> Move {
    let key = kind.key(row, style.wild && rng.u8(..4) == 0);
    if style.raw != Raw::None && rng.u8(..12) == 0 {
        return raw(rng, kind, row, &key, style.raw);
    }
    let column = match style.mix {
        Mix::Commuting => COLUMNS[rng.usize(..few.min(6))],
        Mix::All => COLUMNS[(row + rng.usize(..few)) % COLUMNS.len()],
    };
    let acts = (0..rng.usize(1..3)).map(|_| act(rng, column, style.mix)).collect();
    let inserts = match style.insert {
        Insert::Never => false,
        Insert::Always => true,
        Insert::Mixed => rng.u8(..16) > 0,
    };
    let mut place = Place {
        qualified: rng.u8(..8) == 0 && style.wild,
        wheres: wheres(rng, kind, &key, inserts, style),
        insert: Vec::new(),
        all: false,
    };
    if inserts {
        place.insert = kind.key_columns().iter().copied().zip(key).collect();
        if row.is_multiple_of(3) {
            let n = if style.insert == Insert::Mixed { rng.i64(1..4) } else { 1 };
            place.insert.push(("note", Value::text(format!("note {n}"))));
            place.insert.push(("i8", (n * 10).into()));
        }
    }
    built(Some(row), column, acts, place)
}

/// Ways to say the same rows. `{t}` is the table's name.
fn wheres(
    rng: &mut Rng,
    kind: Kind,
    key: &[Value],
    inserts: bool,
    style: &Style,
) -> Vec<(String, Vec<Value>)> {
    let spelling = rng.usize(..style.spellings);
    if let [p, q] = key {
        let (p, q) = (p.clone(), q.clone());
        return match spelling {
            0 | 1 => vec![("p = ? AND q = ?".into(), vec![p, q])],
            2 => vec![("q = ? AND p = ?".into(), vec![q, p])],
            3 => vec![("q = ?".into(), vec![q]), ("? = p".into(), vec![p])],
            _ if inserts || !style.wild => vec![("{t}.q = ?".into(), vec![q]), ("\"p\"=?".into(), vec![p])],
            4 => vec![("(p, q) = (?, ?)".into(), vec![p, q])],
            _ => vec![("p = ? AND q = ? AND true".into(), vec![p, q])],
        };
    }
    let text = match spelling {
        0 => "id = ?",
        1 => "? = id",
        2 => "\"id\"=?",
        3 => "{t}.id = ?",
        4 if kind == Kind::Int && matches!(key[0], Value::Int(_)) => "id = ?::int8",
        _ if inserts || !style.wild => "id=?",
        4 => "id IN (?)",
        _ => ["(id = ?)", "id = ? AND true", "id = ? AND (i4 < 900 OR i4 IS NULL)", "id = ANY(ARRAY[?])"]
            [rng.usize(..3)],
    };
    vec![(text.into(), key.to_vec())]
}

fn act(rng: &mut Rng, column: &str, mix: Mix) -> Act {
    let decimal = |text: &str| Value::from(Decimal::parse(text).unwrap());
    let wild = mix == Mix::All;
    match column {
        "tags" => {
            let elements = [
                Value::Int(1),
                Value::Float(1.0),
                Value::Null,
                Value::text("a"),
                Value::Json(r#"{"x":1}"#.into()),
                Value::Json(r#"{ "x" : 1.0 }"#.into()),
                Value::Json("[1, 2]".into()),
            ];
            let element = elements[rng.usize(..elements.len())].clone();
            match rng.u8(..10) {
                0 => Act::Clean,
                1..4 => Act::Delete(element),
                _ => Act::Add(element),
            }
        }
        "extra" => {
            let key = ["k1", "k2", "é", "a\"b"][rng.usize(..4)];
            let values = [Value::Int(1), Value::Null, Value::Json("[1,  2]".into()), Value::text("x\ny")];
            if rng.bool() { Act::Remove(key) } else { Act::Put(key, values[rng.usize(..4)].clone()) }
        }
        _ => {
            let number = match column {
                "num" => decimal(["1", "0.50", "-2.125", "3.0"][rng.usize(..4)]),
                "price" => decimal(["1", "0.25", "2.50", "-1.75"][rng.usize(..4)]),
                "f" => Value::Float([0.5, 1.0, 0.1, -3.25][rng.usize(..4)]),
                _ => rng.i64(-40..40).into(),
            };
            match rng.u8(..12) {
                0 if wild => Act::Clean,
                1 if wild => Act::Set(number),
                2 | 3 if wild => Act::Mul(match column {
                    "i2" => rng.i64(-1..2).into(),
                    "num" => decimal(["2", "1.0", "-0.5", "0.10"][rng.usize(..4)]),
                    "f" => Value::Float([2.0, 0.3][rng.usize(..2)]),
                    _ => rng.i64(-1..4).into(),
                }),
                4..7 => Act::Dec(number),
                _ => Act::Inc(number),
            }
        }
    }
}

fn built(row: Option<usize>, column: &'static str, acts: Vec<Act>, place: Place) -> Move {
    let make = move |table: &str| {
        let name = if place.qualified { format!("public.{table}") } else { table.to_owned() };
        match column {
            "tags" => {
                let it = slice(&name, column).unwrap();
                let it = acts.iter().cloned().fold(it, |it, act| match act {
                    Act::Add(value) => it.add(value),
                    Act::Delete(value) => it.delete(value),
                    _ => it.clean(),
                });
                finish(it, table, &place)
            }
            "extra" => {
                let it = map(&name, column).unwrap();
                let it = acts.iter().cloned().fold(it, |it, act| match act {
                    Act::Put(key, value) => it.set(key, value),
                    Act::Remove(key) => it.delete(key),
                    other => panic!("{other:?}"),
                });
                finish(it, table, &place)
            }
            _ => {
                let it = counter(&name, column).unwrap();
                finish(acts.iter().cloned().fold(it, number), table, &place)
            }
        }
    };
    Move { row, superseded: false, make: Box::new(make) }
}

fn number(it: Counter, act: Act) -> Counter {
    match act {
        Act::Inc(n) => it.inc(n),
        Act::Dec(n) => it.dec(n),
        Act::Mul(n) => it.mul(n),
        Act::Set(n) => it.set(n),
        _ => it.clean(),
    }
}

fn finish<K>(builder: Builder<K>, table: &str, place: &Place) -> Task {
    let spelled = |it: Builder<K>, (text, args): &(String, Vec<Value>)| {
        it.where_(&text.replace("{t}", table), args).unwrap()
    };
    let mut it = place.wheres.iter().fold(builder, spelled);
    if !place.insert.is_empty() {
        let columns: Vec<(&str, Arg)> =
            place.insert.iter().map(|(name, value)| (*name, value.clone().into())).collect();
        it = it.or_insert(&columns).unwrap();
    }
    if place.all {
        it = it.all_rows();
    }
    it.build().unwrap()
}

/// SQL in the caller's words on one row.
fn raw(rng: &mut Rng, kind: Kind, row: usize, key: &[Value], style: Raw) -> Move {
    let found = kind.key_columns().iter().map(|it| format!("{it} = ?")).collect::<Vec<_>>().join(" AND ");
    let mut values = vec![Value::Int(rng.i64(1..9))];
    values.extend(key.iter().cloned());
    let text = if rng.bool() {
        format!("UPDATE {{t}} SET i4 = coalesce(i4, 0) * 2 + ? WHERE {found}")
    } else {
        format!("UPDATE public.{{t}} SET i8 = ? WHERE {found}")
    };
    let batch_key = (style == Raw::Keyed && rng.bool()).then(|| format!("key {}", row % 7));
    let make = move |table: &str| {
        let task = sql(&text.replace("{t}", table), &values).unwrap();
        match &batch_key {
            Some(key) => task.with_batch_key(key),
            None => task,
        }
    };
    Move { row: Some(row), superseded: false, make: Box::new(make) }
}

/// Of one batch key the last statement runs.
fn supersede(moves: &mut [Move]) {
    let mut seen = std::collections::HashSet::new();
    for it in moves.iter_mut().rev() {
        let task = it.task("a");
        if let (None, Some(key)) = (task.cell(), task.batch_key()) {
            it.superseded = !seen.insert(key.to_owned());
        }
    }
}
