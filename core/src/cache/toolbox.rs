//! The small verbs of a cache: add, touch, what is left, count, the keys under a prefix, and dropping them or a tag.
//!
//! Without L2 they work on L1 alone, one after the other: nobody else sees it.

use std::sync::Arc;
use std::time::Duration;

use super::{Caches, NewValue, Settle};
use crate::base::Deadline;
use crate::cache::answer::Answer;
use crate::cache::l2::L2;
use crate::cache::l2::toolbox::{Touched, no_counter};
use crate::cache::life::Stay;
use crate::cache::tags::TagSet;
use crate::config::Ttl;
use crate::error::{Error, Result};

/// What is left of a value's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// There is no value.
    Nothing,
    /// It ends never.
    Forever,
    /// It ends after that time.
    For(Duration),
}

impl Caches {
    /// The tags of a write that begins, as they are now.
    ///
    /// # Errors
    /// If L2 failed: nobody knows then whether the tags are dropped meanwhile.
    pub(crate) async fn tags(&self, names: &[String], deadline: Deadline) -> Result<Option<TagSet>> {
        self.tags.begin(names, deadline).await.inspect_err(|error| self.note_failure(error))
    }

    /// Drops everything that was written with a tag.
    ///
    /// # Errors
    /// If L2 failed: what it has may still be read. What this process's memory has is gone.
    pub(crate) async fn drop_tag(&self, tag: &str, deadline: Deadline) -> Result<()> {
        let told = match &self.l2 {
            Some(l2) => l2.drop_tag(tag, deadline).await,
            None => Ok(()),
        };
        self.tags.dropped(tag);
        self.loader.forget_all();
        told.inspect_err(|error| self.note_failure(error))
    }

    /// Puts a value under the change's one key if there is none; says whether it did.
    ///
    /// # Errors
    /// If L2 failed: it may have it. L1 has not.
    pub(crate) async fn add(&self, change: Settle, value: NewValue, deadline: Deadline) -> Result<bool> {
        let key = change.key()?.clone();
        let life = self.rules(&key).of_value(value.ttl);
        let Some(l2) = &self.l2 else {
            let _alone = self.alone.lock();
            if matches!(self.l1.get(&key), Some(Some(_))) {
                change.call_off();
                return Ok(false);
            }
            change.commit(
                value.data,
                self.rules(&key).stay(life.fresh, life.fresh).0,
                value.tags.map(|tags| tags.marks),
            );
            return Ok(true);
        };
        let added = l2.add(&key, value.content(), life, deadline).await;
        let added = added.inspect_err(|error| self.note_failure(error))?;
        if added {
            self.counters.cache_writes.inc();
            change.commit(
                value.data,
                self.rules(&key).stay(life.fresh, life.fresh).0,
                value.tags.map(|tags| tags.marks),
            );
        } else {
            // Nothing changed, and what L1 has may be an absence of before.
            drop(change);
        }
        Ok(added)
    }

    /// Gives the value under the change's one key another life; says whether there is one.
    ///
    /// # Errors
    /// If L2 failed, or the key is changed all the time.
    pub(crate) async fn touch(&self, change: Settle, ttl: Option<Ttl>, deadline: Deadline) -> Result<bool> {
        let key = change.key()?.clone();
        let life = self.rules(&key).of_value(ttl);
        let Some(l2) = &self.l2 else {
            let _alone = self.alone.lock();
            let Some((data, _, marks)) = self.l1.value(&key) else {
                change.call_off();
                return Ok(false);
            };
            change.commit(data, self.rules(&key).stay(life.fresh, life.fresh).0, marks);
            return Ok(true);
        };
        let touched = l2.touch(&key, life, deadline).await.inspect_err(|error| self.note_failure(error))?;
        if touched == Touched::Longer {
            // What L1 has is as good as before, and ends earlier.
            change.call_off();
        }
        Ok(touched != Touched::Nothing)
    }

    /// What is left of the life of a key's value.
    ///
    /// # Errors
    /// If L2 failed.
    pub(crate) async fn left(&self, key: &str, deadline: Deadline) -> Result<Left> {
        let life = match &self.l2 {
            Some(l2) => match self.while_coherent(l2.get(key, deadline)).await {
                Ok(Answer::Found(found)) => found.data.map(|_| found.life),
                Ok(_) => None,
                Err(error) => {
                    self.note_failure(&error);
                    return Err(error);
                }
            },
            None => self.l1.value(key).map(|(_, left, _)| left),
        };
        Ok(life.map_or(Left::Nothing, |life| life.map_or(Left::Forever, Left::For)))
    }

    /// Adds to the counter under the change's one key; gives the sum.
    ///
    /// # Errors
    /// `Task` if there is something else than a number or the sum has more than 64 bits; `Cache` if L2 failed, or while a
    /// writer is under way.
    pub(crate) async fn incr(
        &self,
        change: Settle,
        by: i64,
        ttl: Option<Ttl>,
        deadline: Deadline,
    ) -> Result<i64> {
        let key = change.key()?.clone();
        let life = self.rules(&key).of_value(ttl);
        match &self.l2 {
            // L1 is left without it: it will have changed before it is read again.
            Some(l2) => {
                let sum = l2.incr(&key, by, life, deadline).await?;
                self.counters.cache_writes.inc();
                Ok(sum)
            }
            None => self.incr_alone(change, &key, by, life.fresh),
        }
    }

    fn incr_alone(&self, change: Settle, key: &Arc<str>, by: i64, life: Option<Duration>) -> Result<i64> {
        let _alone = self.alone.lock();
        let held = self.l1.value(key);
        let (before, left) = match &held {
            Some((data, left, _)) => {
                let text = std::str::from_utf8(data).ok();
                let number = text.and_then(|text| text.parse::<i64>().ok());
                // Exactly as it is written by a counter.
                let number = number.filter(|number| Some(number.to_string().as_str()) == text);
                (number, *left)
            }
            None => (Some(0), life),
        };
        let sum = match before.map(|before| before.checked_add(by)) {
            None => Err(no_counter(key)),
            Some(None) => Err(Error::task(format!("the counter {key:?} would exceed 64 bits"))),
            Some(Some(sum)) => Ok(sum),
        };
        match sum {
            Ok(sum) => change.commit(sum.to_string().into(), Stay::plain(self.life.in_l1(left)), None),
            Err(_) => change.call_off(),
        }
        sum
    }

    /// The keys under a prefix that have a value, in order.
    ///
    /// # Errors
    /// If L2 failed, or slots of a cluster are being moved.
    pub(crate) async fn keys(&self, prefix: &str, deadline: Deadline) -> Result<Vec<String>> {
        match &self.l2 {
            Some(l2) => self.while_coherent(l2.live_keys(prefix, deadline)).await,
            None => Ok(self.l1.keys(prefix)),
        }
    }

    /// Drops every key under a prefix; gives how many entries there were. All of L1 is emptied, in every process.
    ///
    /// # Errors
    /// As [`Caches::keys`]: some of them may be there then.
    pub(crate) async fn clear(&self, prefix: &str, deadline: Deadline) -> Result<u64> {
        let dropped = match &self.l2 {
            Some(l2) => clear_shared(l2, prefix, deadline).await,
            None => Ok(self.l1.keys(prefix).len() as u64),
        };
        self.loader.forget_all();
        self.l1.clear();
        let dropped = dropped?;
        self.counters.cache_drops.add(dropped);
        Ok(dropped)
    }
}

async fn clear_shared(l2: &L2, prefix: &str, deadline: Deadline) -> Result<u64> {
    let dropped = l2.drop_prefix(prefix, deadline).await?;
    // After it: what a memory takes in from here on was not there any more.
    l2.empty_memories(deadline).await?;
    Ok(dropped)
}
