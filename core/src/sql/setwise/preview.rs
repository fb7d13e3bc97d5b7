//! One cell as it will be: its value twice, beside the watermark that says which of the two counts.

use super::arrays::Arrays;
use super::{INPUT, InsertColumn, KeyColumn, counters, maps, quoted, slices, start_of};
use crate::ops::Form;
use crate::sql::{CellKind, Name, Rendered};
use crate::value::{Row, Value};

/// The cell and what is pending for it.
pub(crate) struct Preview<'a> {
    pub table: &'a Name,
    pub column: &'a Name,
    /// The column's type with its scale: the value is shown as it would be stored.
    pub ty: &'a str,
    pub kind: CellKind,
    pub keys: Vec<(KeyColumn, Value)>,
    pub insert: Vec<(InsertColumn, Value)>,
    pub both: Option<&'a Form>,
    pub active: Option<&'a Form>,
}

/// The answer.
pub(crate) struct Seen {
    /// 0 if there is no row for it.
    pub watermark: u64,
    /// Whether the row is there.
    pub found: bool,
    pub both: Value,
    pub active: Value,
}

impl Preview<'_> {
    /// The question: one snapshot sees the watermark of `stream` and the row.
    pub(crate) fn question(&self, stream: Value) -> Rendered {
        let mut arrays = Arrays::default();
        let mut found = Vec::with_capacity(self.keys.len());
        for (key, value) in &self.keys {
            let input = arrays.push(&key.ty, std::iter::once(value.clone()));
            found.push(format!("{}.{} = {input}", self.table, quoted(&key.column)));
        }
        let given = self.insert.iter().find(|(it, _)| it.column.quoted() == self.column.quoted());
        let start = match given {
            Some((it, value)) => {
                let given = arrays.push(&it.ty, std::iter::once(value.clone()));
                format!("COALESCE({given}, {})", start_of(self.kind))
            }
            None => start_of(self.kind).to_owned(),
        };
        let there = self.keys.first().map_or_else(
            || "true".to_owned(),
            |(key, _)| format!("{}.{} IS NOT NULL", self.table, quoted(&key.column)),
        );
        let stored = format!("CASE WHEN {there} THEN {}.{} ELSE {start} END", self.table, self.column);
        let both = self.expression(self.both, &stored, &mut arrays);
        let active = self.expression(self.active, &stored, &mut arrays);
        let stream = arrays.push("uuid", std::iter::once(stream));
        let (table, source) = (self.table, arrays.source());
        arrays.rendered(format!(
            "SELECT COALESCE((SELECT watermark FROM zmsg_journals WHERE stream = {stream}), 0), {there}, {both}, {active} \
             FROM {source} LEFT JOIN {table} ON {} ORDER BY {INPUT}.n",
            found.join(" AND ")
        ))
    }

    fn expression(&self, form: Option<&Form>, stored: &str, arrays: &mut Arrays) -> String {
        let Some(form) = form else { return stored.to_owned() };
        let forms = std::iter::once(form);
        let value = match self.kind {
            CellKind::Counter => counters::expression(forms, stored, arrays),
            CellKind::Slice => slices::expression(forms, stored, arrays),
            CellKind::Map => maps::expression(forms, stored, arrays),
        };
        format!("({value})::{}", self.ty)
    }
}

impl Seen {
    /// `None` if the row is none of [`Preview::question`]'s.
    pub(crate) fn of(row: &Row) -> Option<Seen> {
        match row.values.as_slice() {
            [Value::Int(watermark), Value::Bool(found), both, active] => Some(Seen {
                watermark: watermark.unsigned_abs(),
                found: *found,
                both: both.clone(),
                active: active.clone(),
            }),
            _ => None,
        }
    }
}
