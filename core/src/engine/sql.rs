//! The verbs that run SQL and touch no cache.

use std::sync::Arc;

use super::caller::Caller;
use super::{Tasks, Zmsg};
use crate::base::service;
use crate::error::Result;
use crate::sql::Task;
use crate::store::ExecResult;
use crate::value::Row;

impl Zmsg {
    /// Runs SQL: one task by itself (so also what PostgreSQL refuses inside a transaction), several in one
    /// transaction. Rows of RETURNING and SELECT come back in order.
    ///
    /// # Errors
    /// As [`Zmsg::cache_and_store`]; a single statement whose connection was lost is `CommitUnknown`.
    pub async fn sql_exec(&self, tasks: impl Into<Tasks>) -> Result<ExecResult> {
        let tasks = tasks.into().checked("sql_exec")?;
        let (zmsg, deadline) = (self.clone(), self.deadline());
        let call = self.state.calls.enter()?;
        let (caller, waiting) = Caller::new();
        let result = service::detached(async move {
            let (_call, state) = (call, &zmsg.state);
            if let [task] = tasks.as_slice() {
                return state.store.execute_if(task, &|| caller.waits(), deadline).await;
            }
            state.own_tables(deadline).await?;
            Ok(state.store.transact(&tasks, Arc::new(caller), deadline).await?.total())
        })
        .await;
        drop(waiting);
        result
    }

    /// Runs one reading statement and gives its rows. If its caller goes away it is cancelled in the server.
    ///
    /// # Errors
    /// `Task` for a template, `Store` with its SQLSTATE, `Timeout`.
    pub async fn query(&self, task: Task) -> Result<Vec<Row>> {
        task.check_runnable("query")?;
        let (zmsg, deadline) = (self.clone(), self.deadline());
        let call = self.state.calls.enter()?;
        let (caller, waiting) = Caller::new();
        let rows = service::detached(async move {
            let (_call, store) = (call, &zmsg.state.store);
            if task.is_read() {
                return store.query_until(&task, Box::pin(caller.gone()), deadline).await;
            }
            // What may write is not repeated when its connection is lost.
            Ok(store.execute_if(&task, &|| caller.waits(), deadline).await?.rows)
        })
        .await;
        drop(waiting);
        rows
    }
}
