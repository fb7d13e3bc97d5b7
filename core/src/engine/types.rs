//! What goes into a verb and what comes out.

use std::fmt;
use std::time::Duration;

use crate::base::Deadline;
use crate::batch::Ticket;
use crate::cache::{SourceLife, Whose};
use crate::config::Ttl;
use crate::error::{Error, Result};
use crate::queue;
use crate::sql::Task;
use crate::store::ExecResult;
use crate::value::Row;

/// One task or several; several run in one transaction, in order.
pub struct Tasks(pub(super) Vec<Task>);

impl Tasks {
    /// An error unless there is at least one task and each of them can run.
    pub(super) fn checked(self, verb: &str) -> Result<Vec<Task>> {
        if self.0.is_empty() {
            return Err(Error::task(format!("{verb} was given an empty list of tasks; give at least one")));
        }
        self.0.iter().try_for_each(|task| task.check_runnable(verb))?;
        Ok(self.0)
    }
}

impl From<Task> for Tasks {
    fn from(task: Task) -> Tasks {
        Tasks(vec![task])
    }
}

impl From<Vec<Task>> for Tasks {
    fn from(tasks: Vec<Task>) -> Tasks {
        Tasks(tasks)
    }
}

/// Options of a write to the cache or through it.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Life of the cached value; `None` is `default_ttl`.
    pub ttl: Option<Ttl>,
    /// Further keys that the task changes; they are dropped from the caches after the commit.
    pub invalidates: Vec<String>,
    /// Further keys of rows that the task makes. Their families' Bloom filters have to know them before the commit, or would
    /// say that there is no such row. They are dropped from the caches as well, where their absence may be remembered.
    pub bloom_keys: Vec<String>,
    /// Names under which the value can be dropped along with others; see [`super::Zmsg::invalidate_tag`]. At most 64.
    pub tags: Vec<String>,
}

impl WriteOptions {
    /// What is done with both is the same.
    pub(super) fn with_bloom_keys_named(mut self) -> WriteOptions {
        self.invalidates.append(&mut self.bloom_keys);
        self
    }
}

/// Options of a source.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Life of a value read from the database; `None` is `default_ttl`.
    pub ttl: Option<Ttl>,
    /// Life of an absence; `None` is `absent_ttl`.
    pub absent_ttl: Option<Duration>,
    /// Whether the family has a Bloom filter, which answers for keys that do not exist before the database is asked.
    pub bloom: bool,
    /// With `bloom`: the query that gives every key of the family, whole and as text, in its first column.
    pub keys: Option<Task>,
    /// How long a value is kept past its life for the case that the source fails; `None` is the setting, zero is not.
    pub stale_ttl: Option<Duration>,
    /// In which last part of its life a value is loaded anew, 0 to 0.9; `None` is the setting, 0 is never.
    pub refresh_ahead: Option<f64>,
    /// How long a read waits for the source while there is a last good value; `None` is the setting, zero is for as long
    /// as it takes.
    pub soft_timeout: Option<Duration>,
}

/// Options of a read: what it does when its source fails or takes long.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions {
    /// `Some(false)`: this read is never given a last good value. It waits for the source, and has its error if it fails.
    /// Else it is as the source says; `Some(true)` gives nothing that was not kept.
    pub stale: Option<bool>,
    /// How long the source is waited for while there is a last good value; `None` is as the source or the setting says,
    /// zero is for as long as it takes.
    pub soft_timeout: Option<Duration>,
}

impl ReadOptions {
    /// Whether an error is wanted in place of a last good value.
    pub(super) fn strict(&self) -> bool {
        self.stale == Some(false)
    }

    /// Whose flights it joins.
    pub(super) fn whose(&self) -> Whose {
        if self.strict() { Whose::Strict } else { Whose::Engine }
    }

    /// What a source says of lives, with what this call says for itself.
    pub(super) fn over(&self, source: SourceLife) -> SourceLife {
        let soft_timeout =
            if self.strict() { Some(Duration::ZERO) } else { self.soft_timeout.or(source.soft_timeout) };
        SourceLife { soft_timeout, ..source }
    }
}

/// Options of a load by the caller's own function.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Life of the value; `None` is that of the key's source, else `default_ttl`.
    pub ttl: Option<Ttl>,
    /// Life of an absence; `None` is that of the key's source, else `absent_ttl`.
    pub absent_ttl: Option<Duration>,
    /// How long the value is kept past its life for the case that the loader fails; `None` is as the source or the setting
    /// says, zero is not.
    pub stale_ttl: Option<Duration>,
    /// How long the loader is waited for while there is a last good value; `None` is as the source or the setting says.
    pub soft_timeout: Option<Duration>,
}

/// What an accepted write gives back.
#[derive(Clone)]
pub struct Receipt {
    origin: Origin,
    /// What the write survives. `"postgres"`: its COMMIT was seen. `"journal"`, `"journal_fsync"`, `"memory"`: it is
    /// accepted, and reaches PostgreSQL with the next flush; see the setting `journal`. `"redis_aof"`, `"redis"`: it is in the
    /// queue, of which Redis keeps what its settings say.
    pub durability: &'static str,
    /// Rows that the tasks changed, summed; 0 for what is still to be flushed.
    pub rows_affected: u64,
    /// RETURNING rows of all tasks, in order.
    pub rows: Vec<Row>,
    /// Whether the caches took the value, or the drop. If not, they hold nothing of this key in this process, and
    /// Redis may serve what it held before until that expires.
    pub cached: bool,
}

#[derive(Clone)]
enum Origin {
    Committed(String),
    Accepted(Ticket),
    Delayed(queue::Ticket),
}

impl Receipt {
    /// Of a write whose COMMIT was seen.
    pub(super) fn committed(op_id: String, result: ExecResult, cached: bool) -> Receipt {
        let ExecResult { rows_affected, rows } = result;
        Receipt { origin: Origin::Committed(op_id), durability: "postgres", rows_affected, rows, cached }
    }

    /// Of a write that will be flushed.
    #[inline]
    pub(super) fn accepted(ticket: Ticket, durability: &'static str, cached: bool) -> Receipt {
        Receipt { origin: Origin::Accepted(ticket), durability, rows_affected: 0, rows: Vec::new(), cached }
    }

    /// Of a write that is in the queue.
    pub(super) fn delayed(ticket: queue::Ticket, durability: &'static str, cached: bool) -> Receipt {
        Receipt { origin: Origin::Delayed(ticket), durability, rows_affected: 0, rows: Vec::new(), cached }
    }

    /// Identifies the operation in logs, errors and dead letters.
    pub fn op_id(&self) -> String {
        match &self.origin {
            Origin::Committed(op_id) => op_id.clone(),
            Origin::Accepted(ticket) => ticket.op_id(),
            Origin::Delayed(ticket) => ticket.op_id().to_owned(),
        }
    }

    /// Resolves when the effect is committed and the caches know; for a synchronous write that is now.
    ///
    /// # Errors
    /// What became of it: the database's refusal, if the operation is a dead letter now; `Closed` if the engine was closed
    /// before the flush.
    pub async fn done(&self) -> Result<()> {
        match &self.origin {
            Origin::Committed(_) => Ok(()),
            Origin::Accepted(ticket) => ticket.done().await,
            Origin::Delayed(ticket) => ticket.done().await,
        }
    }

    /// The same, but gives up after that time: the wait ends, and nothing else.
    ///
    /// # Errors
    /// As [`Receipt::done`], and `Timeout` with the operation's name, which says where the operation is.
    pub async fn done_within(&self, timeout: Duration) -> Result<()> {
        let place = match &self.origin {
            Origin::Delayed(_) => "in the queue",
            _ if self.durability == "memory" => "still in this process's memory",
            _ => "still in the journal",
        };
        let waiting = format!("waiting for the COMMIT; the operation is {place} and will be applied");
        let done = Deadline::after(timeout).run(&waiting, self.done()).await;
        done.unwrap_or_else(|late| Err(late.with_op_id(self.op_id())))
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("op_id", &self.op_id())
            .field("durability", &self.durability)
            .field("rows_affected", &self.rows_affected)
            .field("cached", &self.cached)
            .finish_non_exhaustive()
    }
}
