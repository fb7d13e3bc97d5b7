//! Rows that are found in one way: by the same columns of the same table, with arguments of the same types.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::ops::{Class, Form};
use crate::sql::{Cell, CellKind, Name};
use crate::value::Value;
use crate::value::codec::{Reader, write_bytes, write_value, write_varint};

/// What a row costs beside its own bytes, about: its place in the tables, its first cell.
const ROW_OVERHEAD: usize = 200;
/// The same of a further cell, of a column and of a route, as measured with the allocator of the system.
pub(super) const CELL_OVERHEAD: usize = 2 * size_of::<(u16, State)>();
pub(super) const COLUMN_OVERHEAD: usize = 700;
pub(super) const ROUTE_OVERHEAD: usize = 2_000;
/// Columns of a table of PostgreSQL (its appendix "Limits"), as four kinds of cells at the most.
const MOST_COLUMNS: usize = 4 * 1_600;

/// What is composed of a cell.
pub(super) enum State {
    Composed(Form),
    /// Its operations do not compose; the flush reads them from the journal.
    Replayed,
}

/// A row that operations were accepted for.
pub(super) struct Row {
    /// The values of the key, as bytes.
    pub key: Box<[u8]>,
    /// The values of `or_insert`, as bytes.
    pub insert: Box<[u8]>,
    /// By column of the route.
    pub cells: SmallVec<[(u16, State); 1]>,
}

/// A column of a route.
pub(super) struct RouteColumn {
    pub name: Arc<Name>,
    pub kind: CellKind,
    /// The classes of operations that were accepted, as [`class_bit`] has them.
    pub classes: u8,
}

/// Rows found in one way, and what is to be done to them.
pub(super) struct Route {
    pub table: Name,
    /// Column and cast of each part of the key; `None` if WHERE is something else, and then there is one row.
    pub keys: Option<Vec<(Box<str>, Box<str>)>>,
    /// What the arguments of the key are.
    pub types: Vec<&'static str>,
    /// The columns of `or_insert`.
    pub insert: Vec<Arc<Name>>,
    /// For each column, a cell of this route: what a statement of its own is made from.
    pub templates: Vec<Cell>,
    pub columns: Vec<RouteColumn>,
    pub rows: Vec<Row>,
    pub index: HashMap<Box<[u8]>, u32, RandomState>,
    /// Whether its operations run one by one, in order, from the journal.
    pub ordered: bool,
}

/// Where a cell belongs: bytes that name its route, and those that name its row within.
#[derive(Default)]
pub(super) struct Placing {
    pub route: Vec<u8>,
    pub key: Vec<u8>,
    pub insert: Vec<u8>,
}

impl Placing {
    /// Two spellings of one WHERE give the same placing; arguments of different types different routes.
    pub(super) fn of(cell: &Cell) -> Placing {
        let mut placing = Placing::default();
        let out = &mut placing.route;
        write_bytes(cell.table().quoted().as_bytes(), out);
        match cell.key() {
            Some(parts) => {
                write_varint(parts.len() as u64, out);
                for part in &parts {
                    write_bytes(part.column.as_bytes(), out);
                    write_bytes(part.cast.as_bytes(), out);
                    write_bytes(part.value.type_name().as_bytes(), out);
                    write_value(part.value, &mut placing.key);
                }
            }
            None => {
                write_varint(0, out);
                cell.write_identity(out);
            }
        }
        for (column, value) in cell.insert() {
            write_bytes(column.quoted().as_bytes(), out);
            write_bytes(value.type_name().as_bytes(), out);
            write_value(value, &mut placing.insert);
        }
        placing
    }
}

impl Route {
    pub(super) fn of(cell: &Cell) -> Route {
        let own = |text: &str| -> Box<str> { text.into() };
        Route {
            table: cell.table().clone(),
            keys: cell.key().map(|parts| parts.iter().map(|it| (own(it.column), own(it.cast))).collect()),
            types: cell
                .key()
                .map(|parts| parts.iter().map(|it| it.value.type_name()).collect())
                .unwrap_or_default(),
            insert: cell.insert().map(|(column, _)| column.clone()).collect(),
            templates: Vec::new(),
            columns: Vec::new(),
            rows: Vec::new(),
            index: HashMap::default(),
            ordered: false,
        }
    }

    /// The column of this cell, if it is known here.
    pub(super) fn find_column(&self, cell: &Cell) -> Option<u16> {
        let same = |it: &RouteColumn| it.name.quoted() == cell.column().quoted() && it.kind == cell.kind();
        self.columns.iter().position(same).map(|at| at as u16)
    }

    /// The column of this cell; `true` if it is new here. `None` if it would be one more than any table has.
    pub(super) fn column(&mut self, cell: &Cell) -> Option<(u16, bool)> {
        if let Some(at) = self.find_column(cell) {
            return Some((at, false));
        }
        if self.columns.len() == MOST_COLUMNS {
            return None;
        }
        let name = Arc::new(cell.column().clone());
        self.columns.push(RouteColumn { name, kind: cell.kind(), classes: 0 });
        self.templates.push(cell.at(&cell.row_arguments()));
        Some((self.columns.len() as u16 - 1, true))
    }

    /// The cell of a column in a row, without operations.
    pub(super) fn cell(&self, row: &Row, column: u16) -> Cell {
        let template = &self.templates[column as usize];
        match self.keys {
            Some(_) => template.at_key(&read_values(&row.key), &read_values(&row.insert)),
            None => template.at(&template.row_arguments()),
        }
    }
}

impl Row {
    /// The memory of a row without operations, estimated.
    pub(super) fn overhead(key: &[u8], insert: &[u8]) -> usize {
        ROW_OVERHEAD + 2 * key.len() + insert.len()
    }

    /// Its memory with what is composed of it.
    pub(super) fn held(&self) -> usize {
        let forms = self.cells.iter().map(|(_, state)| match state {
            State::Composed(form) => form.bytes(),
            State::Replayed => 0,
        });
        let cells = CELL_OVERHEAD * self.cells.len().saturating_sub(1);
        Row::overhead(&self.key, &self.insert) + cells + forms.sum::<usize>()
    }

    /// What is composed of a column of this row, and the memory that it took to have a place for it.
    pub(super) fn state(&mut self, column: u16, kind: CellKind) -> (&mut State, usize) {
        match self.cells.iter().position(|(at, _)| *at == column) {
            Some(at) => (&mut self.cells[at].1, 0),
            None => {
                let more = if self.cells.is_empty() { 0 } else { CELL_OVERHEAD };
                self.cells.push((column, State::Composed(Form::new(kind.into()))));
                let last = self.cells.len() - 1;
                (&mut self.cells[last].1, more)
            }
        }
    }
}

/// The values that [`Placing`] wrote.
pub(super) fn read_values(bytes: &[u8]) -> Vec<Value> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(|| reader.value()).collect()
}

/// One bit for each class of operations.
pub(super) fn class_bit(class: Class) -> u8 {
    match class {
        Class::Add => 1,
        Class::Multiply => 2,
        Class::Other => 4,
    }
}

/// Whether operations of these classes commute.
pub(super) fn commute(classes: u8) -> bool {
    matches!(classes, 0..=2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::counter;

    #[test]
    fn a_route_has_no_more_columns_than_a_table_may_have() {
        let task = |name: String| {
            counter("t", &name).unwrap().inc(1).where_("id = ?", [1]).unwrap().build().unwrap()
        };
        let cells: Vec<_> = (0..=MOST_COLUMNS).map(|n| task(format!("c{n}"))).collect();
        let cell = |n: usize| cells[n].cell().unwrap();
        let mut route = Route::of(cell(0));
        for n in 0..MOST_COLUMNS {
            assert_eq!(route.column(cell(n)), Some((n as u16, true)));
        }
        assert_eq!(route.column(cell(MOST_COLUMNS)), None);
        assert_eq!(route.column(cell(7)), Some((7, false)));
    }
}
