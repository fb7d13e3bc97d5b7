//! The end of a write or drop, whatever it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::l1::L1;
use crate::cache::loader::Loader;

/// A change of keys that is under way in L2. However it ends, also by its caller going away, the epochs move, L1 has
/// nothing old, and later reads join no older load.
pub(super) struct Settle<'a> {
    l1: &'a L1,
    loader: &'a Loader,
    keys: &'a [Arc<str>],
}

impl<'a> Settle<'a> {
    /// Moves the epochs, so that reads that have begun keep nothing, and watches over the rest.
    pub(super) fn begin(l1: &'a L1, loader: &'a Loader, keys: &'a [Arc<str>]) -> Settle<'a> {
        keys.iter().for_each(|key| l1.begin(key));
        Settle { l1, loader, keys }
    }

    /// Ends well: L1 has the new value, if no other change of the key overlapped.
    pub(super) fn commit(mut self, data: Bytes, version: u64, life: Duration) {
        for key in std::mem::take(&mut self.keys) {
            self.l1.commit(key, Some(data.clone()), version, life);
            self.loader.forget(key);
        }
    }
}

impl Drop for Settle<'_> {
    fn drop(&mut self) {
        for key in self.keys {
            self.l1.abandon(key);
            self.loader.forget(key);
        }
    }
}
