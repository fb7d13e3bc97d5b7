//! A statement with its arguments.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::args::{self, Arg, IntoArgs};
use super::builder::Cell;
use super::statement::Statement;
use crate::error::{Error, Result};
use crate::value::Value;

/// One SQL statement with its arguments, checked when it was built; building and rendering do no I/O. Clones are
/// cheap.
#[derive(Clone)]
pub struct Task {
    pub(super) body: Body,
    pub(super) batch_key: Option<Arc<str>>,
}

#[derive(Clone)]
pub(super) enum Body {
    Raw(Raw),
    Cell(Arc<Cell>),
}

/// A statement in the caller's words.
#[derive(Clone)]
pub(super) struct Raw {
    pub statement: Arc<Statement>,
    /// Null where open.
    params: Arc<[Value]>,
    /// Indexes of the open parameters.
    open: Option<Arc<[u32]>>,
}

/// What would run: PostgreSQL text with `$1 …` placeholders, and one value per placeholder.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The statement.
    pub sql: Arc<str>,
    /// The parameters in order; null where a template is still open.
    pub params: Arc<[Value]>,
}

impl Rendered {
    /// Names the text in logs and errors, which never show parameters: the first 8 hex digits of its SHA-256.
    pub fn hash(&self) -> String {
        let digest = Sha256::digest(self.sql.as_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A statement with `?` for each argument.
///
/// Without arguments for its `?` it is a template, as with [`BIND`](super::BIND) among them. Errors are
/// [`ErrorKind::Task`](crate::error::ErrorKind::Task): a text that does not lex (with line and column), more than one
/// statement, BEGIN or COMMIT, over 1 MiB or 65,535 parameters, another number of arguments than of `?`, NUL in text.
pub fn sql(text: &str, args: impl IntoArgs) -> Result<Task> {
    let statement = Statement::of(text)?;
    let args = args.into_args();
    let (wanted, given) = (statement.params, args.len());
    if given == 0 && wanted > 0 {
        let open = Some((0..wanted as u32).collect());
        return Ok(Task::raw(Raw { statement, params: vec![Value::Null; wanted].into(), open }));
    }
    if given != wanted {
        return Err(count_error("the statement", wanted, given));
    }
    let mut open: SmallVec<[u32; 4]> = SmallVec::new();
    let values = (0..).zip(args).map(|(index, arg)| match arg {
        Arg::Value(value) => value,
        Arg::Open => {
            open.push(index);
            Value::Null
        }
    });
    let params: Arc<[Value]> = values.collect();
    args::check_all(&params)?;
    let open = if open.is_empty() { None } else { Some(open.as_slice().into()) };
    Ok(Task::raw(Raw { statement, params, open }))
}

/// A statement of the engine's own, written with `$1 …`.
pub(crate) fn sql_of(rendered: Rendered) -> Task {
    Task::raw(Raw { statement: Arc::new(Statement::own(rendered.sql)), params: rendered.params, open: None })
}

pub(super) fn count_error(what: &str, wanted: usize, given: usize) -> Error {
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    Error::task(format!(
        "{what} has {wanted} placeholder{} but {given} argument{} given",
        plural(wanted),
        if given == 1 { " was" } else { "s were" },
    ))
}

impl Task {
    pub(super) fn raw(raw: Raw) -> Task {
        Task { body: Body::Raw(raw), batch_key: None }
    }

    pub(super) fn cell_task(cell: Arc<Cell>, batch_key: Option<Arc<str>>) -> Task {
        Task { body: Body::Cell(cell), batch_key }
    }

    /// The statement as it would run.
    pub fn render(&self) -> Rendered {
        match &self.body {
            Body::Raw(raw) => Rendered { sql: raw.statement.sql.clone(), params: raw.params.clone() },
            Body::Cell(cell) => Rendered { sql: cell.text(), params: cell.params() },
        }
    }

    /// An error if a placeholder is open, so that the task cannot run; `verb` is named in the message.
    pub fn check_runnable(&self, verb: &str) -> Result<()> {
        match self.open_placeholders() {
            0 => Ok(()),
            open => Err(Error::task(format!(
                "{verb} cannot run a template: {open} of its placeholders have no argument; give the arguments where \
                 the task is built, or bind them"
            ))),
        }
    }

    /// An error if no placeholder is open, so that there is nothing to prepare.
    pub fn check_template(&self) -> Result<()> {
        if self.open_placeholders() > 0 {
            return Ok(());
        }
        Err(Error::task(
            "nothing to prepare: every placeholder has its argument; leave some out or open (bind)",
        ))
    }

    /// Whether the statement only reads, functions with effects apart: SELECT, VALUES, TABLE, SHOW, EXPLAIN, but not
    /// SELECT INTO, nor WITH or EXPLAIN ANALYZE around a write.
    pub fn is_read(&self) -> bool {
        match &self.body {
            Body::Raw(raw) => raw.statement.outline.is_read(),
            Body::Cell(_) => false,
        }
    }

    /// Whether the statement changes the connection and no row, as SET and DEALLOCATE do.
    pub(crate) fn is_of_session(&self) -> bool {
        matches!(&self.body, Body::Raw(raw) if raw.statement.outline.is_of_session())
    }

    /// Whether rows come back.
    pub(crate) fn returns_rows(&self) -> bool {
        match &self.body {
            Body::Raw(raw) => raw.statement.outline.returning,
            Body::Cell(cell) => cell.returning().is_some(),
        }
    }

    /// The identifiers in a statement of the caller's words, keywords among them, as the catalogue would have them.
    pub(crate) fn mentions(&self) -> &[Box<str>] {
        match &self.body {
            Body::Raw(raw) => raw.statement.mentions(),
            Body::Cell(_) => &[],
        }
    }

    /// For a template: the number of its open placeholders; 0 for a task that can run.
    pub fn open_placeholders(&self) -> usize {
        match &self.body {
            Body::Raw(raw) => raw.open.as_ref().map_or(0, |open| open.len()),
            Body::Cell(cell) => cell.open_args(),
        }
    }

    /// Fills the open placeholders, in the order in which they were written. All of them: another number is an error.
    pub fn bind(&self, args: &[Value]) -> Result<Task> {
        let open = self.open_placeholders();
        if open != args.len() {
            return Err(count_error("the template", open, args.len()));
        }
        args::check_all(args)?;
        let body = match &self.body {
            Body::Raw(raw) => Body::Raw(raw.bind(args)),
            Body::Cell(cell) => Body::Cell(Arc::new(cell.bind(args)?)),
        };
        Ok(Task { body, batch_key: self.batch_key.clone() })
    }

    /// The same task under a coalescing key.
    pub fn with_batch_key(self, key: &str) -> Task {
        Task { batch_key: Some(key.into()), ..self }
    }

    /// The coalescing key, if one was given.
    pub fn batch_key(&self) -> Option<&str> {
        self.batch_key.as_deref()
    }

    /// What a builder's task changes; `None` for a statement in the caller's words.
    pub fn cell(&self) -> Option<&Cell> {
        match &self.body {
            Body::Raw(_) => None,
            Body::Cell(cell) => Some(cell),
        }
    }
}

impl Raw {
    fn bind(&self, args: &[Value]) -> Raw {
        let params = match &self.open {
            Some(open) if open.len() < self.params.len() => {
                let mut params = self.params.to_vec();
                for (index, arg) in open.iter().zip(args) {
                    params[*index as usize] = arg.clone();
                }
                params.into()
            }
            _ => args.into(),
        };
        Raw { statement: self.statement.clone(), params, open: None }
    }

    pub(super) fn with_statement(self, statement: Arc<Statement>) -> Raw {
        Raw { statement, ..self }
    }
}

/// The text and the number of parameters, never their values.
impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rendered { sql, params } = self.render();
        f.debug_struct("Task").field("sql", &sql).field("params", &params.len()).finish()
    }
}
