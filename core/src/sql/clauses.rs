//! Clauses that a statement gets after it was written: ON CONFLICT and RETURNING.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cache::TextCache;
use super::ident::{self, Name};
use super::outline::Verb;
use super::statement::Statement;
use super::task::{Body, Raw, Task};
use crate::error::{Error, Result};

/// An INSERT that still has to say what happens on a conflict.
#[derive(Debug, Clone)]
pub struct OnConflict {
    task: Task,
    /// ` ("id")`, or nothing: any conflict.
    target: Arc<str>,
}

thread_local! {
    static TARGETS: TextCache<str> = const { TextCache::new() };
    /// By the statement's text, the clause and its columns.
    static EXTENDED: TextCache<Statement> = const { TextCache::new() };
}

impl Task {
    /// For an INSERT: what follows applies when a row with the same values in `columns` (a unique index) exists. No
    /// columns stand for every unique index, with `do_nothing` only.
    pub fn on_conflict(self, columns: &[&str]) -> Result<OnConflict> {
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
        let target = TextCache::get(&TARGETS, columns, || {
            let names = columns_of(columns, "on_conflict")?;
            Ok(if names.is_empty() { String::new() } else { format!(" ({})", ident::list(&names)) })
        })?;
        Ok(OnConflict { task: self, target })
    }

    /// The same statement giving back these columns of the rows it changed; `"*"` gives all.
    pub fn returning(self, columns: &[&str]) -> Result<Task> {
        let Task { body, batch_key } = self;
        let body = match body {
            Body::Raw(raw) => Body::Raw(returning_raw(raw, columns)?),
            Body::Cell(mut cell) => {
                Arc::make_mut(&mut cell).set_returning(&returning_list(columns)?)?;
                Body::Cell(cell)
            }
        };
        Ok(Task { body, batch_key })
    }
}

impl OnConflict {
    /// Sets these columns of the existing row to what the INSERT proposed (`column = EXCLUDED.column`).
    pub fn do_update(self, columns: &[&str]) -> Result<Task> {
        if self.target.is_empty() {
            return Err(Error::task("do_update: on_conflict needs the columns of the unique index"));
        }
        if columns.is_empty() {
            return Err(Error::task("do_update: no column given; use do_nothing() to keep the row as it is"));
        }
        self.finish(columns, || {
            let names = columns_of(columns, "do_update")?;
            let sets: Vec<String> = names.iter().map(|name| format!("{name} = EXCLUDED.{name}")).collect();
            Ok(format!("DO UPDATE SET {}", sets.join(", ")))
        })
    }

    /// Leaves the existing row as it is.
    pub fn do_nothing(self) -> Result<Task> {
        self.finish(&[], || Ok("DO NOTHING".to_owned()))
    }

    /// `columns` tell the action from others: none is DO NOTHING.
    fn finish(self, columns: &[&str], action: impl FnOnce() -> Result<String>) -> Result<Task> {
        let OnConflict { task: Task { body, batch_key }, target } = self;
        let Body::Raw(raw) = body else {
            return Err(Error::task("on_conflict: only an INSERT takes it"));
        };
        let statement = extended(&raw.statement, &["ON CONFLICT", &target], columns, |base| {
            let mut outline = base.outline;
            outline.on_conflict = true;
            base.with_clause(&format!(" ON CONFLICT{target} {}", action()?), outline)
        })?;
        Ok(Task { body: Body::Raw(raw.with_statement(statement)), batch_key })
    }
}

/// The statement with a clause, from the cache or made now.
fn extended(
    base: &Statement,
    clause: &[&str],
    columns: &[&str],
    make: impl FnOnce(&Statement) -> Result<Statement>,
) -> Result<Arc<Statement>> {
    let mut texts: SmallVec<[&str; 8]> = SmallVec::new();
    texts.push(&base.sql);
    texts.extend_from_slice(clause);
    texts.extend_from_slice(columns);
    TextCache::get(&EXTENDED, &texts, || make(base))
}

fn returning_raw(raw: Raw, columns: &[&str]) -> Result<Raw> {
    let mut outline = raw.statement.outline;
    if !matches!(outline.verb, Verb::Insert | Verb::Update | Verb::Delete | Verb::Merge) {
        return Err(Error::task("returning: only INSERT, UPDATE, DELETE and MERGE take it"));
    }
    if outline.returning {
        return Err(Error::task("returning: the statement has a RETURNING clause already"));
    }
    outline.returning = true;
    let statement = extended(&raw.statement, &["RETURNING"], columns, |base| {
        base.with_clause(&format!(" RETURNING {}", returning_list(columns)?), outline)
    })?;
    Ok(raw.with_statement(statement))
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
