//! The end of a write or drop, whatever it is.

use std::sync::Arc;

use bytes::Bytes;

use crate::cache::l1::L1;
use crate::cache::life::Stay;
use crate::cache::loader::Loader;
use crate::cache::tags::Marks;
use crate::error::{Error, ErrorKind, Result};

/// A change of keys that is under way: of a transaction from before its COMMIT on, of any other write while L2 is told.
/// However it ends, also by its caller going away, the epochs move, L1 has nothing old, and later reads join no older
/// load. Two of one key that are under way at once know of each other.
pub(crate) struct Settle {
    l1: L1,
    loader: Loader,
    keys: Vec<Arc<str>>,
}

impl Settle {
    /// Moves the epochs, so that reads that have begun keep nothing, and watches over the rest.
    pub(super) fn begin(l1: &L1, loader: &Loader, keys: Vec<Arc<str>>) -> Settle {
        keys.iter().for_each(|key| l1.begin(key));
        Settle { l1: l1.clone(), loader: loader.clone(), keys }
    }

    /// The keys that change.
    pub(crate) fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }

    /// The key that changes, if it is one.
    pub(super) fn key(&self) -> Result<&Arc<str>> {
        match &self.keys[..] {
            [key] => Ok(key),
            _ => Err(Error::new(ErrorKind::Internal, "a change of one key")),
        }
    }

    /// Ends well: L1 has the new value, if no other change of the key overlapped.
    pub(super) fn commit(mut self, data: Bytes, stay: Stay, marks: Option<Marks>) {
        for key in std::mem::take(&mut self.keys) {
            self.l1.commit(&key, Some(data.clone()), stay, marks.clone());
            self.loader.forget(&key);
        }
    }

    /// Ends without a change: the transaction left nothing.
    pub(crate) fn call_off(mut self) {
        std::mem::take(&mut self.keys).iter().for_each(|key| self.l1.call_off(key));
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        for key in &self.keys {
            self.l1.abandon(key);
            self.loader.forget(key);
        }
    }
}
