//! What goes into a verb and what comes out.

use std::fmt;
use std::time::Duration;

use crate::base::Deadline;
use crate::batch::Ticket;
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
    /// Names under which the value can be dropped along with others; see [`super::Zmsg::invalidate_tag`]. At most 64.
    pub tags: Vec<String>,
}

/// Options of a source.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Life of a value read from the database; `None` is `default_ttl`.
    pub ttl: Option<Ttl>,
    /// Life of an absence; `None` is `absent_ttl`.
    pub absent_ttl: Option<Duration>,
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
