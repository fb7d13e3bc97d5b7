//! A cell without its operations, as bytes: what tells it from others, and all that is needed to make it again.
//!
//! Two operations are on the same cell if these bytes are the same. They are also what a journal keeps of a cell, so
//! they are read back as untrusted input: what they name is checked again as if a caller had given it.

use std::sync::Arc;

use super::shape::{CellKind, Place, Shape};
use super::{Arg, Cell};
use crate::error::Result;
use crate::sql::Rendered;
use crate::sql::fragment::Fragment;
use crate::sql::ident::Name;
use crate::value::Value;
use crate::value::codec::{Reader, write_bytes, write_value, write_varint};

impl Cell {
    /// Appends the identity: kind, table, column, WHERE texts, columns of `or_insert`, and the typed arguments of both.
    pub(crate) fn write_identity(&self, out: &mut Vec<u8>) {
        let shape = &self.shape;
        out.push(match shape.kind {
            CellKind::Counter => 1,
            CellKind::Slice => 2,
            CellKind::Map => 3,
        });
        write_bytes(shape.place.table.quoted().as_bytes(), out);
        write_bytes(shape.place.column.quoted().as_bytes(), out);
        write_varint(shape.wheres.len() as u64, out);
        for it in &shape.wheres {
            write_bytes(it.fragment.text().as_bytes(), out);
            self.args[Shape::arguments_of(it)]
                .iter()
                .for_each(|arg| write_value(super::cell::value_of(arg), out));
        }
        write_varint(shape.insert.len() as u64, out);
        for it in &shape.insert {
            write_bytes(it.column.quoted().as_bytes(), out);
            write_value(super::cell::value_of(&self.args[it.slot as usize]), out);
        }
    }

    /// Reads an identity; the cell has no operation yet. `None` if the bytes are none.
    pub(crate) fn read_identity(reader: &mut Reader<'_>) -> Option<Cell> {
        let kind = match reader.byte()? {
            1 => CellKind::Counter,
            2 => CellKind::Slice,
            3 => CellKind::Map,
            _ => return None,
        };
        let place = Place::of(reader.text()?, reader.text()?).ok()?;
        let mut cell = Cell::new(kind, place);
        for _ in 0..reader.count()? {
            let fragment = Fragment::of(reader.text()?).ok()?;
            let args: Option<Vec<Arg>> =
                (0..fragment.params()).map(|_| reader.value().map(Arg::Value)).collect();
            cell.push_where(fragment, args?.into_iter());
        }
        let mut columns = Vec::new();
        for _ in 0..reader.count()? {
            columns.push((Name::of_column(reader.text()?).ok()?, Arg::Value(reader.value()?)));
        }
        if !columns.is_empty() {
            cell.push_insert(columns);
        }
        cell.allow_all_rows();
        Some(cell)
    }

    /// The cell with the same rows, other arguments of WHERE and `or_insert`, and no operation. `args` are in the order
    /// of [`Cell::row_arguments`].
    pub(crate) fn at(&self, args: &[Value]) -> Cell {
        let mut cell = Cell::new(self.shape.kind, self.shape.place.clone());
        let mut args = args.iter().cloned().map(Arg::Value);
        for it in &self.shape.wheres {
            let of_fragment: Vec<Arg> = args.by_ref().take(it.fragment.params()).collect();
            cell.push_where(it.fragment.clone(), of_fragment.into_iter());
        }
        let columns: Vec<(Arc<Name>, Arg)> =
            self.shape.insert.iter().map(|it| it.column.clone()).zip(args).collect();
        if !columns.is_empty() {
            cell.push_insert(columns);
        }
        cell.allow_all_rows();
        cell
    }

    /// The arguments that say which rows: those of WHERE, then those of `or_insert`.
    pub(crate) fn row_arguments(&self) -> Vec<Value> {
        let of_wheres = self.shape.wheres.iter().flat_map(Shape::arguments_of);
        let of_insert = self.shape.insert.iter().map(|it| it.slot as usize);
        of_wheres.chain(of_insert).map(|index| super::cell::value_of(&self.args[index]).clone()).collect()
    }

    /// The statement that reads this cell.
    pub(crate) fn select(&self) -> Rendered {
        let cell = self.at(&self.row_arguments());
        let of_wheres = cell.shape.wheres.iter().flat_map(Shape::arguments_of);
        let params = of_wheres.map(|index| super::cell::value_of(&cell.args[index]).clone()).collect();
        Rendered { sql: super::render::select(&cell.shape).into(), params }
    }

    /// The statement that changes this cell alone; an error says what is wrong with it.
    pub(crate) fn statement(self) -> Result<Rendered> {
        let cell = Arc::new(self).finish()?;
        Ok(Rendered { sql: cell.text(), params: cell.params() })
    }
}
