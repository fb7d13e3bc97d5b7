//! From leased operations to their effect in PostgreSQL, which each has once.
//!
//! ```text
//! begun ─▶ BEGIN ─▶ INSERT INTO zmsg_done, giving back what is new ─▶ the statements of those ─▶ COMMIT
//!                                                                                           settled ◀─ caches ◀──╯
//! ```
//! Whoever is given an operation again finds its row and leaves it alone; one whose COMMIT is still under way is waited for
//! by the INSERT. Many operations share a transaction. What goes wrong in it is found by halving: a refusal makes a dead
//! letter of one operation, in a transaction that also writes its row, so that a worker that comes back late finds it dead.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;

use super::Shared;
use super::answers::{Claimed, How};
use super::body::Body;
use super::burial::{bury, dead, failed};
use super::wait::Where;
use crate::base::backoff::Backoff;
use crate::base::crash::crash;
use crate::base::{Deadline, random};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Rendered;
use crate::store::{Access, ChangedKey, CommitFailure, Cover, StepFailure, Transaction};
use crate::value::Value;

/// Statements in one flight.
const FLIGHT: usize = 256;
/// Crashes of its workers that make an operation dead.
const MOST_CRASHES: u32 = 3;
/// Tries in a row, at once, of what met another transaction or lost its prepared statements.
const AT_ONCE: u32 = 5;
/// How long it may take to find out whether the server is there.
const PING: Duration = Duration::from_secs(2);
/// The longest pause before what failed through no fault of its own runs again.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// Writes the rows and gives back the operations that had none.
const DONE: &str = "INSERT INTO zmsg_done (op_id, dead) SELECT op_id, $2::bool FROM unnest($1::text[]) AS t (op_id) \
     ORDER BY op_id ON CONFLICT (op_id) DO NOTHING RETURNING op_id";
/// A worker that was stopped in the middle holds its locks no longer than its leases.
const IDLE: &str = "SELECT set_config('idle_in_transaction_session_timeout', $1::text, true)";
const ARE_DEAD: &str = "SELECT op_id FROM zmsg_done WHERE op_id = ANY($1::text[]) AND dead";
const WAS_REFUSED: &str = "the delayed write of this op_id was refused before";

/// One operation with what it says.
struct Operation {
    claimed: Claimed,
    body: Body,
}

/// What is known of a group whose statements have run.
struct Ran {
    /// The operations that had not had their effect before.
    new: HashSet<String>,
    /// Those that were dead before.
    dead: HashSet<String>,
}

/// A group that is committed.
struct Committed {
    ran: Ran,
    /// What the caches are still to be told.
    cover: Box<dyn Cover>,
}

/// Why a group had no effect, as far as is known.
pub(super) enum Trouble {
    /// The database refused something of it, and would again.
    Refused(Error),
    /// It failed in a way that usually passes and may be its own fault: a lock, a conflict, its time.
    Failed(Error),
    /// The server, or the way there: nobody's fault.
    Away(Error),
    /// The answer to COMMIT was lost; running it again finds out.
    Unknown(Error),
}

/// Runs operations of different lanes, and settles each.
pub(super) async fn run(shared: &Shared, claimed: Vec<Claimed>, now_ms: u64) {
    crash!("queue.after_claim");
    if shared.is_stopping() {
        return give_back(shared, &claimed, Duration::ZERO).await;
    }
    let claimed = match shared.begin(claimed).await {
        Ok(claimed) => claimed,
        Err((claimed, error)) => {
            log::debug!("delayed writes are not begun without Redis: {error}");
            return give_back(shared, &claimed, Duration::ZERO).await;
        }
    };
    crash!("queue.after_begin");
    let mut group = Vec::with_capacity(claimed.len());
    for claimed in claimed {
        match refused_unseen(shared, &claimed, now_ms) {
            Some(error) => bury(shared, &claimed, error).await,
            None => match Body::decode(&claimed.payload) {
                Ok(body) => group.push(Operation { claimed, body }),
                Err(error) => bury(shared, &claimed, error).await,
            },
        }
    }
    // Rows that belong to keys are mostly met in the order of the keys.
    group.sort_by(|a, b| a.claimed.lane.cmp(&b.claimed.lane));
    let mut groups = vec![group];
    while let Some(group) = groups.pop().filter(|group| !group.is_empty()) {
        if shared.is_stopping() {
            groups.push(group);
            return give_back(shared, &groups.concat_claimed(), Duration::ZERO).await;
        }
        match patiently(shared, &group).await {
            Ok(committed) => finish(shared, group, committed, now_ms).await,
            Err(Trouble::Away(error) | Trouble::Unknown(error)) => {
                shared.note_away(&error);
                groups.push(group);
                let pause = Duration::from_nanos(random::below(AWAY_PAUSE.as_nanos() as u64));
                return give_back(shared, &groups.concat_claimed(), pause).await;
            }
            Err(trouble) => match (<[Operation; 1]>::try_from(group), trouble) {
                (Ok([one]), Trouble::Refused(error)) => bury(shared, &one.claimed, error).await,
                (Ok([one]), Trouble::Failed(error)) => failed(shared, &one.claimed, error).await,
                (Err(mut first), _) => {
                    let second = first.split_off(first.len() / 2);
                    groups.extend([second, first]);
                }
                (Ok(_), Trouble::Away(_) | Trouble::Unknown(_)) => {}
            },
        }
    }
}

/// Operations of several groups.
trait ConcatClaimed {
    fn concat_claimed(&self) -> Vec<Claimed>;
}

impl ConcatClaimed for Vec<Vec<Operation>> {
    fn concat_claimed(&self) -> Vec<Claimed> {
        self.iter().flatten().map(|it| it.claimed.clone()).collect()
    }
}

/// Why an operation is dead before it runs.
fn refused_unseen(shared: &Shared, claimed: &Claimed, now_ms: u64) -> Option<Error> {
    if claimed.crashes >= MOST_CRASHES {
        let message = format!("{} processes ended while they ran it", claimed.crashes);
        return Some(Error::new(ErrorKind::Queue, message).with_retryable(false));
    }
    let age = Duration::from_millis(now_ms.saturating_sub(claimed.due_ms));
    (age > shared.settings.retention).then(|| {
        let message = "it was due before what PostgreSQL remembers of delayed writes (done_retention): nobody knows whether \
                       it had its effect";
        Error::new(ErrorKind::Queue, message).with_retryable(false)
    })
}

/// Once, or a few times where that usually helps.
async fn patiently(shared: &Shared, group: &[Operation]) -> Result<Committed, Trouble> {
    let mut pauses = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));
    loop {
        let trouble = match together(shared, group).await {
            Ok(committed) => return Ok(committed),
            Err(trouble) => trouble,
        };
        let again = match &trouble {
            Trouble::Unknown(_) => true,
            // Halving helps sooner where there is something to halve.
            Trouble::Failed(error) => group.len() == 1 && is_conflict(error) || is_stale(error),
            _ => false,
        };
        if !again || pauses.tries() >= AT_ONCE {
            return Err(trouble);
        }
        tokio::time::sleep(pauses.next_delay()).await;
    }
}

fn is_conflict(error: &Error) -> bool {
    matches!(error.sqlstate(), Some("40001" | "40P01"))
}

fn is_stale(error: &Error) -> bool {
    matches!(error.sqlstate(), Some("0A000" | "26000" | "42P05"))
}

/// One transaction for all of them.
async fn together(shared: &Shared, group: &[Operation]) -> Result<Committed, Trouble> {
    let time = group.iter().map(|it| it.body.timeout.unwrap_or(shared.settings.task_timeout)).max();
    let deadline = Deadline::after(time.unwrap_or(shared.settings.task_timeout));
    let keys: Vec<Arc<str>> = group.iter().flat_map(|it| keys_of(&it.body, None)).map(|it| it.key).collect();
    shared.hooks.prepare(&keys, deadline).await.map_err(Trouble::Away)?;
    let begun = shared.store.begin(Access::Any, deadline).await;
    let mut transaction = begun.map_err(|failure| Trouble::Away(error_of(failure)))?;
    match within(shared, group, &mut *transaction).await {
        Ok(ran) => {
            let (admitted, cover) = join(
                shared.hooks.before_commit(&keys, deadline),
                shared.hooks.cover(changed_by(group, &ran.new), deadline),
            )
            .await;
            if let Err(error) = admitted {
                transaction.roll_back().await;
                cover.called_off().await;
                // Not its fault: it is given back, and the next try finds the way open.
                return Err(Trouble::Away(error));
            }
            crash!("queue.covered");
            let trouble = match transaction.commit().await {
                Ok(()) => {
                    crash!("queue.after_commit");
                    return Ok(Committed { ran, cover });
                }
                Err(CommitFailure::Unknown(error)) => return Err(Trouble::Unknown(error)),
                Err(CommitFailure::Refused(error)) => Trouble::Refused(error),
                Err(CommitFailure::Again(error)) => trouble(StepFailure::Again(error)),
            };
            cover.called_off().await;
            Err(trouble)
        }
        Err(Trouble::Away(error)) => {
            drop(transaction);
            // If the server is there all the same, one of them has ended the connection, or is what it has no room for.
            let there = shared.store.ping(Deadline::after(PING)).await.is_ok();
            Err(if there { Trouble::Failed(error) } else { Trouble::Away(error) })
        }
        Err(trouble) => {
            transaction.roll_back().await;
            Err(trouble)
        }
    }
}

/// Everything of a transaction but its ends.
async fn within(
    shared: &Shared,
    group: &[Operation],
    transaction: &mut dyn Transaction,
) -> Result<Ran, Trouble> {
    let ids = group.iter().map(|it| it.claimed.op_id.as_str());
    let first = transaction.run(&[idle(shared), done(ids, false)]).await;
    let new: HashSet<String> = first.map_err(trouble)?[1].rows.iter().filter_map(text).collect();
    let mut dead = HashSet::new();
    if new.len() < group.len() {
        let ids = group.iter().map(|it| it.claimed.op_id.as_str()).filter(|op_id| !new.contains(*op_id));
        let found = transaction.run(&[are_dead(ids)]).await.map_err(trouble)?;
        dead.extend(found[0].rows.iter().filter_map(text));
    }
    let wanted = group.iter().filter(|it| new.contains(&it.claimed.op_id));
    let statements: Vec<Rendered> = wanted.flat_map(|it| it.body.statements.iter().cloned()).collect();
    for flight in statements.chunks(FLIGHT) {
        transaction.run(flight).await.map_err(trouble)?;
    }
    crash!("queue.after_effect");
    Ok(Ran { new, dead })
}

pub(super) fn idle(shared: &Shared) -> Rendered {
    let milliseconds = shared.settings.lease.as_millis().to_string();
    Rendered { sql: IDLE.into(), params: [Value::text(milliseconds.as_str())].into() }
}

pub(super) fn done<'a>(ids: impl Iterator<Item = &'a str>, dead: bool) -> Rendered {
    let params = [Value::List(ids.map(Value::text).collect()), Value::Bool(dead)];
    Rendered { sql: DONE.into(), params: params.into() }
}

pub(super) fn are_dead<'a>(ids: impl Iterator<Item = &'a str>) -> Rendered {
    Rendered { sql: ARE_DEAD.into(), params: [Value::List(ids.map(Value::text).collect())].into() }
}

fn text(row: &crate::value::Row) -> Option<String> {
    match row.values.first() {
        Some(Value::Text(text)) => Some(text.to_string()),
        _ => None,
    }
}

pub(super) fn trouble(failure: StepFailure) -> Trouble {
    match failure {
        StepFailure::Refused { error, .. } => Trouble::Refused(error),
        StepFailure::Again(error) => {
            let own = matches!(
                error.sqlstate(),
                Some("40001" | "40P01" | "55P03" | "57014" | "0A000" | "26000" | "42P05")
            );
            if own || error.kind() == ErrorKind::Timeout {
                Trouble::Failed(error)
            } else {
                Trouble::Away(error)
            }
        }
    }
}

pub(super) fn error_of(failure: StepFailure) -> Error {
    match failure {
        StepFailure::Again(error) | StepFailure::Refused { error, .. } => error,
    }
}

/// After the COMMIT: caches, then Redis, then whoever waits.
async fn finish(shared: &Shared, group: Vec<Operation>, committed: Committed, now_ms: u64) {
    let Committed { ran: Ran { new, dead }, cover } = committed;
    cover.committed().await;
    crash!("queue.before_ack");
    shared.note_back();
    for Operation { claimed, .. } in &group {
        let late = Duration::from_millis(now_ms.saturating_sub(claimed.due_ms));
        shared.latency.record(late + shared.since(claimed));
    }
    let how = |it: &Operation| if dead.contains(&it.claimed.op_id) { How::Dead } else { How::Done };
    let ended: Vec<(&Claimed, How)> = group.iter().map(|it| (&it.claimed, how(it))).collect();
    shared.settle(&ended).await;
    for Operation { claimed, .. } in &group {
        match new.contains(&claimed.op_id) {
            true => shared.waiting.ended(&claimed.op_id, Ok(()), Where::Here),
            // Whether it was done or dead the database knows.
            false => shared.waiting.look_soon(),
        }
    }
}

/// What a group changes of which these operations are new.
fn changed_by(group: &[Operation], new: &HashSet<String>) -> Vec<ChangedKey> {
    let keys = group.iter().flat_map(|Operation { claimed, body }| {
        // A value that came with a repeated call is older than what the first one has done.
        keys_of(body, new.contains(&claimed.op_id).then_some(claimed.sequence))
    });
    keys.collect()
}

/// The key of an operation, whose value may stay from `since` on, and the further ones that it changes.
pub(super) fn keys_of(body: &Body, since: Option<u64>) -> impl Iterator<Item = ChangedKey> {
    let own = body.key.iter().map(move |key| (key, since));
    let all = own.chain(body.invalidates.iter().map(|key| (key, None)));
    all.map(|(key, since)| ChangedKey { key: Arc::from(key.as_str()), since })
}

/// Lets go of leases whose operations had no effect through no fault of theirs.
pub(super) async fn give_back(shared: &Shared, claimed: &[Claimed], pause: Duration) {
    let ended: Vec<(&Claimed, How)> = claimed.iter().map(|it| (it, How::Again(pause))).collect();
    shared.settle(&ended).await;
}

/// Runs an operation that Redis did not take, at once; says whether it had its effect just now and not before.
/// What Redis may have taken all the same finds it done.
pub(super) async fn run_now(shared: &Shared, op_id: &str, body: &Body, deadline: Deadline) -> Result<bool> {
    let keys: Vec<Arc<str>> = keys_of(body, None).map(|it| it.key).collect();
    let mut tries = 0;
    loop {
        shared.hooks.prepare(&keys, deadline).await?;
        let mut turned_away = false;
        let ran = try_now(shared, op_id, body, (&keys, &mut turned_away), deadline).await;
        tries += 1;
        if !turned_away || tries == AT_ONCE {
            return ran;
        }
    }
}

/// Says also whether it was rolled back because something has to know of its keys first.
async fn try_now(
    shared: &Shared,
    op_id: &str,
    body: &Body,
    (keys, turned_away): (&[Arc<str>], &mut bool),
    deadline: Deadline,
) -> Result<bool> {
    let mut transaction = shared.store.begin(Access::Any, deadline).await.map_err(error_of)?;
    let first = transaction.run(&[done([op_id].into_iter(), false)]).await.map_err(error_of)?;
    if first[0].rows.is_empty() {
        let found = transaction.run(&[are_dead([op_id].into_iter())]).await.map_err(error_of)?;
        transaction.roll_back().await;
        let is_dead = !found[0].rows.is_empty();
        return if is_dead { Err(dead(WAS_REFUSED.to_owned(), None)) } else { Ok(false) };
    }
    if let Err(failure) = transaction.run(&body.statements).await {
        transaction.roll_back().await;
        return Err(error_of(failure));
    }
    if let Err(error) = shared.hooks.before_commit(keys, deadline).await {
        *turned_away = true;
        transaction.roll_back().await;
        return Err(error);
    }
    transaction.commit().await.map_err(|failure| match failure {
        CommitFailure::Again(error) | CommitFailure::Refused(error) => error,
        CommitFailure::Unknown(error) => {
            Error::new(ErrorKind::CommitUnknown, "the connection was lost during COMMIT").with_source(error)
        }
    })?;
    Ok(true)
}
