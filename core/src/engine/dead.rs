//! Dead letters: what the database refused after it had been accepted.

use serde::Serialize;

use super::filters::MOST_TRIES;
use super::{DeadLetter, Zmsg};
use crate::error::{Error, ErrorKind, Result};
use crate::store::dead_letters::{self, Retried, Tasks};
use crate::{batch, queue};

/// Dead letters given at once.
const MOST: u32 = 10_000;

/// What [`Zmsg::retry_all_dead`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RetryReport {
    /// Letters that had their effect and are gone.
    pub retried: u64,
    /// Letters that were refused again, and stay.
    pub refused: u64,
}

impl Zmsg {
    /// The dead letters of all processes on this database, oldest first; at most 10,000.
    ///
    /// # Errors
    /// `Store`, `Timeout`, `Closed`.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        self.dead_letters_after(0, MOST).await
    }

    /// A page of them: those with ids above `after`, oldest first, at most `most`, which is 1 to 10,000. The id of the
    /// last one is what the next page comes after.
    ///
    /// # Errors
    /// `Task` for another `most`; `Store`, `Timeout`, `Closed`.
    pub async fn dead_letters_after(&self, after: i64, most: u32) -> Result<Vec<DeadLetter>> {
        if !(1..=MOST).contains(&most) {
            return Err(Error::task(
                "dead letters are listed 1 to 10,000 at a time; give a limit in that range",
            ));
        }
        let _call = self.enter()?;
        let deadline = self.deadline();
        self.state.own_tables(deadline).await?;
        dead_letters::list(&*self.state.store, after, most, deadline).await
    }

    /// Runs a dead letter again and deletes it, in one transaction. If the database refuses again, it stays.
    ///
    /// # Errors
    /// The refusal; `NotFound` if there is no such letter; `CommitUnknown`, `Timeout`, `Closed`.
    pub async fn retry_dead(&self, id: i64) -> Result<()> {
        match self.run_again(id).await? {
            Ran::Done => Ok(()),
            Ran::Refused(error) => Err(error),
        }
    }

    /// Runs all dead letters again that are there when it begins, oldest first, each as [`Zmsg::retry_dead`] does: in a
    /// transaction of its own, with the whole time limit of the call for each letter and for each look for more. All
    /// together may take far longer. Letters that are refused again are counted and stay; those that somebody else has
    /// run or dropped meanwhile are passed over.
    ///
    /// A `close`, or a caller that stops listening, ends it between two letters.
    ///
    /// # Errors
    /// The first failure that is no refusal, with which letter it was and what was done before: `Store` if the server is
    /// away, `CommitUnknown`, `Timeout`, `Closed`. The letters behind were not touched. Calling again begins anew with the
    /// oldest, so a letter that is never done in time has to be dropped, or run by itself with more.
    pub async fn retry_all_dead(&self) -> Result<RetryReport> {
        let mut report = RetryReport::default();
        match self.walk_dead(&mut report).await {
            Ok(()) => Ok(report),
            Err(error) => Err(error.with("retried", report.retried).with("refused", report.refused)),
        }
    }

    async fn walk_dead(&self, report: &mut RetryReport) -> Result<()> {
        let (mut after, last) = (0, self.last_dead().await?);
        loop {
            let page = self.dead_ids(after, last).await?;
            let Some(&end) = page.last() else { return Ok(()) };
            for id in page {
                // A call that was let in could go on, and `close` would wait for thousands of letters.
                if self.is_closed() {
                    return Err(Error::closed());
                }
                match self.run_again(id).await {
                    Ok(Ran::Done) => report.retried += 1,
                    Ok(Ran::Refused(_)) => report.refused += 1,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error.with("letter", id)),
                }
            }
            after = end;
        }
    }

    async fn last_dead(&self) -> Result<i64> {
        let _call = self.enter()?;
        let deadline = self.deadline();
        self.state.own_tables(deadline).await?;
        dead_letters::last_id(&*self.state.store, deadline).await
    }

    async fn dead_ids(&self, after: i64, last: i64) -> Result<Vec<i64>> {
        let _call = self.enter()?;
        dead_letters::ids(&*self.state.store, after, last, self.deadline()).await
    }

    async fn run_again(&self, id: i64) -> Result<Ran> {
        let (call, zmsg, deadline) = (self.enter()?, self.clone(), self.deadline());
        crate::base::service::detached(async move {
            let (_call, state) = (call, &zmsg.state);
            state.own_tables(deadline).await?;
            let mut tries = 0;
            loop {
                match dead_letters::retry(&*state.store, id, read, &state.follower, deadline).await? {
                    Retried::Done(cover) => {
                        cover.committed().await;
                        return Ok(Ran::Done);
                    }
                    Retried::Refused(error) => return Ok(Ran::Refused(error)),
                    Retried::NotYet(error) if tries == MOST_TRIES => return Err(error),
                    Retried::NotYet(_) => tries += 1,
                }
            }
        })
        .await
    }

    /// Deletes a dead letter without running it.
    ///
    /// # Errors
    /// `NotFound` if there is no such letter; `Store`, `Timeout`, `Closed`.
    pub async fn drop_dead(&self, id: i64) -> Result<()> {
        let _call = self.enter()?;
        let deadline = self.deadline();
        self.state.own_tables(deadline).await?;
        dead_letters::drop_letter(&*self.state.store, id, deadline).await
    }
}

/// What became of a letter, and the caches know it.
enum Ran {
    Done,
    Refused(Error),
}

/// Each path has a form of its own.
fn read(path: &str, tasks: &[u8]) -> Result<Tasks> {
    match path {
        batch::PATH => batch::read_letter(tasks),
        queue::PATH => queue::read_letter(tasks),
        other => Err(Error::new(
            ErrorKind::Internal,
            format!("the dead letter came by the path {other:?}, which this version does not know"),
        )),
    }
}
