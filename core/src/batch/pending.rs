//! A cell as it will be after the flush: PostgreSQL's value with this process's pending operations applied.
//!
//! Value and watermark are read in one snapshot, and the value is asked for twice: with the operations of both batches,
//! and with those of the active one alone. The watermark then says which of the two is right, so that a batch in flight
//! is counted once, whether its COMMIT came before the question or after.

use super::Batcher;
use super::accumulator::Accumulator;
use super::route::State;
use crate::base::Deadline;
use crate::error::{Error, Result};
use crate::ops::Form;
use crate::sql::setwise::{InsertColumn, KeyColumn, Preview, Seen};
use crate::sql::{Cell, Rendered, Task, sql_of};
use crate::value::Value;

/// What is pending for a cell.
struct Pending {
    /// Where the active batch begins, which is where the frozen one ends.
    lo: u64,
    /// Of the frozen batch and the active one after it.
    both: Option<Form>,
    /// Of the active one.
    active: Option<Form>,
}

impl Batcher {
    /// The value of the cell that a builder's task changes, with everything that is pending in this process applied; the
    /// task's own operations are not. `None` if the row is missing and nothing pending would insert it.
    ///
    /// Where operations do not compose (ordered tables, a WHERE that is more than equalities), what is pending is flushed
    /// first.
    ///
    /// # Errors
    /// `Task` for a statement in the caller's words, or if WHERE finds more than one row.
    pub(crate) async fn pending(&self, task: &Task, deadline: Deadline) -> Result<Option<Value>> {
        let Some(cell) = task.cell() else {
            return Err(Error::task("pending takes a task of counter(…), slice(…) or map(…)"));
        };
        loop {
            let Some(pending) = self.snapshot(cell) else { break };
            let Some(question) = self.question(cell, &pending, deadline).await? else { break };
            let rows = self.0.store.query(&question, deadline).await?;
            let answers = rows.iter().map(Seen::of).collect::<Option<Vec<_>>>();
            let Some(seen) = one(answers.unwrap_or_default())? else { return Ok(None) };
            if seen.watermark > pending.lo {
                continue;
            }
            let applied = seen.watermark == pending.lo;
            let form = if applied { &pending.active } else { &pending.both };
            let inserts = cell.insert().next().is_some() && form.is_some();
            if !seen.found && !inserts {
                return Ok(None);
            }
            return Ok(Some(if applied { seen.active } else { seen.both }));
        }
        self.flush(deadline).await?;
        self.stored(cell, deadline).await
    }

    /// What is pending; `None` if it does not compose.
    fn snapshot(&self, cell: &Cell) -> Option<Pending> {
        let guard = self.0.accumulator.lock();
        let Some(Accumulator { active, frozen, .. }) = guard.as_ref() else {
            return Some(Pending { lo: 0, both: None, active: None });
        };
        let table = cell.table().last();
        let ordered =
            active.is_ordered(table) || frozen.as_ref().is_some_and(|batch| batch.is_ordered(table));
        if ordered
            || active.has_other_routes(cell)
            || frozen.as_ref().is_some_and(|it| it.has_other_routes(cell))
        {
            return None;
        }
        let composed = |state: Option<&State>| match state {
            None => Some(None),
            Some(State::Composed(form)) => Some(Some(form.clone())),
            Some(State::Replayed) => None,
        };
        let later = composed(active.find(cell))?;
        let earlier = composed(frozen.as_ref().and_then(|batch| batch.find(cell)))?;
        let both = match (earlier, &later) {
            (Some(mut form), Some(later)) => {
                form.followed_by(later).ok()?;
                Some(form)
            }
            (earlier, later) => earlier.or_else(|| later.clone()),
        };
        Some(Pending { lo: active.lo, both, active: later })
    }

    async fn question(&self, cell: &Cell, pending: &Pending, deadline: Deadline) -> Result<Option<Task>> {
        let Some(parts) = cell.key() else { return Ok(None) };
        let table = self.0.tables.get(&*self.0.store, cell.table(), deadline).await?;
        let mut keys = Vec::with_capacity(parts.len());
        for part in &parts {
            let Some(column) = table.column(part.column) else { return Ok(None) };
            let ty = part.cast.strip_prefix("::").unwrap_or(&column.ty);
            keys.push((KeyColumn { column: part.column.into(), ty: ty.into() }, part.value.clone()));
        }
        let mut insert = Vec::new();
        for (name, value) in cell.insert() {
            let Some(column) = table.column(name.last()) else { return Ok(None) };
            insert.push((InsertColumn { column: name.clone(), ty: column.ty.clone() }, value.clone()));
        }
        let Some(own) = table.column(cell.column().last()) else { return Ok(None) };
        let preview = Preview {
            table: cell.table(),
            column: cell.column(),
            ty: &own.whole,
            kind: cell.kind(),
            keys,
            insert,
            both: pending.both.as_ref(),
            active: pending.active.as_ref(),
        };
        let stream = Value::Uuid(self.0.stream);
        Ok(Some(sql_of(preview.question(stream))))
    }

    /// The value as it is stored.
    async fn stored(&self, cell: &Cell, deadline: Deadline) -> Result<Option<Value>> {
        let Rendered { sql, params } = cell.select();
        let rows = self.0.store.query(&sql_of(Rendered { sql, params }), deadline).await?;
        one(rows.into_iter().map(|row| row.values.into_iter().next().unwrap_or(Value::Null)).collect())
    }
}

fn one<T>(mut rows: Vec<T>) -> Result<Option<T>> {
    match rows.len() {
        0 | 1 => Ok(rows.pop()),
        many => Err(Error::task(format!("pending reads one cell; WHERE found {many} rows"))),
    }
}
