//! What became of a transaction whose COMMIT had no answer: PostgreSQL remembers it by its number.
//!
//! The server may still be running the COMMIT, or may not have noticed that the connection is gone, so "in progress"
//! is asked again until the deadline. A number that the server does not know (a standby that never received it, a
//! record older than its memory) stays unknown: nothing is guessed.

use std::time::Duration;

use super::PostgresStore;
use super::connect::Connection;
use super::error::{Cause, Failure};
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};

/// What became of it.
pub(super) enum Fate {
    Committed,
    Aborted,
    Unknown(Error),
}

/// Asks for the fate of transaction `txid` on a connection of its own.
pub(super) async fn ask(store: &PostgresStore, txid: i64, deadline: Deadline) -> Fate {
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(250));
    let mut connection = None;
    let mut why = "the database could not be asked in time";
    while !deadline.passed() {
        match ask_once(store, &mut connection, txid, deadline).await {
            Ok(Some("committed")) => return Fate::Committed,
            Ok(Some("aborted")) => return Fate::Aborted,
            Ok(Some(_)) => why = "the transaction was still in progress when the time was over",
            Ok(None) => return Fate::Unknown(unknown("the database no longer knows the transaction", txid)),
            Err(failure) if failure.cause == Cause::Lost || failure.error.retryable() => connection = None,
            Err(failure) => {
                return Fate::Unknown(
                    unknown("the database does not know the transaction", txid).with_source(failure.error),
                );
            }
        }
        let _ = deadline.run("", tokio::time::sleep(backoff.next_delay())).await;
    }
    Fate::Unknown(unknown(why, txid))
}

async fn ask_once(
    store: &PostgresStore,
    connection: &mut Option<Connection>,
    txid: i64,
    deadline: Deadline,
) -> Result<Option<&'static str>, Failure> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(store.pool.connect(deadline).await?),
    };
    let question = format!("SELECT txid_status({txid})");
    let answer = deadline
        .run("asking for the fate of a transaction", connection.client().query_typed(&question, &[]))
        .await??;
    let status: Option<String> = answer.first().and_then(|row| row.try_get(0).ok()).flatten();
    Ok(status.map(|status| match status.as_str() {
        "committed" => "committed",
        "aborted" => "aborted",
        _ => "in progress",
    }))
}

fn unknown(why: &str, txid: i64) -> Error {
    let message = format!(
        "the connection was lost while a COMMIT was on its way, and {why}; check the data before repeating the write"
    );
    Error::new(ErrorKind::CommitUnknown, message).with("transaction", txid)
}
