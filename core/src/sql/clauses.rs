//! Clauses that a statement gets after it was written: ON CONFLICT and RETURNING.

use std::sync::Arc;

use super::ident::{self, Name};
use super::outline::Verb;
use super::task::{Body, Raw, Task};
use crate::error::{Error, Result};

/// An INSERT that still has to say what happens on a conflict.
#[derive(Debug, Clone)]
pub struct OnConflict {
    task: Task,
    /// `("id")`, or nothing: any conflict.
    target: String,
}

impl Task {
    /// For an INSERT: what follows applies when a row with the same values in `columns` (a unique index) exists. No
    /// columns stand for every unique index, with `do_nothing` only.
    pub fn on_conflict(&self, columns: &[&str]) -> Result<OnConflict> {
        let refuse = |why: &str| Err(Error::task(format!("on_conflict: {why}")));
        let Body::Raw(raw) = &self.body else {
            return refuse("only an INSERT in sql(...) takes it; a builder has or_insert");
        };
        let outline = raw.statement.outline;
        if outline.verb != Verb::Insert {
            return refuse("only an INSERT takes it");
        }
        if outline.on_conflict {
            return refuse("the statement has an ON CONFLICT clause already");
        }
        if outline.returning {
            return refuse(
                "it belongs before RETURNING; leave RETURNING out of the text and use returning(...) after it",
            );
        }
        let names = columns_of(columns, "on_conflict")?;
        let target = if names.is_empty() { String::new() } else { format!(" ({})", ident::list(&names)) };
        Ok(OnConflict { task: self.clone(), target })
    }

    /// The same statement giving back these columns of the rows it changed; `"*"` gives all.
    pub fn returning(&self, columns: &[&str]) -> Result<Task> {
        let list = returning_list(columns)?;
        let body = match &self.body {
            Body::Raw(raw) => Body::Raw(returning_raw(raw, &list)?),
            Body::Cell(cell) => Body::Cell(cell.returning(&list)?),
        };
        Ok(self.with_body(body))
    }
}

impl OnConflict {
    /// Sets these columns of the existing row to what the INSERT proposed (`column = EXCLUDED.column`).
    pub fn do_update(&self, columns: &[&str]) -> Result<Task> {
        if self.target.is_empty() {
            return Err(Error::task("do_update: on_conflict needs the columns of the unique index"));
        }
        let names = columns_of(columns, "do_update")?;
        if names.is_empty() {
            return Err(Error::task("do_update: no column given; use do_nothing() to keep the row as it is"));
        }
        let sets: Vec<String> = names.iter().map(|name| format!("{name} = EXCLUDED.{name}")).collect();
        self.finish(&format!("DO UPDATE SET {}", sets.join(", ")))
    }

    /// Leaves the existing row as it is.
    pub fn do_nothing(&self) -> Result<Task> {
        self.finish("DO NOTHING")
    }

    fn finish(&self, action: &str) -> Result<Task> {
        let Body::Raw(raw) = &self.task.body else {
            return Err(Error::task("on_conflict: only an INSERT takes it"));
        };
        let mut outline = raw.statement.outline;
        outline.on_conflict = true;
        let clause = format!(" ON CONFLICT{} {action}", self.target);
        let statement = raw.statement.with_clause(&clause, outline)?;
        Ok(self.task.with_body(Body::Raw(raw.with_statement(statement))))
    }
}

fn returning_raw(raw: &Raw, list: &str) -> Result<Raw> {
    let mut outline = raw.statement.outline;
    if !matches!(outline.verb, Verb::Insert | Verb::Update | Verb::Delete | Verb::Merge) {
        return Err(Error::task("returning: only INSERT, UPDATE, DELETE and MERGE take it"));
    }
    if outline.returning {
        return Err(Error::task("returning: the statement has a RETURNING clause already"));
    }
    outline.returning = true;
    Ok(raw.with_statement(raw.statement.with_clause(&format!(" RETURNING {list}"), outline)?))
}

/// The columns as RETURNING takes them; each name at most once is the caller's business.
pub(super) fn returning_list(columns: &[&str]) -> Result<String> {
    if columns.is_empty() {
        return Err(Error::task("returning: no column given; \"*\" stands for all"));
    }
    let mut list = String::new();
    for column in columns {
        if !list.is_empty() {
            list.push_str(", ");
        }
        match *column {
            "*" => list.push('*'),
            name => list.push_str(Name::dotted(name, "returning column")?.quoted()),
        }
    }
    Ok(list)
}

fn columns_of(columns: &[&str], what: &'static str) -> Result<Vec<Arc<Name>>> {
    let mut names: Vec<Arc<Name>> = Vec::with_capacity(columns.len());
    for column in columns {
        let name = Name::of_column(column).map_err(|error| error.with("in", what))?;
        if names.contains(&name) {
            return Err(Error::task(format!("column {name} is given twice in {what}")));
        }
        names.push(name);
    }
    Ok(names)
}
