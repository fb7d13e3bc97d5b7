//! Statements that change many rows at once: what a batch becomes.
//!
//! ```text
//! lock     SELECT … FOR UPDATE       all rows of a table, in the order of their keys
//! insert   INSERT … DO NOTHING       rows of `or_insert` that are missing, with what the operations start from
//! preview  SELECT                    one cell as it will be
//! update   UPDATE … FROM unnest(…)   every column of every row, one statement; gives the positions of the rows found
//! ```
//! Keys and forms travel as one array per column, so the text depends on the shape alone and is prepared once.
//!
//! Invariants:
//! - What an UPDATE makes of a cell is what its operations make of it one by one (`ops` has the law).
//! - Every generated parameter has a cast. Names are quoted; values are parameters.
//! - Rows are in the order of their keys' bytes, so that two batches meet them in one order.

mod arrays;
mod counters;
mod maps;
mod preview;
mod slices;

use std::sync::Arc;

use smallvec::SmallVec;

use self::arrays::Arrays;
use super::{CellKind, Name, Rendered};
use crate::ops::Form;
use crate::value::Value;

pub(crate) use preview::{Preview, Seen};

/// What the arrays are called in the statements.
const INPUT: &str = "zmsg_in";

/// A column that WHERE compares with a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    /// As the catalogue has it.
    pub column: Box<str>,
    /// The type that the parameter has: the column's, or the one that WHERE casts it to.
    pub ty: Box<str>,
}

/// A column of `or_insert` and its type.
#[derive(Debug, Clone)]
pub(crate) struct InsertColumn {
    pub column: Arc<Name>,
    pub ty: Box<str>,
}

/// One row: its key, what it is inserted with, and one form for each column.
pub(crate) struct Row<'a> {
    pub key: Vec<Value>,
    pub insert: Vec<Value>,
    pub forms: SmallVec<[&'a Form; 1]>,
}

/// Rows of one table that are found by the same columns and changed in the same ones.
pub(crate) struct RowSet<'a> {
    pub table: &'a Name,
    pub keys: &'a [KeyColumn],
    pub columns: &'a [(Arc<Name>, CellKind)],
    pub insert: &'a [InsertColumn],
    /// Those of `columns` that a row which is inserted has its DEFAULT in.
    pub left_out: &'a [Arc<Name>],
    pub rows: Vec<Row<'a>>,
    /// Whether a key means one row at most, and keys that differ different rows: then the number of rows changed says
    /// all, and no position has to be given back.
    pub one_each: bool,
}

impl<'a> RowSet<'a> {
    /// For questions about rows that change nothing.
    pub(crate) fn of_keys(table: &'a Name, keys: &'a [KeyColumn], rows: Vec<Row<'a>>) -> RowSet<'a> {
        RowSet { table, keys, columns: &[], insert: &[], left_out: &[], rows, one_each: false }
    }
}

impl RowSet<'_> {
    /// Locks the rows that are there, in the order given.
    pub(crate) fn lock(&self) -> Rendered {
        let mut arrays = Arrays::default();
        let found = self.find(&mut arrays);
        let (table, source) = (self.table, arrays.source());
        arrays.rendered(format!(
            "WITH locked AS (SELECT 1 FROM {source} JOIN {table} ON {found} ORDER BY {INPUT}.n FOR UPDATE OF {}) \
             SELECT count(*) FROM locked",
            quoted(self.table.last())
        ))
    }

    /// Inserts the rows that are missing; nothing if there is no `or_insert`.
    pub(crate) fn insert(&self) -> Option<Rendered> {
        if self.insert.is_empty() {
            return None;
        }
        let mut arrays = Arrays::default();
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (index, it) in self.insert.iter().enumerate() {
            let column = arrays.push(&it.ty, self.rows.iter().map(|row| row.insert[index].clone()));
            values.push(match self.columns.iter().find(|(name, _)| *name == it.column) {
                Some((_, kind)) => format!("COALESCE({column}, {})", start_of(*kind)),
                None => column,
            });
            names.push(it.column.quoted());
        }
        for (name, kind) in self.columns {
            if !names.contains(&name.quoted()) && !self.left_out.contains(name) {
                names.push(name.quoted());
                values.push(start_of(*kind).to_owned());
            }
        }
        let target: Vec<String> = self.keys.iter().map(|key| quoted(&key.column)).collect();
        let (table, source) = (self.table, arrays.source());
        Some(arrays.rendered(format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {source} ORDER BY {INPUT}.n ON CONFLICT ({}) DO NOTHING",
            names.join(", "),
            values.join(", "),
            target.join(", ")
        )))
    }

    /// Gives a row if two of the keys find one row.
    pub(crate) fn collisions(&self) -> Rendered {
        let mut arrays = Arrays::default();
        let found = self.find(&mut arrays);
        let keys = self.keys.iter().map(|key| format!("{}.{}", self.table, quoted(&key.column)));
        let (table, source, keys) = (self.table, arrays.source(), keys.collect::<Vec<_>>().join(", "));
        arrays.rendered(format!(
            "SELECT 1 FROM {source} JOIN {table} ON {found} GROUP BY {keys} HAVING count(DISTINCT {INPUT}.n) > 1 LIMIT 1"
        ))
    }

    /// Changes the rows. Unless there is one for each key at most, it gives the positions (from 1) of those that were
    /// found, once for each row in the table.
    pub(crate) fn update(&self) -> Rendered {
        let mut arrays = Arrays::default();
        let found = self.find(&mut arrays);
        let mut changes = Vec::with_capacity(self.columns.len());
        for (index, (name, kind)) in self.columns.iter().enumerate() {
            let forms = self.rows.iter().map(|row| row.forms[index]);
            let stored = format!("{}.{name}", self.table);
            let expression = match kind {
                CellKind::Counter => counters::expression(forms, &stored, &mut arrays),
                CellKind::Slice => slices::expression(forms, &stored, &mut arrays),
                CellKind::Map => maps::expression(forms, &stored, &mut arrays),
            };
            changes.push(format!("{name} = {expression}"));
        }
        let (table, changes) = (self.table, changes.join(", "));
        let sql = if self.one_each {
            format!("UPDATE {table} SET {changes} FROM {} WHERE {found}", arrays.plain_source())
        } else {
            format!("UPDATE {table} SET {changes} FROM {} WHERE {found} RETURNING {INPUT}.n", arrays.source())
        };
        arrays.rendered(sql)
    }

    /// The condition that joins the arrays with the table.
    fn find(&self, arrays: &mut Arrays) -> String {
        let mut found = Vec::with_capacity(self.keys.len());
        for (index, key) in self.keys.iter().enumerate() {
            let value = arrays.push(&key.ty, self.rows.iter().map(|row| row.key[index].clone()));
            found.push(format!("{}.{} = {value}", self.table, quoted(&key.column)));
        }
        found.join(" AND ")
    }
}

/// What operations start from in a row that is inserted.
fn start_of(kind: CellKind) -> &'static str {
    match kind {
        CellKind::Counter => "0",
        CellKind::Slice => "'[]'",
        CellKind::Map => "'{}'",
    }
}

fn quoted(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    super::ident::push_quoted(&mut out, name);
    out
}
