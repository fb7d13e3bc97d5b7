//! What a record of L2 says to a reader.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::cache::header::{Content, Decoded, HEADER_LEN, L2Entry};
use crate::cache::tags::Marks;

/// What L2 had under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The value; `None` is a known absence.
    pub(crate) data: Option<Bytes>,
    /// What is left of its life; `None` is for ever.
    pub(crate) life: Option<Duration>,
    /// The life that it was given.
    pub(crate) span: Option<Duration>,
    /// What a lease to load it anew names.
    pub(crate) seen: Seen,
    /// If it has tags: where they were before that was known.
    pub(crate) marks: Option<Marks>,
}

/// What a key has in Redis.
pub(super) struct Record {
    pub(super) decoded: Decoded,
    pub(super) text: Bytes,
    /// Of an entry with tags that still hold.
    pub(super) marks: Option<Marks>,
}

/// What a read of a key gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A value or an absence.
    Found(Found),
    /// Neither.
    Nothing(Seen),
    /// Somebody is loading it.
    Busy,
    /// Nothing that may be read, and nothing may be put there.
    Closed,
}

/// The head of a record that a reader wants anew, which its lease names. Empty if there was none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(super) head: SmallVec<[u8; HEADER_LEN]>,
    /// Whether it is an entry that may be read while it is loaded anew.
    pub(super) stays: bool,
}

/// The last that is known of a key, fresh or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Last {
    /// A fresh value or absence.
    Fresh(Found),
    /// A value, for how long it has not been fresh, and, if it has tags, where they were before that was known.
    Stale(Bytes, Duration, Option<Marks>),
    /// Nothing.
    Nothing,
}

impl Seen {
    fn of(text: &Bytes, head: usize, stays: bool) -> Seen {
        // Copied, so that the load does not hold the old value.
        Seen { head: SmallVec::from_slice(&text[..text.len().min(head)]), stays }
    }
}

impl Answer {
    /// Of a record that was read at this time, where entries of this generation count.
    pub(super) fn of(record: Option<Record>, generation: u64, now_ms: u64) -> Answer {
        let Some(Record { decoded, text, marks }) = record else { return Answer::Nothing(Seen::default()) };
        let entry = match decoded {
            Decoded::Entry(entry) => entry,
            Decoded::Fence | Decoded::Later => return Answer::Closed,
            Decoded::Damaged => return Answer::Nothing(Seen::of(&text, HEADER_LEN, false)),
        };
        let marked = entry.marked_ms > now_ms;
        let mut head = HEADER_LEN;
        let data = match entry.content {
            Content::Value(data) => Some(data),
            Content::Tagged(tagged) => {
                // Its tags belong to what is seen: they say why it may be none.
                head += tagged.block_length();
                if marks.is_none() {
                    return Answer::Nothing(Seen::of(&text, head, false));
                }
                Some(tagged.data)
            }
            Content::Absent => None,
            Content::Lease => return Answer::Busy,
        };
        if entry.generation != generation {
            return Answer::Nothing(Seen::of(&text, head, false));
        }
        match life_left(entry.expiry_ms, now_ms) {
            Some(life) => {
                let span = entry.span.life();
                let seen = Seen::of(&text, head, true);
                Answer::Found(Found { data, life, span, seen, marks })
            }
            None if marked => Answer::Busy,
            // The last good value stays. An absence that has ended says nothing.
            None => Answer::Nothing(Seen::of(&text, head, data.is_some())),
        }
    }
}

impl Last {
    /// Of a record, as [`Answer::of`].
    pub(super) fn of(record: Option<Record>, generation: u64, now_ms: u64) -> Last {
        if let Some(Record { decoded: Decoded::Entry(entry), marks, .. }) = &record
            && let L2Entry { content, expiry_ms, .. } = entry
            && let Some(data) = match content {
                Content::Value(data) => Some(data),
                Content::Tagged(tagged) if marks.is_some() => Some(&tagged.data),
                _ => None,
            }
            && entry.generation == generation
            && life_left(*expiry_ms, now_ms).is_none()
        {
            let age = Duration::from_millis(now_ms.saturating_sub(*expiry_ms));
            return Last::Stale(data.clone(), age, marks.clone());
        }
        match Answer::of(record, generation, now_ms) {
            Answer::Found(found) => Last::Fresh(found),
            Answer::Nothing(_) | Answer::Busy | Answer::Closed => Last::Nothing,
        }
    }
}

/// `None` once it has ended; `Some(None)` is for ever.
pub(super) fn life_left(expiry_ms: u64, now_ms: u64) -> Option<Option<Duration>> {
    if expiry_ms == 0 {
        return Some(None);
    }
    expiry_ms.checked_sub(now_ms).filter(|&left| left > 0).map(|left| Some(Duration::from_millis(left)))
}
