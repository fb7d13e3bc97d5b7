//! The pool: a bounded number of connections, opened on demand, checked before use when they have been idle.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Manager, Metrics, Object, PoolError, RecycleError, RecycleResult, Timeouts};

use super::connect::{Connection, Connector};
use crate::base::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::store::PoolStats;

/// A connection idle for longer is asked before use, so that a write is not lost on one that died unnoticed. A check
/// costs a round trip, which is little once in this time.
const TRUST_IDLE: Duration = Duration::from_secs(1);
/// How long an idle connection has to answer; never more than half of what the call has left, so that there is time
/// for a new one.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What deadpool needs to know.
struct Connections(Connector);

impl Manager for Connections {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection> {
        self.0.connect().await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        if connection.is_good() { Ok(()) } else { Err(RecycleError::message("in doubt or closed")) }
    }
}

/// The connections of one store.
pub(super) struct Pool {
    pool: managed::Pool<Connections>,
    waiting_for: String,
}

impl Pool {
    pub(super) fn new(connector: Connector, size: usize) -> Result<Pool> {
        let waiting_for = format!("waiting for one of {size} PostgreSQL connections");
        let pool = managed::Pool::builder(Connections(connector))
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "the connection pool cannot be built").with_source(error)
            })?;
        Ok(Pool { pool, waiting_for })
    }

    /// A connection that answers, within the deadline.
    pub(super) async fn take(&self, deadline: Deadline) -> Result<Lease> {
        let timeouts = Timeouts { wait: Some(deadline.remaining()), create: None, recycle: None };
        loop {
            let taken = deadline.run(&self.waiting_for, self.pool.timeout_get(&timeouts)).await?;
            let mut lease = Lease(Some(taken.map_err(|error| self.refusal(error, deadline))?));
            if lease.idle() < TRUST_IDLE || self.check(&mut lease, deadline).await? {
                return Ok(lease);
            }
        }
    }

    /// Whether an idle connection still answers. If not, those that are as idle go with it: what forgot the one forgot
    /// them too, and each would cost a call its time.
    async fn check(&self, lease: &mut Lease, deadline: Deadline) -> Result<bool> {
        const WHAT: &str = "checking a PostgreSQL connection";
        let limit = deadline.at_most(ANSWER_WITHIN.min(deadline.remaining() / 2));
        let answers = matches!(limit.run(WHAT, lease.check()).await, Ok(Ok(())));
        if !answers {
            self.pool.retain(|connection, _| connection.idle() < TRUST_IDLE);
            if deadline.passed() {
                return Err(deadline.error(WHAT));
            }
        }
        Ok(answers)
    }

    /// A connection of its own, outside of the pool.
    pub(super) async fn connect(&self, deadline: Deadline) -> Result<Connection> {
        if self.pool.is_closed() {
            return Err(Error::closed());
        }
        deadline.run("connecting to PostgreSQL", self.pool.manager().0.connect()).await?
    }

    fn refusal(&self, error: PoolError<Error>, deadline: Deadline) -> Error {
        match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => Error::closed(),
            PoolError::Timeout(_) => deadline.error(&self.waiting_for),
            other => Error::new(ErrorKind::Internal, "the connection pool failed").with_source(other),
        }
    }

    pub(super) fn stats(&self) -> PoolStats {
        let status = self.pool.status();
        PoolStats { size: status.size, idle: status.available, waiting: status.waiting }
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// A connection taken from the pool; it goes back when this is dropped, unless its state is in doubt.
pub(super) struct Lease(Option<Object<Connections>>);

const TAKEN: &str = "the connection is only taken out on drop";

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.as_ref().expect(TAKEN)
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        self.0.as_mut().expect(TAKEN)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.0.take_if(|object| !object.is_good()) {
            drop(Object::take(object));
        }
    }
}
