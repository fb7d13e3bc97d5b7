//! A value on its way into the caches.

use bytes::Bytes;

use crate::cache::header::Content;
use crate::cache::tagged::Tagged;
use crate::cache::tags::TagSet;
use crate::config::Ttl;

/// A value, how long it lives, and what may be dropped along with it.
#[derive(Debug, Clone)]
pub(crate) struct NewValue {
    /// The value.
    pub(crate) data: Bytes,
    /// Its life; `None` is `default_ttl`.
    pub(crate) ttl: Option<Ttl>,
    /// Its tags, from before the write began.
    pub(crate) tags: Option<TagSet>,
}

impl NewValue {
    /// A value without tags.
    #[cfg(test)]
    pub(crate) fn plain(data: Bytes, ttl: Option<Ttl>) -> NewValue {
        NewValue { data, ttl, tags: None }
    }

    /// As L2 has it.
    pub(super) fn content(&self) -> Content {
        let data = self.data.clone();
        match &self.tags {
            Some(set) => Content::Tagged(Tagged { tags: set.tags.clone(), data }),
            None => Content::Value(data),
        }
    }
}
