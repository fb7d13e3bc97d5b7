//! What goes into a verb and what comes out.

use std::time::Duration;

use crate::config::Ttl;
use crate::error::{Error, Result};
use crate::sql::Task;
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
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Identifies the operation in logs and errors.
    pub op_id: String,
    /// What the write survives; `"postgres"` means that its COMMIT was seen.
    pub durability: &'static str,
    /// Rows that the tasks changed, summed.
    pub rows_affected: u64,
    /// RETURNING rows of all tasks, in order.
    pub rows: Vec<Row>,
    /// Whether the caches took the value, or the drop. If not, they hold nothing of this key in this process, and
    /// Redis may serve what it held before until that expires.
    pub cached: bool,
}

impl Receipt {
    /// Resolves when the effect is committed; for a synchronous write that is now.
    pub async fn done(&self) -> Result<()> {
        Ok(())
    }
}
