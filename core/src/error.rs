//! What can go wrong, as instructions to the caller.
//!
//! A kind exists only where a caller would act differently. [`CATALOGUE`] is the one list: the Python
//! classes and the TypeScript classes are checked against it by their tests. Errors are cheap to clone,
//! because one failed load is told to every waiter.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Correct the configuration that the message names.
    Config,
    /// Correct the call: a task, key, value or option was not acceptable. Nothing was sent.
    Task,
    /// Create the item or handle its absence; only strict reads raise this.
    NotFound,
    /// Try again later or allow more time; the deadline of the call has passed.
    Timeout,
    /// Look at the SQLSTATE: the database refused the statement or could not be reached. Nothing was stored.
    Store,
    /// Check the database before repeating: the connection was lost while a COMMIT was on its way.
    CommitUnknown,
    /// Use PostgreSQL for this construct; the embedded mode cannot run it.
    UnsupportedInEmbedded,
    /// Go on without the cache or try again; Redis could not be reached or refused the command.
    Cache,
    /// Try again; the queue could not accept or move the task.
    Queue,
    /// Try again once PostgreSQL can be reached; no node id could be had for new ids.
    Id,
    /// Slow down; a bound was reached and the operation was not accepted.
    Overloaded,
    /// Open a new engine; this one is closed.
    Closed,
    /// Report a bug in zmsg; an invariant did not hold.
    Internal,
}

/// One line of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct KindInfo {
    /// The kind described.
    pub kind: ErrorKind,
    /// `.code` in every language.
    pub code: &'static str,
    /// Class name in Python and Node.
    pub class: &'static str,
    /// Class it derives from.
    pub parent: &'static str,
    /// Built-in Python class it also derives from, or "".
    pub python_also: &'static str,
    /// Whether repeating the same call may succeed, unless an error says otherwise.
    pub retryable: bool,
}

const fn info(
    kind: ErrorKind,
    code: &'static str,
    class: &'static str,
    parent: &'static str,
    python_also: &'static str,
    retryable: bool,
) -> KindInfo {
    KindInfo { kind, code, class, parent, python_also, retryable }
}

/// Every kind, its code and its class in the bindings.
pub const CATALOGUE: &[KindInfo] = &[
    info(ErrorKind::Config, "config", "ConfigError", "ZmsgError", "ValueError", false),
    info(ErrorKind::Task, "task", "TaskError", "ZmsgError", "ValueError", false),
    info(ErrorKind::NotFound, "not_found", "NotFoundError", "ZmsgError", "KeyError", false),
    info(ErrorKind::Timeout, "timeout", "TimeoutError", "ZmsgError", "TimeoutError", true),
    info(ErrorKind::Store, "store", "StoreError", "ZmsgError", "", false),
    info(ErrorKind::CommitUnknown, "commit_unknown", "CommitUnknownError", "StoreError", "", false),
    info(
        ErrorKind::UnsupportedInEmbedded,
        "unsupported_in_embedded",
        "UnsupportedInEmbeddedError",
        "StoreError",
        "",
        false,
    ),
    info(ErrorKind::Cache, "cache", "CacheError", "ZmsgError", "", true),
    info(ErrorKind::Queue, "queue", "QueueError", "ZmsgError", "", true),
    info(ErrorKind::Id, "id", "IdError", "ZmsgError", "", true),
    info(ErrorKind::Overloaded, "overloaded", "OverloadedError", "ZmsgError", "", true),
    info(ErrorKind::Closed, "closed", "ClosedError", "ZmsgError", "", false),
    info(ErrorKind::Internal, "internal", "ZmsgError", "", "", false),
];

impl ErrorKind {
    /// This kind's line of the catalogue.
    pub fn info(self) -> &'static KindInfo {
        // The catalogue is in declaration order; a test holds it to that.
        &CATALOGUE[self as usize]
    }
}

/// A failure: its kind, a message for people, and what else is known about it.
///
/// Messages never hold passwords, statement parameters or cached values.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    retryable: bool,
    sqlstate: Option<String>,
    op_id: Option<String>,
    /// Nothing left this process.
    unsent: bool,
    /// The cache's server did not answer.
    silent: bool,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A new error; `retryable` starts as the catalogue says.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            retryable: kind.info().retryable,
            sqlstate: None,
            op_id: None,
            unsent: false,
            silent: false,
            context: Vec::new(),
            source: None,
        }))
    }

    /// An [`ErrorKind::Task`] error.
    pub fn task(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Task, message)
    }

    /// An [`ErrorKind::Config`] error.
    pub fn config(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, message)
    }

    /// An [`ErrorKind::Closed`] error.
    pub fn closed() -> Error {
        Error::new(ErrorKind::Closed, "the engine is closed; open a new one")
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Error {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Says whether repeating the same call may succeed.
    pub fn with_retryable(self, retryable: bool) -> Error {
        self.edit(|inner| inner.retryable = retryable)
    }

    /// Adds the five-character SQLSTATE.
    pub fn with_sqlstate(self, code: impl Into<String>) -> Error {
        self.edit(|inner| inner.sqlstate = Some(code.into()))
    }

    /// Adds the operation id, so that the outcome can be looked up.
    pub fn with_op_id(self, op_id: impl Into<String>) -> Error {
        self.edit(|inner| inner.op_id = Some(op_id.into()))
    }

    /// Says that what failed certainly never left this process.
    pub(crate) fn with_unsent(self) -> Error {
        self.edit(|inner| inner.unsent = true)
    }

    /// Says that a server could not be reached, or did not answer.
    pub(crate) fn with_silent(self) -> Error {
        self.edit(|inner| inner.silent = true)
    }

    /// The same failure, as another room's caller knows it.
    pub(crate) fn with_kind(self, kind: ErrorKind) -> Error {
        self.edit(|inner| inner.kind = kind)
    }

    /// Adds one fact, shown behind the message.
    pub fn with(self, name: &'static str, value: impl fmt::Display) -> Error {
        self.edit(|inner| inner.context.push((name, value.to_string())))
    }

    /// Adds the failure that caused this one.
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Error {
        self.edit(|inner| inner.source = Some(Arc::new(source)))
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable code, the same in every language.
    pub fn code(&self) -> &'static str {
        self.0.kind.info().code
    }

    /// Whether repeating the same call may succeed.
    pub fn retryable(&self) -> bool {
        self.0.retryable
    }

    /// The five-character SQLSTATE, if the database gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// The operation id, if one was made.
    pub fn op_id(&self) -> Option<&str> {
        self.0.op_id.as_deref()
    }

    /// Whether what failed certainly never left this process.
    pub(crate) fn unsent(&self) -> bool {
        self.0.unsent
    }

    /// Whether the server itself seems to be away, rather than that it refused something: it could not be reached, was
    /// going down, or did not answer in time.
    pub(crate) fn is_away(&self) -> bool {
        match self.kind() {
            ErrorKind::Store | ErrorKind::Timeout => {
                self.sqlstate().map_or(self.kind() == ErrorKind::Timeout || self.retryable(), |code| {
                    matches!(code, "57014" | "57P01" | "57P02" | "57P03") || code.starts_with("08")
                })
            }
            ErrorKind::Cache => self.0.silent,
            _ => false,
        }
    }

    /// The message without the context.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut separator = " (";
        for (name, value) in &self.0.context {
            write!(f, "{separator}{name}: {value}")?;
            separator = ", ";
        }
        if separator == ", " { f.write_str(")") } else { Ok(()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {self}", self.0.kind.info().class, self.code())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_declaration_order() {
        for (index, info) in CATALOGUE.iter().enumerate() {
            assert_eq!(info.kind as usize, index, "{}", info.class);
        }
        assert_eq!(ErrorKind::Internal as usize + 1, CATALOGUE.len(), "every kind has a line");
    }

    #[test]
    fn context_follows_the_message() {
        let error = Error::task("no WHERE").with("table", "feeds").with("column", "likes");
        assert_eq!(error.to_string(), "no WHERE (table: feeds, column: likes)");
        assert!(!error.retryable());
    }
}
