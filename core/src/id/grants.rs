//! Node ids, granted by PostgreSQL for an interval of time.
//!
//! `zmsg_nodes` has one row per node: `node_id`, `owner`, `epoch`, `ceiling_ms`. A node is free once PostgreSQL's own
//! clock has passed its ceiling. Taking it draws a new interval [floor, ceiling) that begins at or above the old
//! ceiling, so the intervals of one node are disjoint whatever any clock does; `epoch` counts its owners.
//!
//! A grant that was given must not be forgotten: after a crash of the server the node would be given again. So taking
//! and extending wait for the disk (and for synchronous standbys) whatever `synchronous_commit` the database or role
//! has; the setting counts at the COMMIT of the statement and ends with it. Releasing need not: a node whose release
//! was forgotten is free a little later.
//!
//! All times are milliseconds since 1970 by `clock_timestamp()`.

use std::sync::Arc;
use std::time::Duration;

use super::layout::{END_MS, EPOCH_MS, NODES};
use crate::base::{Deadline, random};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::sql;
use crate::store::Store;
use crate::value::{Row, Value};

/// Takes the node that has been free longest.
/// Parameters: owner, length of the grant, position (no id below it will be made).
/// Result: node_id, epoch, floor_ms, now_ms, ceiling_ms; no row if every node is in use.
/// Safe because the row lock makes one taker win, SKIP LOCKED sends the others to the next row, and the condition is
/// checked again on the locked version of the row. MATERIALIZED, so that exactly one row is chosen; `durable` is joined,
/// because a part that nobody reads is not run.
const TAKE: &str = "\
WITH clock AS MATERIALIZED (
  SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
), free AS MATERIALIZED (
  SELECT n.node_id, n.ceiling_ms, clock.now_ms
  FROM zmsg_nodes AS n, clock
  WHERE n.ceiling_ms <= clock.now_ms
  ORDER BY n.ceiling_ms, n.node_id
  LIMIT 1
  FOR UPDATE OF n SKIP LOCKED
), durable AS MATERIALIZED (
  SELECT set_config('synchronous_commit',
                    CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,
                    true)
)
UPDATE zmsg_nodes AS node
SET owner = ?::text,
    epoch = node.epoch + 1,
    ceiling_ms = greatest(free.now_ms, free.ceiling_ms, ?::bigint) + ?::bigint
FROM free, durable
WHERE node.node_id = free.node_id
RETURNING node.node_id, node.epoch, greatest(free.now_ms, free.ceiling_ms, ?::bigint) AS floor_ms,
          free.now_ms, node.ceiling_ms";

/// Moves the ceiling of a node that is still this owner's.
/// Parameters: position, length of the grant, node, epoch, owner.
/// Result: now_ms, ceiling_ms; no row if another owner has taken the node since.
/// Safe because owner and epoch name one tenure, and the ceiling only grows.
const EXTEND: &str = "\
WITH clock AS MATERIALIZED (
  SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
), durable AS MATERIALIZED (
  SELECT set_config('synchronous_commit',
                    CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,
                    true)
)
UPDATE zmsg_nodes AS node
SET ceiling_ms = greatest(node.ceiling_ms, greatest(clock.now_ms, ?::bigint) + ?::bigint)
FROM clock, durable
WHERE node.node_id = ?::bigint AND node.epoch = ?::bigint AND node.owner = ?::text
RETURNING clock.now_ms, node.ceiling_ms";

/// Gives a node back: its ceiling becomes the first millisecond that was not used.
/// Parameters: unused_ms, node, epoch, owner.
/// Safe because the owner has stopped making ids for good.
const RELEASE: &str = "\
UPDATE zmsg_nodes AS node
SET ceiling_ms = least(node.ceiling_ms, ?::bigint)
WHERE node.node_id = ?::bigint AND node.epoch = ?::bigint AND node.owner = ?::text
RETURNING node.ceiling_ms";

/// The right to make ids of one node with times in [floor, ceiling).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The node.
    pub(crate) node: i64,
    /// Counts the node's owners.
    pub(crate) epoch: i64,
    /// First millisecond of this tenure.
    pub(crate) floor_ms: i64,
    /// Where the clock stands now: PostgreSQL's time, or this process's position if that is later.
    pub(crate) from_ms: i64,
    /// First millisecond that must not be used.
    pub(crate) ceiling_ms: i64,
}

/// Takes, extends and releases grants for one owner.
pub(crate) struct Grants {
    store: Arc<dyn Store>,
    owner: String,
    length_ms: i64,
}

impl Grants {
    /// Grants of `length` for a new owner.
    pub(crate) fn new(store: Arc<dyn Store>, length: Duration) -> Grants {
        Grants { store, owner: random::operation_id(), length_ms: length.as_millis() as i64 }
    }

    /// Takes a free node; no id below `position_ms` will be made with it.
    ///
    /// # Errors
    /// `Id` if all nodes are in use, `Store` or `Timeout` if PostgreSQL cannot be asked.
    pub(crate) async fn take(&self, position_ms: i64, deadline: Deadline) -> Result<Grant> {
        let owner = self.owner.as_str().into();
        let (position, length) = (position_ms.into(), self.length_ms.into());
        let row = self.run(TAKE, &[owner, Value::Int(position_ms), length, position], deadline).await?;
        let row = row.ok_or_else(no_free_node)?;
        let floor_ms = column(&row, "floor_ms")?;
        check(Grant {
            node: column(&row, "node_id")?,
            epoch: column(&row, "epoch")?,
            floor_ms,
            from_ms: floor_ms,
            ceiling_ms: column(&row, "ceiling_ms")?,
        })
    }

    /// Moves the ceiling of `grant`; `None` if the node is no longer this owner's. Only the value returned says how
    /// far: after an error the grant stays what it was.
    pub(crate) async fn extend(
        &self,
        grant: &Grant,
        position_ms: i64,
        deadline: Deadline,
    ) -> Result<Option<Grant>> {
        let owner = self.owner.as_str().into();
        let params =
            [position_ms.into(), self.length_ms.into(), grant.node.into(), grant.epoch.into(), owner];
        let Some(row) = self.run(EXTEND, &params, deadline).await? else { return Ok(None) };
        let from_ms = column(&row, "now_ms")?.max(position_ms);
        check(Grant { from_ms, ceiling_ms: column(&row, "ceiling_ms")?, ..grant.clone() }).map(Some)
    }

    /// Gives the node back; whatever this ends in, the node is free again once its ceiling has passed.
    pub(crate) async fn release(&self, grant: &Grant, unused_ms: i64, deadline: Deadline) -> Result<()> {
        let params = [unused_ms.into(), grant.node.into(), grant.epoch.into(), self.owner.as_str().into()];
        self.run(RELEASE, &params, deadline).await.map(|_| ())
    }

    /// Runs a statement whose effect is committed when this returns.
    async fn run(&self, text: &str, params: &[Value], deadline: Deadline) -> Result<Option<Row>> {
        let result = self.store.execute(&sql(text, params)?, deadline).await?;
        Ok(result.rows.into_iter().next())
    }
}

fn column(row: &Row, name: &'static str) -> Result<i64> {
    match row.get(name) {
        Some(Value::Int(number)) => Ok(*number),
        _ => Err(broken("a column is missing or not an integer").with("column", name)),
    }
}

/// The table belongs to the database, and anybody may have written to it.
fn check(grant: Grant) -> Result<Grant> {
    if !(0..NODES).contains(&grant.node) {
        return Err(broken("a node is not between 0 and 1023").with("node", grant.node));
    }
    if grant.floor_ms < EPOCH_MS || grant.from_ms < EPOCH_MS || grant.ceiling_ms > EPOCH_MS + END_MS {
        return Err(broken("a time is before 2024 or after 2093; look at the clock of PostgreSQL's host"));
    }
    if grant.ceiling_ms <= grant.floor_ms {
        return Err(broken("a ceiling is not above its floor"));
    }
    Ok(grant)
}

fn broken(problem: &str) -> Error {
    Error::new(ErrorKind::Id, format!("zmsg_nodes cannot grant ids: {problem}")).with_retryable(false)
}

fn no_free_node() -> Error {
    let message = format!(
        "all {NODES} node ids are in use, or zmsg_nodes has no rows; a process that was killed gives its node back \
         after id_grant, one that closes its engine at once"
    );
    Error::new(ErrorKind::Id, message)
}
