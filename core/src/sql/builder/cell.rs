//! The cell that a builder's task changes: what, where, how; and its checks.

use std::sync::Arc;

use smallvec::SmallVec;

use super::operation::{Op, Role};
use super::shape::{CellKind, Insert, Place, Shape, Where};
use crate::error::{Error, Result};
use crate::sql::args::{self, Arg};
use crate::sql::fragment::Fragment;
use crate::sql::ident::Name;
use crate::sql::statement::{MAX_PARAMS, MAX_TEXT};
use crate::value::Value;

/// Operations on one builder. They nest in the statement, and the server's stack has a bound too.
const MAX_OPS: usize = 1_000;

/// The parts of a builder's task: column, operations, rows, arguments.
///
/// Arguments are numbered in the order in which the caller wrote them; parameter `$n` of the statement is argument
/// `n - 1`.
#[derive(Debug, Clone)]
pub struct Cell {
    pub(super) shape: Shape,
    /// As they are bound.
    pub(super) args: SmallVec<[Arg; 3]>,
    all_rows: bool,
    /// The first thing that was wrong; `build` says it.
    flaw: Option<Error>,
}

impl Cell {
    pub(super) fn new(kind: CellKind, place: Arc<Place>) -> Cell {
        Cell { shape: Shape::new(kind, place), args: SmallVec::new(), all_rows: false, flaw: None }
    }

    /// Counter, slice or map.
    pub fn kind(&self) -> CellKind {
        self.shape.kind
    }

    /// The table.
    pub fn table(&self) -> &Name {
        &self.shape.place.table
    }

    /// The column.
    pub fn column(&self) -> &Name {
        &self.shape.place.column
    }

    /// The operations in order; their numbers are indexes into [`Cell::arg`].
    pub fn ops(&self) -> &[Op] {
        &self.shape.ops
    }

    /// One argument as it is bound: numbers as int or decimal, elements and map values as JSON text; null while it is
    /// open.
    pub fn arg(&self, index: u32) -> Option<&Value> {
        self.args.get(index as usize).map(value_of)
    }

    /// The RETURNING list, if there is one.
    pub fn returning(&self) -> Option<&str> {
        self.shape.returning.as_deref()
    }

    pub(in crate::sql) fn text(&self) -> Arc<str> {
        self.shape.text()
    }

    pub(in crate::sql) fn open_args(&self) -> usize {
        self.args.iter().filter(|arg| matches!(arg, Arg::Open)).count()
    }

    pub(in crate::sql) fn params(&self) -> Arc<[Value]> {
        self.args.iter().map(|arg| value_of(arg).clone()).collect()
    }

    /// The error, saying which cell it is about.
    pub(super) fn place(&self, error: Error) -> Error {
        error.with("table", self.table()).with("column", self.column())
    }

    fn flaw(&mut self, error: Error) {
        if self.flaw.is_none() {
            self.flaw = Some(self.place(error));
        }
    }

    /// Takes an argument and gives its index.
    pub(super) fn push_arg(&mut self, role: Role, arg: Arg) -> u32 {
        let index = self.args.len();
        let (role, arg) = match arg {
            // By far the most frequent one, and nothing to do.
            Arg::Value(Value::Int(_)) if matches!(role, Role::Number | Role::Free) => (role, arg),
            Arg::Value(value) => match args::check(index, &value).and_then(|()| role.convert(value)) {
                Ok(value) => (role.of(&value), Arg::Value(value)),
                Err(error) => {
                    self.flaw(error);
                    (role, Arg::Value(Value::Null))
                }
            },
            Arg::Open => (role, arg),
        };
        self.shape.roles.push(role);
        self.args.push(arg);
        index as u32
    }

    pub(super) fn push_op(&mut self, op: Op) {
        if self.shape.ops.len() >= MAX_OPS {
            self.flaw(Error::task(format!("more than {MAX_OPS} operations on one builder")));
        } else {
            self.shape.ops.push(op);
        }
    }

    pub(super) fn operate(&mut self, role: Role, arg: Arg, op: impl FnOnce(u32) -> Op) {
        let index = self.push_arg(role, arg);
        self.push_op(op(index));
    }

    /// For an operation that makes the earlier ones pointless: an argument that no text uses has no type.
    pub(super) fn forget_operations(&mut self) {
        let Shape { ops, roles, wheres, insert, .. } = &mut self.shape;
        if ops.is_empty() {
            return;
        }
        ops.clear();
        let kept =
            |index: u32| roles[..index as usize].iter().filter(|role| **role == Role::Free).count() as u32;
        wheres.iter_mut().for_each(|it| it.first = kept(it.first));
        insert.iter_mut().for_each(|it| it.slot = kept(it.slot));
        let mut free = roles.iter().map(|role| *role == Role::Free);
        self.args.retain(|_| free.next() == Some(true));
        roles.retain(|role| *role == Role::Free);
    }

    pub(super) fn push_where(&mut self, fragment: Arc<Fragment>, args: impl Iterator<Item = Arg>) {
        let first = self.args.len() as u32;
        for arg in args {
            self.push_arg(Role::Free, arg);
        }
        self.shape.wheres.push(Where { fragment, first });
    }

    pub(super) fn push_insert(&mut self, columns: Vec<(Arc<Name>, Arg)>) {
        for (column, arg) in columns {
            if self.shape.insert.iter().any(|it| it.column == column) {
                self.flaw(Error::task(format!("or_insert gives {column} twice")));
                return;
            }
            let slot = self.push_arg(Role::Free, arg);
            self.shape.insert.push(Insert { column, slot, key: None });
        }
        if self.shape.insert.is_empty() {
            self.flaw(Error::task("or_insert names no column; it needs at least the row's key"));
        }
    }

    pub(in crate::sql) fn set_returning(&mut self, list: &str) -> Result<()> {
        if self.shape.returning.is_some() {
            return Err(self.place(Error::task("returning was given already")));
        }
        self.shape.returning = Some(list.into());
        Ok(())
    }

    pub(super) fn allow_all_rows(&mut self) {
        self.all_rows = true;
    }

    /// Everything that can only be said once all steps are known.
    pub(super) fn finish(mut self: Arc<Cell>) -> Result<Arc<Cell>> {
        if let Some(flaw) = &self.flaw {
            return Err(flaw.clone());
        }
        let refuse = |cell: &Cell, what: &str| Err(cell.place(Error::task(what)));
        if self.shape.ops.is_empty() {
            return refuse(&self, "the builder has no operation");
        }
        if self.shape.wheres.is_empty() && !self.all_rows {
            return refuse(&self, "no WHERE; say all_rows() to change every row");
        }
        if self.args.len() > MAX_PARAMS {
            return refuse(&self, "more than 65535 arguments");
        }
        if self.shape.wheres.iter().map(|it| it.fragment.len()).sum::<usize>() > MAX_TEXT / 2 {
            return refuse(&self, "the WHERE texts are over 512 KiB; pass values as arguments");
        }
        if !self.shape.insert.is_empty() {
            Arc::make_mut(&mut self).find_key()?;
            self.check_key()?;
        }
        Ok(self)
    }

    /// Marks the columns of `or_insert` that identify the row.
    fn find_key(&mut self) -> Result<()> {
        for at in 0..self.shape.insert.len() {
            let first = self.equals(&self.shape.insert[at]).next();
            self.shape.insert[at].key = first.map(|(slot, cast)| format!("${}{cast}", slot + 1).into());
        }
        let refuse = |what: &str| Err(self.place(Error::task(what)));
        let mut keys = self.shape.insert.iter().filter(|it| it.key.is_some()).peekable();
        if keys.peek().is_none() {
            return refuse(
                "or_insert needs the row's key: a column that WHERE compares with = to a ?, joined by AND",
            );
        }
        if keys.any(|it| *it.column == *self.column()) {
            return refuse("or_insert cannot use the changed column as the row's key");
        }
        Ok(())
    }

    /// The arguments of WHERE that every matching row has in this column, and their casts.
    fn equals<'a>(&'a self, insert: &'a Insert) -> impl Iterator<Item = (usize, &'a str)> + 'a {
        self.shape.wheres.iter().flat_map(move |it| {
            let same = it.fragment.equalities.iter().filter(|equal| equal.column == insert.column.last());
            same.map(|equal| (it.first as usize + equal.param, &*equal.cast))
        })
    }

    /// A row inserted under another key than WHERE asks for would be a second row.
    fn check_key(&self) -> Result<()> {
        for insert in &self.shape.insert {
            let differs = |other: usize| match (&self.args[insert.slot as usize], &self.args[other]) {
                (Arg::Value(given), Arg::Value(asked)) => given != asked,
                _ => false,
            };
            if self.equals(insert).any(|(slot, _)| differs(slot)) {
                let column = &insert.column;
                let what =
                    format!("or_insert gives {column} another value, or one of another type, than WHERE");
                return Err(self.place(Error::task(what)));
            }
        }
        Ok(())
    }

    /// With the open arguments filled; the caller has counted and checked them.
    pub(in crate::sql) fn bind(&self, values: &[Value]) -> Result<Cell> {
        let mut cell = self.clone();
        let slots = cell.args.iter_mut().zip(&mut cell.shape.roles);
        let open = slots.filter(|(arg, _)| matches!(arg, Arg::Open));
        for ((arg, role), value) in open.zip(values) {
            let value = role.convert(value.clone()).map_err(|error| self.place(error))?;
            *role = role.of(&value);
            *arg = Arg::Value(value);
        }
        cell.check_key()?;
        Ok(cell)
    }
}

pub(super) fn value_of(arg: &Arg) -> &Value {
    match arg {
        Arg::Value(value) => value,
        Arg::Open => &Value::Null,
    }
}
