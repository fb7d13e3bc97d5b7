//! Batches that fail each time in one way that usually passes: with a lock that somebody else holds, as a conflict, as
//! cancelled. After enough tries the statement that fails so counts as refused, or one that always will would hold up
//! everything that was accepted after it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::flush::Stream;
use crate::error::Error;

/// Tries of one batch. With the pauses between them that is a few minutes.
const MOST_TRIES: u32 = 50;

/// What the last tries of each stream came to.
#[derive(Default)]
pub(super) struct Stuck(Mutex<HashMap<Stream, Tries>>);

struct Tries {
    /// Where the batch begins.
    lo: u64,
    sqlstate: Arc<str>,
    count: u32,
}

impl Stuck {
    /// The SQLSTATE that counts as a refusal in the next try of the batch that begins at `lo`.
    pub(super) fn given_up_on(&self, stream: Stream, lo: u64) -> Option<Arc<str>> {
        let tries = self.0.lock();
        let tries = tries.get(&stream).filter(|tries| tries.lo == lo && tries.count >= MOST_TRIES)?;
        Some(tries.sqlstate.clone())
    }

    pub(super) fn failed(&self, stream: Stream, lo: u64, error: &Error) {
        let mut all = self.0.lock();
        match (error.sqlstate().filter(|code| is_of_statement(code)), all.get_mut(&stream)) {
            (Some(code), Some(tries)) if tries.lo == lo && &*tries.sqlstate == code => tries.count += 1,
            (Some(code), _) => {
                all.insert(stream, Tries { lo, sqlstate: code.into(), count: 1 });
            }
            // The server was away, or the like: that says nothing of the batch.
            (None, _) => {}
        }
    }

    pub(super) fn passed(&self, stream: Stream) {
        self.0.lock().remove(&stream);
    }
}

/// Whether it may be one statement's fault: what concerns the connection or the server would meet any other as well.
fn is_of_statement(sqlstate: &str) -> bool {
    matches!(sqlstate, "40001" | "40P01" | "55P03" | "57014")
}
