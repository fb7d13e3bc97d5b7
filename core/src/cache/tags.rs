//! Tags: names under which any number of entries are dropped at once.
//!
//! Each tag has a version in Redis, a random number under `N:t:{.TAG}`. An entry holds the versions that its tags had before
//! it was written, and is read only while they are what they were. To drop a tag's entries is to give it another version;
//! where they are nobody has to know. A version that Redis gave up is made anew, so that such entries are misses, never hits.
//!
//! ```text
//! writer:  mark ─▶ ask for the versions ─▶ write           reader:  entry ─▶ mark ─▶ versions known or asked for ─▶ hit
//! dropper: other version in Redis, told in the same script ─▶ every process: version forgotten ─▶ marks moved
//! ```
//! A process keeps the versions that it has asked for until it hears that they changed, so that reads cost no round trip more;
//! a new subscription to the bus begins without any. In memory an entry is marked with a counter per stripe of tags, which
//! moves when the process hears of a tag. In this order, a mark that is taken before a version was looked up and still holds
//! means that the version was right.
//!
//! A reader that finds another version than the one it knows asks once more before it calls the entry old: Redis may have
//! given up what the process still knows.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::FixedState;
use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::base::{Deadline, random};
use crate::cache::tagged::{Tag, Tagged};
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Keyspace, Redis, Script};

/// How long Redis keeps the version of a tag that nobody asks for. Entries that live longer are misses after that.
pub(super) const VERSION_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Versions that a process knows at once; beyond this it begins anew.
const MOST_KNOWN: usize = 65_536;
const STRIPES: usize = 4_096;

/// What this process knows of tags.
pub(crate) struct Tags {
    /// None without L2: nobody else has entries then.
    redis: Option<Redis>,
    keys: Keyspace,
    script: Script,
    known: Mutex<Known>,
    stripes: Arc<Stripes>,
}

#[derive(Default)]
struct Known {
    versions: HashMap<Arc<str>, u64>,
    /// Moves with everything that is heard: an answer that was asked for before is not kept.
    heard: u64,
}

struct Stripes {
    moved: Box<[AtomicU64]>,
    hasher: FixedState,
}

/// Where the stripes of some tags were.
#[derive(Clone)]
pub(crate) struct Marks {
    stripes: Arc<Stripes>,
    seen: Box<[(u16, u64)]>,
}

/// The tags of an entry that is being written, as they were before.
#[derive(Debug, Clone)]
pub(crate) struct TagSet {
    /// Without L2 empty.
    pub(super) tags: Vec<Tag>,
    pub(super) marks: Marks,
}

impl Marks {
    /// Whether nothing was heard of the tags since.
    #[inline]
    pub(super) fn hold(&self) -> bool {
        self.seen.iter().all(|&(stripe, at)| self.stripes.at(stripe) == at)
    }

    /// Bytes in memory.
    pub(super) fn cost(&self) -> usize {
        size_of::<Marks>() + size_of_val(&*self.seen)
    }
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Marks").field(&self.seen).finish()
    }
}

impl PartialEq for Marks {
    fn eq(&self, other: &Marks) -> bool {
        self.seen == other.seen
    }
}

impl Eq for Marks {}

impl Stripes {
    fn of(&self, tag: &str) -> u16 {
        (self.hasher.hash_one(tag) as usize % STRIPES) as u16
    }

    fn at(&self, stripe: u16) -> u64 {
        self.moved[usize::from(stripe)].load(Ordering::Acquire)
    }
}

impl Tags {
    /// Nothing is known yet.
    pub(super) fn new(redis: Option<Redis>, namespace: &str) -> Tags {
        let moved = (0..STRIPES).map(|_| AtomicU64::new(0)).collect();
        Tags {
            redis,
            keys: Keyspace::new(namespace),
            script: Script::new(include_str!("scripts/tag.lua")),
            known: Mutex::default(),
            stripes: Arc::new(Stripes { moved, hasher: FixedState::default() }),
        }
    }

    /// A write begins. Asks Redis, whatever is known: what is written after a tag was dropped elsewhere stays.
    pub(super) async fn begin(&self, names: &[String], deadline: Deadline) -> Result<Option<TagSet>> {
        if names.is_empty() {
            return Ok(None);
        }
        let names: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
        let marks = self.mark(names.iter());
        let tags = match self.redis {
            Some(_) => {
                // Boxed, as every write would carry the room for it.
                let versions = Box::pin(self.ask(&names, deadline)).await?;
                names.into_iter().zip(versions).map(|(name, version)| Tag { name, version }).collect()
            }
            None => Vec::new(),
        };
        Ok(Some(TagSet { tags, marks }))
    }

    /// Which of these entries are as good as when they were written, in order.
    pub(super) async fn judge(&self, entries: &[&Tagged], deadline: Deadline) -> Result<Vec<Option<Marks>>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let marks: Vec<Marks> =
            entries.iter().map(|entry| self.mark(entry.tags.iter().map(|tag| &tag.name))).collect();
        let every = || entries.iter().flat_map(|entry| &entry.tags);
        let mut now: HashMap<Arc<str>, u64> = {
            let known = self.known.lock();
            every().filter_map(|tag| Some((tag.name.clone(), *known.versions.get(&tag.name)?))).collect()
        };
        let unknown = every().filter(|tag| !now.contains_key(&tag.name)).collect();
        Box::pin(self.learn(&mut now, unknown, deadline)).await?;
        let others = every().filter(|tag| now.get(&tag.name) != Some(&tag.version)).collect();
        Box::pin(self.learn(&mut now, others, deadline)).await?;
        let good = |entry: &&Tagged| entry.tags.iter().all(|tag| now.get(&tag.name) == Some(&tag.version));
        Ok(entries.iter().zip(marks).map(|(entry, marks)| good(entry).then_some(marks)).collect())
    }

    async fn learn(
        &self,
        now: &mut HashMap<Arc<str>, u64>,
        tags: Vec<&Tag>,
        deadline: Deadline,
    ) -> Result<()> {
        let mut names: Vec<Arc<str>> = tags.into_iter().map(|tag| tag.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let versions = self.ask(&names, deadline).await?;
        now.extend(names.into_iter().zip(versions));
        Ok(())
    }

    /// The versions in Redis, in order, in one flight; kept if nothing was heard meanwhile.
    async fn ask(&self, names: &[Arc<str>], deadline: Deadline) -> Result<Vec<u64>> {
        let Some(redis) = &self.redis else { return Ok(vec![0; names.len()]) };
        let heard = self.known.lock().heard;
        let life = VERSION_LIFE.as_millis().to_string();
        let asked = names.iter().map(|name| async {
            let (key, new) = (self.keys.tag(name), random::word().to_be_bytes());
            let version = redis.eval_bytes(&self.script, &[&key], &[&new, life.as_bytes()], deadline).await?;
            let version = version[..].try_into().map(u64::from_be_bytes);
            version.map_err(|_| Error::new(ErrorKind::Cache, "Redis holds a tag's version that is no number"))
        });
        let versions: Vec<u64> = join_all(asked).await.into_iter().collect::<Result<_>>()?;
        let mut known = self.known.lock();
        if known.heard == heard {
            if known.versions.len() + names.len() > MOST_KNOWN {
                known.versions.clear();
            }
            known.versions.extend(names.iter().cloned().zip(versions.iter().copied()));
        }
        Ok(versions)
    }

    /// The marks of tags, to be taken before their versions are looked at.
    fn mark<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>) -> Marks {
        let stripes = &self.stripes;
        let mark = |name: &Arc<str>| (stripes.of(name), stripes.at(stripes.of(name)));
        Marks { stripes: stripes.clone(), seen: names.map(mark).collect() }
    }

    /// A tag's entries were dropped: by this process, or by another one.
    pub(super) fn dropped(&self, tag: &str) {
        let mut known = self.known.lock();
        known.heard += 1;
        known.versions.remove(tag);
        drop(known);
        // After that: who marks from here on looks the version up anew.
        self.stripes.moved[usize::from(self.stripes.of(tag))].fetch_add(1, Ordering::AcqRel);
    }

    /// Nothing is known any more, because something may have been missed; L1 is emptied along with it. A write that took its
    /// marks before leaves nothing there either.
    pub(super) fn forget_all(&self) {
        let mut known = self.known.lock();
        known.heard += 1;
        known.versions.clear();
        drop(known);
        for stripe in &self.stripes.moved {
            stripe.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Where the version of a tag lies.
    pub(super) fn key(&self, tag: &str) -> String {
        self.keys.tag(tag)
    }

    /// Versions that are known.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.known.lock().versions.len()
    }
}
