//! Builders of operations on one cell: a counter, a JSONB array or a JSONB map in the rows that a WHERE names.
//!
//! A step takes the builder and gives the next one; a half-built one can be cloned, which is cheap, and used twice. What is wrong with an operation's
//! argument is said by [`Builder::build`], naming table and column; what is wrong with a text or a name, at once.
//!
//! How [`Builder::or_insert`] finds "the row": its columns that WHERE compares with `=` to a parameter, joined with
//! the rest by AND alone, are the key. They must be exactly the columns of a unique index, and their values the same
//! in both places. The rest of WHERE decides whether an existing row is changed; it never causes an insert. The
//! statement is one `INSERT … ON CONFLICT (key) DO UPDATE`, so that of two first likes at once none is lost.

mod cell;
mod counter;
mod identity;
mod map;
mod operation;
mod operations;
mod place;
mod render;
mod shape;
mod slice;

use std::marker::PhantomData;
use std::sync::Arc;

use super::args::{Arg, IntoArgs};
use super::clauses::returning_list;
use super::fragment::Fragment;
use super::ident::Name;
use super::task::{Task, count_error};
use crate::error::Result;

pub use cell::Cell;
pub use counter::CounterKind;
pub use map::MapKind;
pub use operation::Op;
pub use shape::CellKind;
use shape::Place;
pub use slice::SliceKind;

/// Operations on a numeric column; NULL reads as 0.
pub type Counter = Builder<CounterKind>;
/// Operations on a JSONB array; NULL reads as `[]`.
pub type Slice = Builder<SliceKind>;
/// Operations on a JSONB object; NULL reads as `{}`.
pub type Map = Builder<MapKind>;

/// A builder of operations on one cell; see [`Counter`], [`Slice`], [`Map`] for what each can do.
///
/// Clones share the parts until one of them goes on.
pub struct Builder<K> {
    cell: Arc<Cell>,
    batch_key: Option<Arc<str>>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Builder<K> {
    fn clone(&self) -> Builder<K> {
        Builder { cell: self.cell.clone(), batch_key: self.batch_key.clone(), kind: PhantomData }
    }
}

/// A table; [`table`] makes it.
#[derive(Debug, Clone)]
pub struct Table(Arc<Name>);

/// A column of a table, not yet said to be a counter, a slice or a map.
#[derive(Debug, Clone)]
pub struct Column(Arc<Place>);

/// A table by its name, possibly qualified: `feeds`, `public.feeds`.
pub fn table(name: &str) -> Result<Table> {
    Name::of_table(name).map(Table)
}

/// `table(table)?.column(column)?.counter()`.
pub fn counter(table: &str, column: &str) -> Result<Counter> {
    Ok(Column(Place::of(table, column)?).counter())
}

/// `table(table)?.column(column)?.slice()`.
pub fn slice(table: &str, column: &str) -> Result<Slice> {
    Ok(Column(Place::of(table, column)?).slice())
}

/// `table(table)?.column(column)?.map()`.
pub fn map(table: &str, column: &str) -> Result<Map> {
    Ok(Column(Place::of(table, column)?).map())
}

impl Table {
    /// One of its columns.
    pub fn column(&self, name: &str) -> Result<Column> {
        Place::of(self.0.quoted(), name).map(Column)
    }
}

impl Column {
    /// As a number: integer, `numeric` or float.
    pub fn counter(self) -> Counter {
        self.builder(CellKind::Counter)
    }

    /// As a JSONB array.
    pub fn slice(self) -> Slice {
        self.builder(CellKind::Slice)
    }

    /// As a JSONB object.
    pub fn map(self) -> Map {
        self.builder(CellKind::Map)
    }

    fn builder<K>(self, kind: CellKind) -> Builder<K> {
        Builder { cell: Arc::new(Cell::new(kind, self.0)), batch_key: None, kind: PhantomData }
    }
}

impl<K> Builder<K> {
    fn step(mut self, change: impl FnOnce(&mut Cell)) -> Builder<K> {
        change(Arc::make_mut(&mut self.cell));
        self
    }

    /// A condition with `?` for each argument; repeated calls are joined by AND. The text stands in parentheses that
    /// it cannot leave: balanced, without a semicolon, not ending in a comment.
    pub fn where_(self, text: &str, args: impl IntoArgs) -> Result<Builder<K>> {
        let args = args.into_args();
        let fragment = Fragment::of(text).map_err(|error| self.cell.place(error))?;
        if fragment.params() != args.len() {
            return Err(self.cell.place(count_error("WHERE", fragment.params(), args.len())));
        }
        Ok(self.step(|cell| cell.push_where(fragment, args)))
    }

    /// Inserts the row with these values first if it is missing; the operations then apply to it, from this column's
    /// value if it is among them, else from 0, `[]` or `{}` (a DEFAULT of the column is not asked).
    ///
    /// The columns that WHERE compares with `=` to a parameter are the row's key: at least one, together a unique
    /// index. Other conditions only decide whether an existing row is changed.
    pub fn or_insert(self, columns: &[(&str, Arg)]) -> Result<Builder<K>> {
        let mut named = Vec::with_capacity(columns.len());
        for (column, arg) in columns {
            named.push((Name::of_column(column).map_err(|error| self.cell.place(error))?, arg.clone()));
        }
        Ok(self.step(|cell| cell.push_insert(named)))
    }

    /// Gives back these columns of the changed rows; `"*"` gives all.
    pub fn returning(mut self, columns: &[&str]) -> Result<Builder<K>> {
        let list = returning_list(columns).map_err(|error| self.cell.place(error))?;
        Arc::make_mut(&mut self.cell).set_returning(&list)?;
        Ok(self)
    }

    /// Names the row for sharding and statistics; it never changes the result.
    pub fn batch_key(mut self, key: &str) -> Builder<K> {
        self.batch_key = Some(key.into());
        self
    }

    /// Allows a change of every row, without WHERE.
    pub fn all_rows(self) -> Builder<K> {
        self.step(Cell::allow_all_rows)
    }

    /// The task. Errors name table and column: no operation, an operation's argument of the wrong type, no WHERE, an
    /// `or_insert` without key.
    pub fn build(self) -> Result<Task> {
        Ok(Task::cell_task(self.cell.finish()?, self.batch_key))
    }
}

impl<K> TryFrom<Builder<K>> for Task {
    type Error = crate::error::Error;

    fn try_from(builder: Builder<K>) -> Result<Task> {
        builder.build()
    }
}
