//! How an operation is dead: its letter, its row, and who is told.

use std::time::Duration;

use super::answers::{Claimed, How};
use super::body::Body;
use super::effect::{Trouble, are_dead, done, error_of, give_back, idle, keys_of, trouble};
use super::wait::Where;
use super::{PATH, Shared};
use crate::base::{Deadline, random};
use crate::error::{Error, ErrorKind};
use crate::store::dead_letters::{Letter, insert};
use crate::store::{Access, CommitFailure, Transaction};

/// Bounds of the pause before an operation that failed runs again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// The same for what was not its fault.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// What was found of an operation that was to be dead.
enum Found {
    Nothing,
    Done,
    Dead,
}

/// Makes a dead letter of an operation. Its row is written with it: whoever has it as well finds it dead.
pub(super) async fn bury(shared: &Shared, claimed: &Claimed, error: Error) {
    let error = error.with_op_id(&claimed.op_id);
    match write_letter(shared, claimed, &error).await {
        Ok(Found::Nothing) => {
            log::warn!("a delayed write was refused and is a dead letter: {error}");
            if let Ok(body) = Body::decode(&claimed.payload) {
                // A value that was cached with it never comes true; one that was accepted later may.
                shared.hooks.committed(keys_of(&body, Some(claimed.sequence + 1)).collect()).await;
            }
            shared.settle(&[(claimed, How::Dead)]).await;
            let told = dead(error.to_string(), error.sqlstate());
            shared.waiting.ended(&claimed.op_id, Err(told), Where::Here);
        }
        Ok(found) => {
            if let Ok(body) = Body::decode(&claimed.payload) {
                // Whoever ran it may have ended before it could tell the caches.
                shared.hooks.committed(keys_of(&body, None).collect()).await;
            }
            let how = if matches!(found, Found::Dead) { How::Dead } else { How::Done };
            shared.settle(&[(claimed, how)]).await;
            shared.waiting.look_soon();
        }
        Err(Trouble::Away(away) | Trouble::Unknown(away)) => {
            shared.note_away(&away);
            give_back(shared, std::slice::from_ref(claimed), AWAY_PAUSE).await;
        }
        // The server is there and does not take it: nothing is lost, and somebody has to see to it.
        Err(Trouble::Refused(refusal) | Trouble::Failed(refusal)) => {
            log::error!(
                "the dead letter of a delayed write could not be written: {refusal}; it was for: {error}"
            );
            shared.settle(&[(claimed, How::Error(pause_after(claimed.errors)))]).await;
        }
    }
}

/// A try that failed by its own fault, maybe: it runs again, later each time, and is dead in the end.
pub(super) async fn failed(shared: &Shared, claimed: &Claimed, error: Error) {
    if claimed.errors >= shared.settings.retry_max {
        return bury(shared, claimed, error).await;
    }
    log::debug!("a delayed write failed and is tried again: {error}");
    shared.settle(&[(claimed, How::Error(pause_after(claimed.errors)))]).await;
}

/// A random time, the longer the more tries have failed.
fn pause_after(errors: u32) -> Duration {
    let bound = FIRST_PAUSE.saturating_mul(1 << errors.min(20)).min(LONGEST_PAUSE);
    Duration::from_nanos(random::below(bound.as_nanos() as u64 + 1))
}

/// What whoever waits for a dead operation is told, by whichever process ran it.
pub(super) fn dead(message: String, sqlstate: Option<&str>) -> Error {
    let error = Error::new(ErrorKind::Store, message).with_retryable(false);
    match sqlstate {
        Some(code) => error.with_sqlstate(code),
        None => error,
    }
}

/// Writes the letter unless the operation has ended.
async fn write_letter(shared: &Shared, claimed: &Claimed, error: &Error) -> Result<Found, Trouble> {
    let mut letter = Letter::new(PATH, claimed.op_id.clone(), error);
    letter.tasks = claimed.payload.to_vec();
    match Body::decode(&claimed.payload) {
        Ok(body) => body.statements.iter().for_each(|it| letter.show(&it.sql, body.key.as_deref())),
        Err(_) => letter.show("(unreadable)", None),
    }
    let deadline = Deadline::after(shared.settings.task_timeout);
    let begun = shared.store.begin(Access::Any, deadline).await;
    let mut transaction = begun.map_err(|failure| Trouble::Away(error_of(failure)))?;
    match within(shared, &claimed.op_id, letter, &mut *transaction).await {
        Ok(Found::Nothing) => {
            transaction.commit().await.map_err(|failure| match failure {
                CommitFailure::Again(error) | CommitFailure::Unknown(error) => Trouble::Away(error),
                CommitFailure::Refused(error) => Trouble::Refused(error),
            })?;
            Ok(Found::Nothing)
        }
        other => {
            transaction.roll_back().await;
            other
        }
    }
}

/// Everything of a transaction but its ends.
async fn within(
    shared: &Shared,
    op_id: &str,
    letter: Letter,
    transaction: &mut dyn Transaction,
) -> Result<Found, Trouble> {
    let op_id = || [op_id].into_iter();
    let first = transaction.run(&[idle(shared), done(op_id(), true)]).await.map_err(trouble)?;
    if first[1].rows.is_empty() {
        let rows = transaction.run(&[are_dead(op_id())]).await.map_err(trouble)?;
        return Ok(if rows[0].rows.is_empty() { Found::Done } else { Found::Dead });
    }
    transaction.run(&[insert(&[letter])]).await.map_err(trouble)?;
    Ok(Found::Nothing)
}
