//! What a cell's task does, in the words of the algebra.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cell::Cell;
use super::operation::Op;
use super::shape::CellKind;
use crate::ops::{Exact, Kind, Operation};
use crate::value::Value;

impl Cell {
    /// The operations in order. `None` if a number has more digits than [`Exact`] holds, or an argument of an operation
    /// is still open.
    pub(crate) fn operations(&self) -> Option<SmallVec<[Operation; 2]>> {
        self.ops().iter().map(|op| self.operation(op)).collect()
    }

    fn operation(&self, op: &Op) -> Option<Operation> {
        Some(match *op {
            Op::Inc(n) => Operation::Add(self.exact(n)?),
            Op::Dec(n) => Operation::Add(self.exact(n)?.negated()?),
            Op::Mul(n) => Operation::Multiply(self.exact(n)?),
            Op::Set(n) => Operation::Assign(self.exact(n)?),
            Op::Clean if self.kind() == CellKind::Counter => Operation::Assign(Exact::ZERO),
            Op::Clean => Operation::Clear,
            Op::Add(element) => Operation::Append(self.bound_text(element)?),
            Op::Delete(element) => Operation::Remove(self.bound_text(element)?),
            Op::Put { key, value } => Operation::Put(self.bound_text(key)?, self.bound_text(value)?),
            Op::Remove(key) => Operation::Delete(self.bound_text(key)?),
        })
    }

    fn exact(&self, index: u32) -> Option<Exact> {
        self.arg(index).and_then(Exact::of)
    }

    /// Keys are text; elements and values are bound as JSON text.
    fn bound_text(&self, index: u32) -> Option<Arc<str>> {
        match self.arg(index)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl From<CellKind> for Kind {
    fn from(kind: CellKind) -> Kind {
        match kind {
            CellKind::Counter => Kind::Counter,
            CellKind::Slice => Kind::Slice,
            CellKind::Map => Kind::Map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, counter, map, slice};
    use super::*;
    use crate::sql::{BIND, Task};
    use crate::value::Decimal;

    fn operations(task: &Task) -> Option<Vec<Operation>> {
        task.cell().expect("a builder's task").operations().map(SmallVec::into_vec)
    }

    fn built<K>(builder: Builder<K>) -> Task {
        builder.where_("id = ?", [7]).unwrap().build().unwrap()
    }

    fn exact(value: impl Into<Value>) -> Exact {
        Exact::of(&value.into()).unwrap()
    }

    fn decimal(text: &str) -> Value {
        Decimal::parse(text).unwrap().into()
    }

    #[test]
    fn counters_say_their_operations_in_order() {
        let likes = || counter("t", "likes").unwrap();
        let task = built(likes().inc(2).dec(decimal("0.50")).mul(0.5));
        let wanted = [
            Operation::Add(exact(2)),
            Operation::Add(exact(decimal("-0.50"))),
            Operation::Multiply(exact(decimal("0.5"))),
        ];
        assert_eq!(operations(&task).unwrap(), wanted);
        let task = built(likes().inc(1).set(5).inc(1));
        assert_eq!(operations(&task).unwrap(), [Operation::Assign(exact(5)), Operation::Add(exact(1))]);
        assert_eq!(operations(&built(likes().inc(1).clean())).unwrap(), [Operation::Assign(Exact::ZERO)]);
        assert_eq!(Kind::from(task.cell().unwrap().kind()), Kind::Counter);
    }

    #[test]
    fn slices_and_maps_say_their_json_texts() {
        let tags = slice("t", "tags").unwrap();
        let text = |it: &str| Arc::from(it);
        let task = built(tags.clone().add("a").delete(1));
        assert_eq!(
            operations(&task).unwrap(),
            [Operation::Append(text("\"a\"")), Operation::Remove(text("1"))]
        );
        assert_eq!(Kind::from(task.cell().unwrap().kind()), Kind::Slice);
        let task = built(tags.add(1).clean().add(Value::Null));
        assert_eq!(operations(&task).unwrap(), [Operation::Clear, Operation::Append(text("null"))]);
        let task = built(map("t", "extra").unwrap().set("k", 2.0).delete("l"));
        assert_eq!(
            operations(&task).unwrap(),
            [Operation::Put(text("k"), text("2.0")), Operation::Delete(text("l"))]
        );
        assert_eq!(Kind::from(task.cell().unwrap().kind()), Kind::Map);
    }

    #[test]
    fn what_is_open_or_cannot_be_held_says_nothing() {
        let likes = || counter("t", "likes").unwrap();
        for task in [
            built(likes().inc(BIND)),
            built(likes().inc(1e300)),
            built(likes().inc(1).mul(decimal("1e-61"))),
            built(likes().dec(i64::MIN)),
            built(slice("t", "tags").unwrap().add(1).delete(BIND)),
            built(map("t", "extra").unwrap().set(BIND, 1)),
            built(map("t", "extra").unwrap().set("k", BIND)),
        ] {
            assert_eq!(operations(&task), None, "{}", task.render().sql);
        }
        let bound = built(likes().inc(BIND)).bind(&[3.into()]).unwrap();
        assert_eq!(operations(&bound).unwrap(), [Operation::Add(exact(3))]);
    }
}
