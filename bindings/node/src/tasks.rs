//! SQL tasks and builders. Text and checks are the core's; a handle holds what the core made.

use std::sync::Mutex;

use napi::bindgen_prelude::{Array, External, Object};
use napi::{Env, Result};
use napi_derive::napi;
use zmsg_core::error::{Error, Result as CoreResult};
use zmsg_core::sql::{self, Arg, Column, Counter, Map, OnConflict, Slice, Table, Task};
use zmsg_core::value::{Decimal, Value};

use crate::errors::to_js;
use crate::replies;
use crate::values_in::{args, values};

/// One task, or the list that a verb runs in one transaction.
pub struct TaskList(Mutex<Vec<Task>>);

impl TaskList {
    fn handle(task: CoreResult<Task>) -> Result<External<TaskList>> {
        Ok(External::new(TaskList(Mutex::new(vec![task.map_err(to_js)?]))))
    }

    /// All of them.
    pub fn all(&self) -> Vec<Task> {
        self.with(<[Task]>::to_vec)
    }

    /// What `work` makes of them, without a copy.
    pub fn with<T>(&self, work: impl FnOnce(&[Task]) -> T) -> T {
        work(&self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The only one; `what` is named in the error.
    pub fn one(&self, what: &str) -> Result<Task> {
        let mut all = self.all();
        match (all.pop(), all.is_empty()) {
            (Some(task), true) => Ok(task),
            _ => Err(to_js(Error::task(format!("{what} takes one task, not a list")))),
        }
    }
}

#[napi(catch_unwind)]
pub fn task_sql(text: String, given: Array<'_>) -> Result<External<TaskList>> {
    TaskList::handle(sql::sql(&text, args(&given)?))
}

#[napi(catch_unwind)]
pub fn task_list() -> Result<External<TaskList>> {
    Ok(External::new(TaskList(Mutex::default())))
}

#[napi(catch_unwind)]
pub fn task_push(list: &External<TaskList>, task: &External<TaskList>) -> Result<()> {
    let task = task.one("a list")?;
    list.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(task);
    Ok(())
}

#[napi(catch_unwind)]
pub fn task_on_conflict(task: &External<TaskList>, columns: Vec<String>) -> Result<External<OnConflict>> {
    task.one("onConflict")?.on_conflict(&strs(&columns)).map(External::new).map_err(to_js)
}

/// With columns `DO UPDATE`, without `DO NOTHING`.
#[napi(catch_unwind)]
pub fn conflict_do(
    conflict: &External<OnConflict>,
    columns: Option<Vec<String>>,
) -> Result<External<TaskList>> {
    let conflict = OnConflict::clone(conflict);
    TaskList::handle(match columns {
        Some(columns) => conflict.do_update(&strs(&columns)),
        None => conflict.do_nothing(),
    })
}

#[napi(catch_unwind)]
pub fn task_returning(task: &External<TaskList>, columns: Vec<String>) -> Result<External<TaskList>> {
    TaskList::handle(task.one("returning")?.returning(&strs(&columns)))
}

#[napi(catch_unwind)]
pub fn task_batch_key(task: &External<TaskList>, key: String) -> Result<External<TaskList>> {
    TaskList::handle(Ok(task.one("batchKey")?.with_batch_key(&key)))
}

#[napi(catch_unwind)]
pub fn task_check_template(task: &External<TaskList>) -> Result<()> {
    task.one("prepare")?.check_template().map_err(to_js)
}

#[napi(catch_unwind)]
pub fn task_bind(task: &External<TaskList>, given: Array<'_>) -> Result<External<TaskList>> {
    TaskList::handle(task.one("a prepared task")?.bind(&values(&given)?))
}

/// `{ sql, params }`, the parameters as `replies::single` gives values.
#[napi(catch_unwind)]
pub fn task_render<'env>(env: &'env Env, task: &External<TaskList>) -> Result<Object<'env>> {
    let rendered = task.one("render")?.render();
    let mut object = Object::new(env)?;
    object.set("sql", &*rendered.sql)?;
    object.set("params", replies::parameters(env, &rendered.params)?)?;
    Ok(object)
}

/// A builder of any kind.
#[derive(Clone)]
pub enum Builder {
    Counter(Counter),
    Slice(Slice),
    Map(Map),
}

/// Runs the same step on whichever builder it is.
macro_rules! each {
    ($builder:expr, $name:ident => $step:expr) => {
        match $builder {
            Builder::Counter($name) => $step.map(Builder::Counter),
            Builder::Slice($name) => $step.map(Builder::Slice),
            Builder::Map($name) => $step.map(Builder::Map),
        }
        .map(External::new)
        .map_err(to_js)
    };
}

#[napi(catch_unwind)]
pub fn table_of(name: String) -> Result<External<Table>> {
    sql::table(&name).map(External::new).map_err(to_js)
}

#[napi(catch_unwind)]
pub fn column_of(table: &External<Table>, name: String) -> Result<External<Column>> {
    table.column(&name).map(External::new).map_err(to_js)
}

#[napi(catch_unwind)]
pub fn builder_of(column: &External<Column>, kind: String) -> Result<External<Builder>> {
    let column = Column::clone(column);
    Ok(External::new(match kind.as_str() {
        "counter" => Builder::Counter(column.counter()),
        "slice" => Builder::Slice(column.slice()),
        _ => Builder::Map(column.map()),
    }))
}

#[napi(catch_unwind)]
pub fn builder_named(kind: String, table: String, column: String) -> Result<External<Builder>> {
    match kind.as_str() {
        "counter" => sql::counter(&table, &column).map(Builder::Counter),
        "slice" => sql::slice(&table, &column).map(Builder::Slice),
        _ => sql::map(&table, &column).map(Builder::Map),
    }
    .map(External::new)
    .map_err(to_js)
}

/// The builder with further operations of its kind: `[name, arguments, name, arguments, …]`. JavaScript gathers them
/// until the next step, since a handle costs more than all that an operation does.
fn operated(builder: &External<Builder>, ops: &Array<'_>) -> Result<Builder> {
    let mut builder = Builder::clone(builder);
    for at in (0..ops.len()).step_by(2) {
        let (Some(op), Some(given)) = (ops.get::<String>(at)?, ops.get::<Array<'_>>(at + 1)?) else { break };
        builder = operation(builder, &op, args(&given)?)?;
    }
    Ok(builder)
}

fn operation(builder: Builder, op: &str, given: Vec<Arg>) -> Result<Builder> {
    let exact = matches!(builder, Builder::Counter(_));
    let mut given = given.into_iter().map(|arg| if exact { decimal(arg) } else { arg });
    let mut next = || given.next().unwrap_or(Arg::Open);
    Ok(match (builder, op) {
        (Builder::Counter(it), "inc") => Builder::Counter(it.inc(next())),
        (Builder::Counter(it), "dec") => Builder::Counter(it.dec(next())),
        (Builder::Counter(it), "mul") => Builder::Counter(it.mul(next())),
        (Builder::Counter(it), "set") => Builder::Counter(it.set(next())),
        (Builder::Counter(it), "clean") => Builder::Counter(it.clean()),
        (Builder::Slice(it), "add") => Builder::Slice(it.add(next())),
        (Builder::Slice(it), "del") => Builder::Slice(it.delete(next())),
        (Builder::Slice(it), "clean") => Builder::Slice(it.clean()),
        (Builder::Map(it), "set") => Builder::Map(it.set(next(), next())),
        (Builder::Map(it), "del") => Builder::Map(it.delete(next())),
        _ => return Err(to_js(Error::task(format!("this builder has no operation {op}")))),
    })
}

#[napi(catch_unwind)]
pub fn builder_where(
    builder: &External<Builder>,
    ops: Array<'_>,
    text: String,
    given: Array<'_>,
) -> Result<External<Builder>> {
    let given = args(&given)?;
    each!(operated(builder, &ops)?, it => it.where_(&text, given))
}

#[napi(catch_unwind)]
pub fn builder_or_insert(
    builder: &External<Builder>,
    ops: Array<'_>,
    columns: Vec<String>,
    given: Array<'_>,
) -> Result<External<Builder>> {
    let named: Vec<(&str, Arg)> = columns.iter().map(String::as_str).zip(args(&given)?).collect();
    each!(operated(builder, &ops)?, it => it.or_insert(&named))
}

#[napi(catch_unwind)]
pub fn builder_returning(
    builder: &External<Builder>,
    ops: Array<'_>,
    columns: Vec<String>,
) -> Result<External<Builder>> {
    each!(operated(builder, &ops)?, it => it.returning(&strs(&columns)))
}

#[napi(catch_unwind)]
pub fn builder_batch_key(
    builder: &External<Builder>,
    ops: Array<'_>,
    key: String,
) -> Result<External<Builder>> {
    each!(operated(builder, &ops)?, it => Ok(it.batch_key(&key)))
}

#[napi(catch_unwind)]
pub fn builder_all_rows(builder: &External<Builder>, ops: Array<'_>) -> Result<External<Builder>> {
    each!(operated(builder, &ops)?, it => Ok(it.all_rows()))
}

#[napi(catch_unwind)]
pub fn builder_build(builder: &External<Builder>, ops: Array<'_>) -> Result<External<TaskList>> {
    TaskList::handle(match operated(builder, &ops)? {
        Builder::Counter(it) => it.build(),
        Builder::Slice(it) => it.build(),
        Builder::Map(it) => it.build(),
    })
}

/// The task of a builder that names a cell: what reads a cell needs no operation.
#[napi(catch_unwind)]
pub fn builder_cell(builder: &External<Builder>, ops: Array<'_>) -> Result<External<TaskList>> {
    TaskList::handle(match operated(builder, &ops)? {
        Builder::Counter(it) => it.clone().build().or_else(|_| it.clean().build()),
        Builder::Slice(it) => it.clone().build().or_else(|_| it.clean().build()),
        Builder::Map(it) => it.clone().build().or_else(|_| it.delete("").build()),
    })
}

/// JavaScript has no decimal numbers: a counter's text is one. Any other text is left for the builder to refuse.
fn decimal(arg: Arg) -> Arg {
    match arg {
        Arg::Value(Value::Text(text)) => match Decimal::parse(&text) {
            Ok(decimal) => Arg::Value(Value::Decimal(decimal)),
            Err(_) => Arg::Value(Value::Text(text)),
        },
        other => other,
    }
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
