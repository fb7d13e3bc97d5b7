//! Which rows a cell is in, as far as the text of its WHERE tells.

use smallvec::SmallVec;

use super::cell::value_of;
use super::shape::Shape;
use super::{Cell, Op};
use crate::ops::Operation;
use crate::sql::ident::Name;
use crate::value::Value;
use crate::value::codec::{Reader, write_value, write_varint};

use std::sync::Arc;

/// A column that every row of the cell has equal to an argument.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyPart<'a> {
    /// As the catalogue has it.
    pub column: &'a str,
    /// The cast behind the parameter, or nothing.
    pub cast: &'a str,
    pub value: &'a Value,
    /// The argument's index.
    pub(super) index: usize,
}

impl Cell {
    /// The row's key in the order of its columns, however WHERE was written; `None` if WHERE is anything but equalities
    /// joined by AND, or if `or_insert` does not name all of them.
    pub(crate) fn key(&self) -> Option<SmallVec<[KeyPart<'_>; 2]>> {
        let mut parts = SmallVec::new();
        for it in &self.shape.wheres {
            if !it.fragment.is_key {
                return None;
            }
            parts.extend(it.fragment.equalities.iter().map(|equal| {
                let index = it.first as usize + equal.param;
                KeyPart {
                    column: &equal.column,
                    cast: &equal.cast,
                    value: value_of(&self.args[index]),
                    index,
                }
            }));
        }
        parts.sort_unstable_by_key(|part: &KeyPart<'_>| part.column);
        let distinct = parts.windows(2).all(|pair| pair[0].column != pair[1].column);
        let simple = parts.iter().all(|part| !matches!(part.value, Value::List(_)));
        let inserted =
            |part: &KeyPart<'_>| self.shape.insert.iter().any(|it| it.column.last() == part.column);
        let named = self.shape.insert.is_empty() || parts.iter().all(inserted);
        (!parts.is_empty() && distinct && simple && named).then_some(parts)
    }

    /// The columns of `or_insert` with their values.
    pub(crate) fn insert(&self) -> impl Iterator<Item = (&Arc<Name>, &Value)> {
        self.shape.insert.iter().map(|it| (&it.column, value_of(&self.args[it.slot as usize])))
    }

    /// The identifiers in WHERE.
    pub(crate) fn where_mentions(&self) -> impl Iterator<Item = &str> {
        self.shape.wheres.iter().flat_map(|it| it.fragment.mentions.iter().map(|name| &**name))
    }

    /// The cell of another row that is found in the same way, without operations. `key` is in the order of
    /// [`Cell::key`].
    pub(crate) fn at_key(&self, key: &[Value], insert: &[Value]) -> Cell {
        let parts = self.key().unwrap_or_default();
        let of_wheres = self.shape.wheres.iter().flat_map(Shape::arguments_of);
        let value_at = |index: usize| {
            let position = parts.iter().position(|part| part.index == index);
            position.and_then(|at| key.get(at)).cloned().unwrap_or(Value::Null)
        };
        let args: Vec<Value> = of_wheres.map(value_at).chain(insert.iter().cloned()).collect();
        self.at(&args)
    }

    /// One more operation, of the room that composes them.
    pub(crate) fn push_operation(&mut self, operation: &Operation) {
        let json = |text: &Arc<str>| super::Arg::Value(Value::Json(text.clone()));
        let number = |it: &crate::ops::Exact| super::Arg::Value(it.to_value());
        use super::operation::Role;
        match operation {
            Operation::Add(it) => self.operate(Role::Number, number(it), Op::Inc),
            Operation::Multiply(it) => self.operate(Role::Number, number(it), Op::Mul),
            Operation::Assign(it) => {
                self.forget_operations();
                self.operate(Role::Number, number(it), Op::Set);
            }
            Operation::Append(text) => self.operate(Role::Json, json(text), Op::Add),
            Operation::Remove(text) => self.operate(Role::Json, json(text), Op::Delete),
            Operation::Clear => {
                self.forget_operations();
                self.push_op(Op::Clean);
            }
            Operation::Put(key, value) => {
                let key = self.push_arg(Role::Key, super::Arg::Value(Value::Text(key.clone())));
                let value = self.push_arg(Role::Json, json(value));
                self.push_op(Op::Put { key, value });
            }
            Operation::Delete(key) => {
                self.operate(Role::Key, super::Arg::Value(Value::Text(key.clone())), Op::Remove);
            }
        }
    }

    /// Appends the operations: how many, then each one's code and arguments.
    pub(crate) fn write_operations(&self, out: &mut Vec<u8>) {
        write_varint(self.ops().len() as u64, out);
        for op in self.ops() {
            let (code, args): (u8, [Option<u32>; 2]) = match *op {
                Op::Inc(n) => (0, [Some(n), None]),
                Op::Dec(n) => (1, [Some(n), None]),
                Op::Mul(n) => (2, [Some(n), None]),
                Op::Set(n) => (3, [Some(n), None]),
                Op::Clean => (4, [None, None]),
                Op::Add(n) => (5, [Some(n), None]),
                Op::Delete(n) => (6, [Some(n), None]),
                Op::Put { key, value } => (7, [Some(key), Some(value)]),
                Op::Remove(n) => (8, [Some(n), None]),
            };
            out.push(code);
            args.into_iter()
                .flatten()
                .for_each(|index| write_value(value_of(&self.args[index as usize]), out));
        }
    }

    /// Reads operations into a cell without any; `None` if the bytes are none, or none for this kind of cell.
    pub(crate) fn read_operations(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        use super::operation::Role;
        use super::shape::CellKind::{Counter, Map, Slice};
        for _ in 0..reader.count()? {
            let code = reader.byte()?;
            let mut arg = || reader.value().map(super::Arg::Value);
            let json = |arg: super::Arg| match arg {
                super::Arg::Value(Value::Text(text)) => Some(super::Arg::Value(Value::Json(text))),
                _ => None,
            };
            match (code, self.kind()) {
                (0, Counter) => self.operate(Role::Number, arg()?, Op::Inc),
                (1, Counter) => self.operate(Role::Number, arg()?, Op::Dec),
                (2, Counter) => self.operate(Role::Number, arg()?, Op::Mul),
                (3, Counter) => self.operate(Role::Number, arg()?, Op::Set),
                (4, Counter | Slice) => self.push_op(Op::Clean),
                (5, Slice) => self.operate(Role::Json, json(arg()?)?, Op::Add),
                (6, Slice) => self.operate(Role::Json, json(arg()?)?, Op::Delete),
                (7, Map) => {
                    let key = self.push_arg(Role::Key, arg()?);
                    let value = self.push_arg(Role::Json, json(arg()?)?);
                    self.push_op(Op::Put { key, value });
                }
                (8, Map) => self.operate(Role::Key, arg()?, Op::Remove),
                _ => return None,
            }
        }
        Some(())
    }
}
