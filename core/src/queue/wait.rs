//! Who waits for the end of an operation. Its worker may be in any process: that of this one tells at once, of the others
//! Redis and then PostgreSQL are asked, by one service for all who wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::Shared;
use super::burial::dead;
use crate::base::Deadline;
use crate::base::service::StopSignal;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::sql;
use crate::value::Value;

/// Operations asked about at once.
const AT_ONCE: usize = 1_000;
/// Ends that are remembered.
const REMEMBERED: usize = 8_192;
/// Between two questions: short at first, because most operations are quick.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(250);

const LETTER_GONE: &str = "the delayed write was refused, and its dead letter was dropped";

const DONE: &str = "SELECT FROM zmsg_done WHERE op_id = ?";
/// One question, so that a letter which is run again or dropped meanwhile is there or not, but not half. The newest letter of a
/// name is last.
const ENDS: &str = "SELECT op_id, dead, NULL::text, NULL::text, 0 AS id FROM zmsg_done WHERE op_id = ANY(?) UNION ALL \
     SELECT op_id, true, sqlstate, message, id FROM zmsg_dead WHERE path = 'queue' AND op_id = ANY(?) ORDER BY id";

/// See the head of this file.
#[derive(Default)]
pub(super) struct Waiting {
    waiters: Mutex<Waiters>,
    /// Somebody waits, or something has ended in a way that only the database knows.
    soon: Notify,
}

#[derive(Default)]
struct Waiters {
    by_op: HashMap<String, Vec<oneshot::Sender<Ended>>>,
    /// What ended lately, in its order: most callers wait a moment later.
    ended: HashMap<String, Ended>,
    order: VecDeque<String>,
    closed: bool,
}

/// How an operation ended, and where.
type Ended = (Result<()>, Where);

/// Who ran an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// This process: its caches have followed.
    Here,
    /// Another one, maybe.
    Elsewhere,
}

/// An accepted operation.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(super) shared: Arc<Shared>,
    pub(super) op_id: Arc<str>,
    /// What it changes.
    pub(super) keys: Arc<[Arc<str>]>,
}

impl Ticket {
    /// Names the operation.
    pub(crate) fn op_id(&self) -> &str {
        &self.op_id
    }

    /// Resolves when the effect is committed and this process serves nothing older, or raises what became of it.
    pub(crate) async fn done(&self) -> Result<()> {
        let (result, place) = self.told().await.unwrap_or_else(|| (Err(left()), Where::Elsewhere));
        if place == Where::Elsewhere {
            self.shared.hooks.seen(&self.keys);
        }
        result.map_err(|error| error.with_op_id(&*self.op_id))
    }

    /// `None` if the engine is closed first.
    async fn told(&self) -> Option<Ended> {
        self.shared.waiting.register(&self.op_id).await.ok()
    }
}

/// Asks for all who wait, as long as somebody does.
pub(super) async fn answer(shared: Arc<Shared>, mut stop: StopSignal) {
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            () = shared.waiting.soon.notified() => {}
        }
        let mut pause = FIRST;
        while !shared.waiting.awaited().is_empty() {
            // At once: it may have ended before anybody waited.
            if let Err(error) = shared.ask().await {
                log::debug!("nobody could say how delayed writes stand, asking again: {error}");
            }
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 3 / 2).min(LONGEST),
                () = shared.waiting.soon.notified() => {}
            }
        }
    }
}

impl Waiting {
    fn register(&self, op_id: &str) -> oneshot::Receiver<Ended> {
        let (tell, told) = oneshot::channel();
        let mut waiters = self.waiters.lock();
        if let Some(ended) = waiters.ended.get(op_id) {
            let _ = tell.send(ended.clone());
        } else if !waiters.closed {
            waiters.by_op.entry(op_id.to_owned()).or_default().push(tell);
            self.soon.notify_one();
        }
        told
    }

    /// An operation has ended.
    pub(super) fn ended(&self, op_id: &str, result: Result<()>, place: Where) {
        let mut waiters = self.waiters.lock();
        for tell in waiters.by_op.remove(op_id).into_iter().flatten() {
            let _ = tell.send((result.clone(), place));
        }
        if waiters.ended.insert(op_id.to_owned(), (result, place)).is_none() {
            waiters.order.push_back(op_id.to_owned());
        }
        if waiters.order.len() > REMEMBERED
            && let Some(oldest) = waiters.order.pop_front()
        {
            waiters.ended.remove(&oldest);
        }
    }

    /// An operation of this name is accepted anew.
    pub(super) fn begun(&self, op_id: &str) {
        self.waiters.lock().ended.remove(op_id);
    }

    /// Something has ended in a way that only the database knows.
    pub(super) fn look_soon(&self) {
        self.soon.notify_one();
    }

    /// Nobody is told any more: the engine is closed.
    pub(super) fn leave(&self) {
        let mut waiters = self.waiters.lock();
        waiters.closed = true;
        waiters.by_op.clear();
    }

    fn awaited(&self) -> Vec<String> {
        let mut waiters = self.waiters.lock();
        waiters.by_op.retain(|_, waiting| waiting.iter().any(|tell| !tell.is_closed()));
        waiters.by_op.keys().cloned().collect()
    }
}

impl Shared {
    /// Whether an operation has had its effect.
    pub(super) async fn was_done(&self, op_id: &str, deadline: Deadline) -> Result<bool> {
        Ok(!self.store.query(&sql(DONE, [Value::text(op_id)])?, deadline).await?.is_empty())
    }

    async fn ask(&self) -> Result<()> {
        let deadline = Deadline::after(self.settings.lease);
        for ops in self.waiting.awaited().chunks(AT_ONCE) {
            let (depth, there) = self.lanes.look(ops, deadline).await?;
            self.note_depth(depth);
            // What this process still has will be told by its worker, also if Redis has lost it meanwhile.
            let gone = ops.iter().zip(there).filter(|(op_id, there)| !there && !self.held.contains(op_id));
            let gone: Vec<String> = gone.map(|(op_id, _)| op_id.clone()).collect();
            if !gone.is_empty() {
                self.tell_of(gone, deadline).await?;
            }
        }
        Ok(())
    }

    /// What is no longer in Redis has left a row in PostgreSQL, unless it was taken back.
    async fn tell_of(&self, gone: Vec<String>, deadline: Deadline) -> Result<()> {
        let ids = || Value::List(gone.iter().map(|op_id| Value::text(op_id.as_str())).collect());
        let mut told: HashMap<String, Result<()>> = HashMap::new();
        for row in self.store.query(&sql(ENDS, [ids(), ids()])?, deadline).await? {
            let [Value::Text(op_id), Value::Bool(is_dead), code, message, _] = &row.values[..] else {
                continue;
            };
            let code = if let Value::Text(code) = code { Some(&**code) } else { None };
            let message = if let Value::Text(message) = message { message } else { LETTER_GONE };
            // What had its effect may still have the letter of an earlier write of its name.
            if !matches!(told.get(&**op_id), Some(Ok(()))) {
                let result = if *is_dead { Err(dead(message.to_owned(), code)) } else { Ok(()) };
                told.insert(op_id.to_string(), result);
            }
        }
        for op_id in gone {
            let result = told.remove(&op_id).unwrap_or_else(|| Err(taken_back()));
            self.waiting.ended(&op_id, result, Where::Elsewhere);
        }
        Ok(())
    }
}

fn left() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the engine was closed before the delayed write had its effect; it is in the queue, and any process with a worker runs it",
    )
}

fn taken_back() -> Error {
    Error::new(
        ErrorKind::Queue,
        "the delayed write is no longer in the queue and had no effect: it was cancelled, replaced by a later one (coalesce), \
         or Redis has lost it",
    )
    .with_retryable(false)
}
