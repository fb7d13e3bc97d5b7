//! Batches that fail each time with errors that usually pass: a lock that somebody else holds, a conflict, time, a full disk
//! of one statement. After long enough the statements that fail so count as refused, or one that always will would hold up
//! everything that was accepted after it.
//!
//! The server itself is not to blame then: the transaction that gives a statement up moves the watermark and is committed.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::flush::Stream;
use crate::error::{Error, ErrorKind};

/// Tries of one batch at the least: after a long outage the first failure is no reason.
const LEAST_TRIES: u32 = 10;

/// What the last tries of each stream came to.
pub(super) struct Stuck {
    after: Duration,
    tries: Mutex<HashMap<Stream, Tries>>,
}

struct Tries {
    /// Where the batch begins.
    lo: u64,
    since_ms: u64,
    count: u32,
}

impl Stuck {
    /// Gives up after that time.
    pub(super) fn new(after: Duration) -> Stuck {
        Stuck { after, tries: Mutex::default() }
    }

    /// Whether whatever fails counts as refused in the next try of the batch that begins at `lo`.
    pub(super) fn gives_up(&self, stream: Stream, lo: u64, now_ms: u64) -> bool {
        let tries = self.tries.lock();
        tries.get(&stream).filter(|tries| tries.lo == lo).is_some_and(|tries| {
            let time = u128::from(now_ms.saturating_sub(tries.since_ms));
            tries.count >= LEAST_TRIES && time >= self.after.as_millis()
        })
    }

    pub(super) fn failed(&self, stream: Stream, lo: u64, error: &Error, now_ms: u64) {
        let mut all = self.tries.lock();
        if !is_of_statement(error) {
            // The server was away: that says nothing of the batch, and the time does not count.
            all.remove(&stream);
            return;
        }
        let tries = all.entry(stream).or_insert(Tries { lo, since_ms: now_ms, count: 0 });
        if tries.lo != lo {
            *tries = Tries { lo, since_ms: now_ms, count: 0 };
        }
        tries.count += 1;
    }

    pub(super) fn passed(&self, stream: Stream) {
        self.tries.lock().remove(&stream);
    }
}

/// Whether it may be a statement's fault. A connection that fails has no SQLSTATE, and a server that goes away says so.
fn is_of_statement(error: &Error) -> bool {
    match error.sqlstate() {
        Some(code) => !matches!(code, "57P01" | "57P02" | "57P03") && !code.starts_with("28"),
        None => error.kind() == ErrorKind::Timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> Error {
        Error::new(ErrorKind::Store, "no").with_sqlstate(code).with_retryable(true)
    }

    #[test]
    fn it_takes_both_the_time_and_the_tries() {
        let stuck = Stuck::new(Duration::from_secs(600));
        let (stream, minute) = ([1; 16], 60_000);
        for second in 0..1_000 {
            stuck.failed(stream, 7, &error("55P03"), second);
        }
        assert!(!stuck.gives_up(stream, 7, 1_000), "a thousand tries in a second");
        assert!(stuck.gives_up(stream, 7, 10 * minute));
        assert!(!stuck.gives_up(stream, 8, 10 * minute), "another batch");
        assert!(!stuck.gives_up([2; 16], 7, 10 * minute), "another stream");
        stuck.passed(stream);
        assert!(!stuck.gives_up(stream, 7, 20 * minute));
        stuck.failed(stream, 7, &error("55P03"), 20 * minute);
        assert!(!stuck.gives_up(stream, 7, 60 * minute), "one try, long ago");
    }

    #[test]
    fn errors_that_take_turns_count_together_and_an_outage_begins_anew() {
        let stuck = Stuck::new(Duration::from_secs(600));
        let (stream, late) = ([1; 16], 600_000);
        for code in ["40001", "55P03", "53400", "57014", "08001"].into_iter().cycle().take(20) {
            stuck.failed(stream, 7, &error(code), 0);
        }
        assert!(stuck.gives_up(stream, 7, late));
        stuck.failed(stream, 7, &Error::new(ErrorKind::Store, "the connection was closed"), late);
        assert!(!stuck.gives_up(stream, 7, late));
        for _ in 0..20 {
            stuck.failed(stream, 7, &Error::new(ErrorKind::Timeout, "timed out"), late);
        }
        assert!(stuck.gives_up(stream, 7, 2 * late));
    }
}
