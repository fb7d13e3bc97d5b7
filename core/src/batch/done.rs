//! Who waits for a batch, and what became of each of its operations.

use parking_lot::Mutex;
use tokio::sync::watch;

use super::refusals::Refusals;
use crate::error::{Error, ErrorKind};

/// The end of a batch, once it has one.
#[derive(Default)]
pub(crate) struct Done {
    ended: watch::Sender<End>,
    /// The operations that the database refused.
    dead: Mutex<Refusals>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Waiting,
    Committed,
    /// The process stops before the flush.
    Left,
}

impl Done {
    /// Committed, apart from these.
    pub(super) fn end(&self, dead: Refusals) {
        *self.dead.lock() = dead;
        self.ended.send_replace(End::Committed);
    }

    /// The process goes away before the batch was applied.
    pub(super) fn leave(&self) {
        self.ended.send_if_modified(|end| {
            let waiting = *end == End::Waiting;
            if waiting {
                *end = End::Left;
            }
            waiting
        });
    }

    /// Resolves when the batch has ended, with what became of one operation.
    pub(crate) async fn wait(&self, sequence: u64) -> Result<(), Error> {
        let mut ended = self.ended.subscribe();
        let committed =
            ended.wait_for(|end| *end != End::Waiting).await.is_ok_and(|end| *end == End::Committed);
        if !committed {
            return Err(Error::new(
                ErrorKind::Closed,
                "the engine was closed before the operation reached the database; it is in the journal, and the next \
                 process that opens this database applies it (with the class memory it is lost)",
            ));
        }
        match self.dead.lock().get(sequence) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}
