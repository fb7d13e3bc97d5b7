//! The cell that a builder's task changes: what, where, how; and its checks.

use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use super::operation::{Op, Role, Slot};
use crate::error::{Error, Result};
use crate::sql::args::{self, Arg, Args};
use crate::sql::fragment::Fragment;
use crate::sql::ident::Name;
use crate::sql::statement::{MAX_PARAMS, MAX_TEXT};
use crate::value::Value;

/// Operations on one builder. They nest in the statement, and the server's stack has a bound too.
const MAX_OPS: usize = 1_000;

/// What kind of column a cell is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellKind {
    /// A number.
    Counter,
    /// A JSONB array.
    Slice,
    /// A JSONB object.
    Map,
}

/// The parts of a builder's task: column, operations, rows, arguments.
///
/// Arguments are numbered in the order in which the caller wrote them; parameter `$n` of the statement is argument
/// `n - 1`.
#[derive(Debug, Clone)]
pub struct Cell {
    kind: CellKind,
    table: Arc<Name>,
    column: Arc<Name>,
    ops: SmallVec<[Op; 2]>,
    slots: SmallVec<[Slot; 4]>,
    wheres: SmallVec<[Where; 1]>,
    insert: Vec<Insert>,
    all_rows: bool,
    returning: Option<Arc<str>>,
    /// The first thing that was wrong; `build` says it.
    flaw: Option<Error>,
}

/// A fragment, and the index of its first argument.
#[derive(Debug, Clone)]
pub(super) struct Where {
    pub fragment: Arc<Fragment>,
    pub first: u32,
}

/// A column of `or_insert`.
#[derive(Debug, Clone)]
pub(super) struct Insert {
    pub column: Arc<Name>,
    pub slot: u32,
    /// If it is a part of the row's key: the parameter of WHERE that it equals, with the cast it has there.
    pub key: Option<Arc<str>>,
}

impl Cell {
    pub(super) fn new(kind: CellKind, table: Arc<Name>, column: Arc<Name>) -> Cell {
        Cell {
            kind,
            table,
            column,
            ops: SmallVec::new(),
            slots: SmallVec::new(),
            wheres: SmallVec::new(),
            insert: Vec::new(),
            all_rows: false,
            returning: None,
            flaw: None,
        }
    }

    /// Counter, slice or map.
    pub fn kind(&self) -> CellKind {
        self.kind
    }

    /// The table.
    pub fn table(&self) -> &Name {
        &self.table
    }

    /// The column.
    pub fn column(&self) -> &Name {
        &self.column
    }

    /// The operations in order; their numbers are indexes into [`Cell::arg`].
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// One argument as it is bound: numbers as int or decimal, elements and map values as JSON text.
    pub fn arg(&self, index: u32) -> Option<&Value> {
        self.slots.get(index as usize).map(|slot| &slot.value)
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn wheres(&self) -> &[Where] {
        &self.wheres
    }

    pub(super) fn insert(&self) -> &[Insert] {
        &self.insert
    }

    /// The RETURNING list, if there is one.
    pub fn returning(&self) -> Option<&str> {
        self.returning.as_deref()
    }

    pub(in crate::sql) fn open_args(&self) -> usize {
        self.slots.iter().filter(|slot| slot.open).count()
    }

    pub(in crate::sql) fn params(&self) -> Arc<[Value]> {
        self.slots.iter().map(|slot| slot.value.clone()).collect()
    }

    /// The error, saying which cell it is about.
    pub(super) fn place(&self, error: Error) -> Error {
        error.with("table", &self.table).with("column", &self.column)
    }

    fn flaw(&mut self, error: Error) {
        if self.flaw.is_none() {
            self.flaw = Some(self.place(error));
        }
    }

    /// Takes an argument and gives its index.
    pub(super) fn push_arg(&mut self, role: Role, arg: Arg) -> u32 {
        let index = self.slots.len() as u32;
        let open = arg == Arg::Open;
        let value = match arg {
            Arg::Open => Ok(Value::Null),
            Arg::Value(value) => args::check(self.slots.len(), &value).and_then(|()| role.convert(value)),
        };
        let value = value.unwrap_or_else(|error| {
            self.flaw(error);
            Value::Null
        });
        self.slots.push(Slot { value, open, role });
        index
    }

    pub(super) fn push_op(&mut self, op: Op) {
        if self.ops.len() >= MAX_OPS {
            self.flaw(Error::task(format!("more than {MAX_OPS} operations on one builder")));
        } else {
            self.ops.push(op);
        }
    }

    pub(super) fn operate(&mut self, role: Role, arg: Arg, op: impl FnOnce(u32) -> Op) {
        let index = self.push_arg(role, arg);
        self.push_op(op(index));
    }

    /// For an operation that makes the earlier ones pointless: an argument that no text uses has no type.
    pub(super) fn forget_operations(&mut self) {
        if self.ops.is_empty() {
            return;
        }
        self.ops.clear();
        let kept = |slots: &[Slot], index: u32| {
            slots[..index as usize].iter().filter(|slot| slot.role == Role::Free).count() as u32
        };
        for it in &mut self.wheres {
            it.first = kept(&self.slots, it.first);
        }
        for it in &mut self.insert {
            it.slot = kept(&self.slots, it.slot);
        }
        self.slots.retain(|slot| slot.role == Role::Free);
    }

    pub(super) fn push_where(&mut self, fragment: Arc<Fragment>, args: Args) {
        let first = self.slots.len() as u32;
        for arg in args.into_args() {
            self.push_arg(Role::Free, arg);
        }
        self.wheres.push(Where { fragment, first });
    }

    pub(super) fn push_insert(&mut self, columns: Vec<(Arc<Name>, Arg)>) {
        for (column, arg) in columns {
            if self.insert.iter().any(|it| it.column == column) {
                self.flaw(Error::task(format!("or_insert gives {column} twice")));
                return;
            }
            let slot = self.push_arg(Role::Free, arg);
            self.insert.push(Insert { column, slot, key: None });
        }
        if self.insert.is_empty() {
            self.flaw(Error::task("or_insert names no column; it needs at least the row's key"));
        }
    }

    pub(super) fn set_returning(&mut self, list: &str) -> Result<()> {
        if self.returning.is_some() {
            return Err(self.place(Error::task("returning was given already")));
        }
        self.returning = Some(list.into());
        Ok(())
    }

    pub(super) fn allow_all_rows(&mut self) {
        self.all_rows = true;
    }

    /// Everything that can only be said once all steps are known.
    fn finish(&mut self) -> Result<()> {
        if let Some(flaw) = self.flaw.take() {
            return Err(flaw);
        }
        let refuse = |cell: &Cell, what: &str| Err(cell.place(Error::task(what)));
        if self.ops.is_empty() {
            return refuse(self, "the builder has no operation");
        }
        if self.wheres.is_empty() && !self.all_rows {
            return refuse(self, "no WHERE; say all_rows() to change every row");
        }
        if self.slots.len() > MAX_PARAMS {
            return refuse(self, "more than 65535 arguments");
        }
        if self.wheres.iter().map(|it| it.fragment.len()).sum::<usize>() > MAX_TEXT / 2 {
            return refuse(self, "the WHERE texts are over 512 KiB; pass values as arguments");
        }
        self.find_key()?;
        self.check_key()
    }

    /// Marks the columns of `or_insert` that identify the row.
    fn find_key(&mut self) -> Result<()> {
        if self.insert.is_empty() {
            return Ok(());
        }
        for at in 0..self.insert.len() {
            let first = self.equals(&self.insert[at]).next();
            self.insert[at].key = first.map(|(slot, cast)| format!("${}{cast}", slot + 1).into());
        }
        let refuse = |what: &str| Err(self.place(Error::task(what)));
        if !self.insert.iter().any(|it| it.key.is_some()) {
            return refuse(
                "or_insert needs the row's key: a column that WHERE compares with = to a ?, joined by AND",
            );
        }
        if self.insert.iter().any(|it| it.key.is_some() && it.column == self.column) {
            return refuse("or_insert cannot use the changed column as the row's key");
        }
        Ok(())
    }

    /// The arguments of WHERE that every matching row has in this column, and their casts.
    fn equals<'a>(&'a self, insert: &'a Insert) -> impl Iterator<Item = (usize, &'a str)> + 'a {
        self.wheres.iter().flat_map(move |it| {
            let same = it.fragment.equalities.iter().filter(|equal| equal.column == insert.column.last());
            same.map(|equal| (it.first as usize + equal.param, &*equal.cast))
        })
    }

    /// A row inserted under another key than WHERE asks for would be a second row.
    fn check_key(&self) -> Result<()> {
        for insert in &self.insert {
            let given = &self.slots[insert.slot as usize];
            let differs = |it: &Slot| !it.open && !given.open && it.value != given.value;
            if self.equals(insert).any(|(slot, _)| differs(&self.slots[slot])) {
                let column = &insert.column;
                let what =
                    format!("or_insert gives {column} another value, or one of another type, than WHERE");
                return Err(self.place(Error::task(what)));
            }
        }
        Ok(())
    }
}

/// A cell that passed its checks, and its statement once somebody asked for it.
pub(in crate::sql) struct CellTask {
    cell: Cell,
    text: OnceLock<Arc<str>>,
    /// The template that this was bound from, if the statement is the same: then it is written once for all.
    template: Option<Arc<CellTask>>,
}

impl CellTask {
    pub(super) fn new(mut cell: Cell) -> Result<CellTask> {
        cell.finish()?;
        Ok(CellTask { cell, text: OnceLock::new(), template: None })
    }

    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    pub fn text(&self) -> Arc<str> {
        match &self.template {
            Some(template) => template.text(),
            None => self.text.get_or_init(|| super::render::statement(&self.cell).into()).clone(),
        }
    }

    /// With the open arguments filled; the caller has counted them.
    pub fn bind(self: &Arc<Self>, values: &[Value]) -> Result<Arc<CellTask>> {
        let mut cell = self.cell.clone();
        let mut same_text = true;
        let open = cell.slots.iter_mut().filter(|slot| slot.open);
        for (slot, value) in open.zip(values) {
            let assumed = slot.role.cast(&slot.value);
            slot.value = slot.role.convert(value.clone()).map_err(|error| self.cell.place(error))?;
            slot.open = false;
            same_text &= slot.role.cast(&slot.value) == assumed;
        }
        cell.check_key()?;
        let template = same_text.then(|| self.clone());
        Ok(Arc::new(CellTask { cell, text: OnceLock::new(), template }))
    }

    pub fn returning(&self, list: &str) -> Result<Arc<CellTask>> {
        let mut cell = self.cell.clone();
        cell.set_returning(list)?;
        Ok(Arc::new(CellTask { cell, text: OnceLock::new(), template: None }))
    }
}
