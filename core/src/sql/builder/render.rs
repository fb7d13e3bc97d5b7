//! The statement of a shape, for PostgreSQL.

use super::operation::Op;
use super::shape::{CellKind, Insert, Shape};
use crate::sql::ident::push_quoted;

/// The whole statement.
pub(super) fn statement(shape: &Shape) -> String {
    let mut sql = if shape.insert.is_empty() { update(shape) } else { upsert(shape) };
    if let Some(list) = &shape.returning {
        sql.push_str(" RETURNING ");
        sql.push_str(list);
    }
    sql
}

fn update(shape: &Shape) -> String {
    let (table, column) = (&shape.place.table, &shape.place.column);
    let value = expression(shape, column.quoted());
    let mut sql = format!("UPDATE {table} SET {column} = {value}");
    if !shape.wheres.is_empty() {
        sql.push_str(" WHERE ");
        push_wheres(shape, &mut sql);
    }
    sql
}

/// The column of the rows that WHERE finds.
pub(super) fn select(shape: &Shape) -> String {
    let (table, column) = (&shape.place.table, &shape.place.column);
    let mut sql = format!("SELECT {table}.{column} FROM {table}");
    if !shape.wheres.is_empty() {
        sql.push_str(" WHERE ");
        push_wheres(shape, &mut sql);
    }
    sql
}

/// One INSERT that becomes an update where the row exists.
///
/// The value it proposes is what the operations make of the row as it stands, if there is one. A proposed value is
/// checked even if the row then turns out to exist: from 0, a `dec` would break `CHECK (likes >= 0)` of a row that
/// can well afford it.
///
/// The row is looked up by the parameter that WHERE has for the key, not by the one of VALUES: a comparison may want
/// another type than the column (`text` for `varchar`), and a parameter has one type.
///
/// In DO UPDATE a bare column name would be ambiguous between the row and the proposed one; the inner SELECT gives
/// the caller's WHERE a scope in which the row's names come first.
fn upsert(shape: &Shape) -> String {
    let (table, column) = (&shape.place.table, &shape.place.column);
    let row = quoted(table.last());
    let given = shape.insert.iter().find(|it| it.column == *column);
    let others: Vec<&Insert> = shape.insert.iter().filter(|it| it.column != *column).collect();
    let keys: Vec<&Insert> = others.iter().copied().filter(|it| it.key.is_some()).collect();

    let names = join(&others, |it| it.column.quoted().to_owned());
    let values = join(&others, |it| parameter(shape, it.slot));
    let target = join(&keys, |it| it.column.quoted().to_owned());
    let found: Vec<String> =
        keys.iter().filter_map(|it| Some(format!("{row}.{} = {}", it.column, it.key.as_deref()?))).collect();
    let stored = format!("(SELECT {row}.{column} FROM {table} WHERE {})", found.join(" AND "));
    let start = match given {
        Some(given) => format!("COALESCE({stored}, {})", parameter(shape, given.slot)),
        None => stored,
    };
    let mut proposed = expression(shape, &start);
    if given.is_some() && matches!(shape.ops.first(), Some(Op::Set(_) | Op::Clean)) {
        // A constant asks for no start, but a parameter that the text does not name has no type.
        proposed = format!("CASE WHEN TRUE THEN {proposed} ELSE {start} END");
    }
    let changed = expression(shape, &format!("{row}.{column}"));
    let mut sql = format!(
        "INSERT INTO {table} ({names}, {column}) VALUES ({values}, {proposed}) \
         ON CONFLICT ({target}) DO UPDATE SET {column} = {changed} WHERE (SELECT "
    );
    push_wheres(shape, &mut sql);
    sql.push_str(&format!(" FROM (SELECT {row}.*) AS {row})"));
    sql
}

fn push_wheres(shape: &Shape, sql: &mut String) {
    for (index, it) in shape.wheres.iter().enumerate() {
        if index > 0 {
            sql.push_str(" AND ");
        }
        it.fragment.render(|param| it.first + param as u32 + 1, sql);
    }
}

/// The operations applied to `stored`, inside out.
fn expression(shape: &Shape, stored: &str) -> String {
    let (start, ops) = match shape.ops.split_first() {
        Some((constant @ (Op::Set(_) | Op::Clean), rest)) => {
            (constant_start(shape, constant, rest, stored), rest)
        }
        _ => (stored_start(shape.kind, stored), &*shape.ops),
    };
    let mut sql: String = ops.iter().rev().map(|op| opening(op)).collect();
    sql.push_str(&start);
    for op in ops {
        sql.push_str(&closing(shape, op));
    }
    sql
}

/// The stored value, NULL read as empty. What is not an array or an object is refused by a function that takes only
/// these: `||` would turn it into an array without a word.
fn stored_start(kind: CellKind, stored: &str) -> String {
    match kind {
        CellKind::Counter => format!("COALESCE({stored}, 0)"),
        CellKind::Slice => {
            let value = format!("COALESCE({stored}, '[]')");
            format!("CASE WHEN jsonb_array_length({value}) >= 0 THEN {value} END")
        }
        CellKind::Map => {
            let value = format!("COALESCE({stored}, '{{}}')");
            format!(
                "CASE jsonb_typeof({value}) WHEN 'object' THEN {value} \
                 ELSE (SELECT jsonb_object_agg(j.key, j.value) FROM jsonb_each({value}) AS j) END"
            )
        }
    }
}

/// A constant. With operations after it a counter takes the column's type first, as it would have if each had run
/// alone; the branch that is never taken gives it.
fn constant_start(shape: &Shape, op: &Op, rest: &[Op], stored: &str) -> String {
    let value = match (op, shape.kind) {
        (Op::Set(n), _) => parameter(shape, *n),
        (_, CellKind::Counter) => "0".to_owned(),
        _ => return "'[]'::jsonb".to_owned(),
    };
    if rest.is_empty() { value } else { format!("CASE WHEN TRUE THEN {value} ELSE {stored} END") }
}

fn opening(op: &Op) -> &'static str {
    match op {
        Op::Delete(_) => "COALESCE((SELECT jsonb_agg(x.e ORDER BY x.n) FROM jsonb_array_elements(",
        _ => "(",
    }
}

fn closing(shape: &Shape, op: &Op) -> String {
    let param = |index: &u32| parameter(shape, *index);
    match op {
        Op::Inc(n) => format!(" + {})", param(n)),
        Op::Dec(n) => format!(" - {})", param(n)),
        Op::Mul(n) => format!(" * {})", param(n)),
        Op::Add(e) => format!(" || jsonb_build_array({}))", param(e)),
        Op::Delete(e) => format!(") WITH ORDINALITY AS x (e, n) WHERE x.e <> {}), '[]')", param(e)),
        Op::Put { key, value } => format!(" || jsonb_build_object({}, {}))", param(key), param(value)),
        Op::Remove(key) => format!(" - {})", param(key)),
        // They come first and have replaced what was before them.
        Op::Set(_) | Op::Clean => ")".to_owned(),
    }
}

/// `$n` with its cast.
fn parameter(shape: &Shape, index: u32) -> String {
    format!("${}{}", index + 1, shape.roles[index as usize].cast())
}

fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    push_quoted(&mut out, name);
    out
}

fn join(inserts: &[&Insert], show: impl Fn(&Insert) -> String) -> String {
    inserts.iter().map(|it| show(it)).collect::<Vec<_>>().join(", ")
}
