//! A model of `zmsg_nodes` and of PostgreSQL's clock, moved by hand: what the statements of [`super::grants`] do, in
//! memory, so that the protocol is tested under clocks and failures that no real server shows on request.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::layout::NODES;
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Task;
use crate::store::migrations::{Migration, MigrationReport};
use crate::store::{
    Access, CommitHooks, Committed, ExecResult, Gone, PoolStats, StepFailure, Store, Transaction,
};
use crate::value::{Row, Value};

/// What becomes of the next statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// They run.
    None,
    /// They do not reach the server.
    Away,
    /// They run, and the reply is lost.
    ReplyLost,
}

/// One row.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) owner: String,
    pub(super) epoch: i64,
    pub(super) ceiling_ms: i64,
}

struct Database {
    now_ms: i64,
    nodes: Vec<Node>,
    fault: Fault,
}

/// The database of one test.
pub(super) struct Model {
    database: Mutex<Database>,
    /// How many statements were sent; a signal for tests.
    statements: watch::Sender<u64>,
}

impl Model {
    pub(super) fn new(now_ms: i64) -> Arc<Model> {
        let nodes = vec![Node::default(); NODES as usize];
        let database = Mutex::new(Database { now_ms, nodes, fault: Fault::None });
        Arc::new(Model { database, statements: watch::Sender::new(0) })
    }

    /// Moves PostgreSQL's clock, forward or back.
    pub(super) fn step(&self, by_ms: i64) {
        self.database.lock().now_ms += by_ms;
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.database.lock().now_ms
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.database.lock().fault = fault;
    }

    pub(super) fn statements(&self) -> u64 {
        *self.statements.borrow()
    }

    /// Resolves when `count` statements were sent.
    pub(super) async fn reached(&self, count: u64) {
        let mut statements = self.statements.subscribe();
        statements.wait_for(|sent| *sent >= count).await.expect("the model lives as long as its test");
    }

    pub(super) fn node(&self, node: i64) -> Node {
        self.database.lock().nodes[node as usize].clone()
    }

    /// Leaves only the first `count` nodes.
    pub(super) fn keep_nodes(&self, count: usize) {
        self.database.lock().nodes.truncate(count);
    }
}

impl Database {
    fn take(&mut self, params: &[Value]) -> Option<Row> {
        let [owner, position, length, _] = params else { panic!("four parameters") };
        let (position, length, now_ms) = (int(position), int(length), self.now_ms);
        let free = self.nodes.iter_mut().enumerate().filter(|(_, node)| node.ceiling_ms <= now_ms);
        let (id, node) = free.min_by_key(|(id, node)| (node.ceiling_ms, *id))?;
        let floor_ms = now_ms.max(node.ceiling_ms).max(position);
        *node = Node { owner: text(owner), epoch: node.epoch + 1, ceiling_ms: floor_ms + length };
        Some(row(&[
            ("node_id", id as i64),
            ("epoch", node.epoch),
            ("floor_ms", floor_ms),
            ("now_ms", now_ms),
            ("ceiling_ms", node.ceiling_ms),
        ]))
    }

    fn extend(&mut self, params: &[Value]) -> Option<Row> {
        let [position, length, id, epoch, owner] = params else { panic!("five parameters") };
        let now_ms = self.now_ms;
        let node = self.tenure(id, epoch, owner)?;
        node.ceiling_ms = node.ceiling_ms.max(now_ms.max(int(position)) + int(length));
        let ceiling_ms = node.ceiling_ms;
        Some(row(&[("now_ms", now_ms), ("ceiling_ms", ceiling_ms)]))
    }

    fn release(&mut self, params: &[Value]) -> Option<Row> {
        let [unused, id, epoch, owner] = params else { panic!("four parameters") };
        let node = self.tenure(id, epoch, owner)?;
        node.ceiling_ms = node.ceiling_ms.min(int(unused));
        let ceiling_ms = node.ceiling_ms;
        Some(row(&[("ceiling_ms", ceiling_ms)]))
    }

    fn tenure(&mut self, id: &Value, epoch: &Value, owner: &Value) -> Option<&mut Node> {
        let node = &mut self.nodes[int(id) as usize];
        (node.epoch == int(epoch) && node.owner == text(owner)).then_some(node)
    }
}

fn row(columns: &[(&str, i64)]) -> Row {
    Row {
        columns: columns.iter().map(|(name, _)| Arc::from(*name)).collect(),
        wide: [].into(),
        values: columns.iter().map(|(_, value)| Value::Int(*value)).collect(),
    }
}

fn int(value: &Value) -> i64 {
    let Value::Int(number) = value else { panic!("an int") };
    *number
}

fn text(value: &Value) -> String {
    let Value::Text(text) = value else { panic!("a text") };
    text.to_string()
}

#[async_trait]
impl Store for Model {
    async fn execute_if(
        &self,
        task: &Task,
        _wanted: &(dyn Fn() -> bool + Send + Sync),
        _deadline: Deadline,
    ) -> Result<ExecResult> {
        let rendered = task.render();
        let away = || Error::new(ErrorKind::Store, "the connection was lost").with_retryable(true);
        self.statements.send_modify(|sent| *sent += 1);
        let mut database = self.database.lock();
        if database.fault == Fault::Away {
            return Err(away());
        }
        let row = match &*rendered.sql {
            sql if sql.contains("SKIP LOCKED") => database.take(&rendered.params),
            sql if sql.contains("least(") => database.release(&rendered.params),
            _ => database.extend(&rendered.params),
        };
        if database.fault == Fault::ReplyLost {
            return Err(away());
        }
        Ok(ExecResult { rows_affected: u64::from(row.is_some()), rows: row.into_iter().collect() })
    }

    async fn query_until(&self, _task: &Task, _gone: Gone<'_>, _deadline: Deadline) -> Result<Vec<Row>> {
        unreachable!("grants only execute")
    }

    async fn query_many(&self, _tasks: &[Task], _deadline: Deadline) -> Vec<Result<Vec<Row>>> {
        unreachable!("grants only execute")
    }

    async fn transact(&self, _: &[Task], _: Arc<dyn CommitHooks>, _: Deadline) -> Result<Committed> {
        unreachable!("grants only execute")
    }

    async fn begin(&self, _: Access, _: Deadline) -> Result<Box<dyn Transaction>, StepFailure> {
        unreachable!("grants only execute")
    }

    async fn ping(&self, _deadline: Deadline) -> Result<Duration> {
        unreachable!("grants only execute")
    }

    fn pool_stats(&self) -> PoolStats {
        PoolStats::default()
    }

    async fn open_own_tables(&self, _migrate: bool, _deadline: Deadline) -> Result<()> {
        unreachable!("grants only execute")
    }

    async fn migrate(&self, _: &[Migration], _: Deadline) -> Result<MigrationReport> {
        unreachable!("grants only execute")
    }

    async fn close(&self) {}
}
