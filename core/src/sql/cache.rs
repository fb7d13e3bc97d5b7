//! Remembers what was made, per thread and bounded: programs build the same few statements for ever.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::thread::LocalKey;

use foldhash::fast::FixedState;

use crate::error::Result;

/// Entries kept per thread and cache; when full, all are forgotten and the ones in use come back at once.
const MAX_ENTRIES: usize = 1_024;
/// Longer texts are not worth their place.
const MAX_TEXT: usize = 8 << 10;

/// From what something was made of to what was made, which threads share.
pub(super) struct Memo<K, V: ?Sized> {
    hasher: FixedState,
    /// By the key's hash. Of two keys with the same one the later is kept.
    kept: RefCell<HashMap<u64, (K, Arc<V>), FixedState>>,
}

/// From one or several texts to what was made of them.
pub(super) type TextCache<V> = Memo<Texts, V>;

/// The texts under which a [`TextCache`] keeps something.
pub(super) struct Texts(Box<[Box<str>]>);

impl<K, V: ?Sized> Memo<K, V> {
    pub const fn new() -> Memo<K, V> {
        // A fixed seed will do: of two keys made to collide each pushes the other out, and that is all.
        let (hasher, of_hashes) = (FixedState::with_seed(1), FixedState::with_seed(2));
        Memo { hasher, kept: RefCell::new(HashMap::with_hasher(of_hashes)) }
    }

    fn find(&self, hash: u64, same: impl FnOnce(&K) -> bool) -> Option<Arc<V>> {
        let kept = self.kept.borrow();
        let (key, made) = kept.get(&hash)?;
        same(key).then(|| made.clone())
    }

    fn keep(&self, hash: u64, key: K, made: Arc<V>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= MAX_ENTRIES {
            kept.clear();
        }
        kept.insert(hash, (key, made));
    }
}

impl<K: Hash + Eq + Clone, V: ?Sized> Memo<K, V> {
    /// The remembered one, or `make`. Also works while the thread ends.
    pub fn of(local: &'static LocalKey<Self>, key: &K, make: impl FnOnce(&K) -> Arc<V>) -> Arc<V> {
        let looked_up = local.try_with(|memo| {
            let hash = memo.hasher.hash_one(key);
            (hash, memo.find(hash, |kept| kept == key))
        });
        let Ok((hash, known)) = looked_up else { return make(key) };
        known.unwrap_or_else(|| {
            let made = make(key);
            let _ = local.try_with(|memo| memo.keep(hash, key.clone(), made.clone()));
            made
        })
    }
}

impl<V: ?Sized> TextCache<V> {
    /// The remembered one, or `make`; errors are not remembered. Also works while the thread ends.
    pub fn get<M: Into<Arc<V>>>(
        local: &'static LocalKey<Self>,
        texts: &[&str],
        make: impl FnOnce() -> Result<M>,
    ) -> Result<Arc<V>> {
        let looked_up = local.try_with(|memo| {
            let hash = memo.hasher.hash_one(texts);
            (hash, memo.find(hash, |kept| kept.are(texts)))
        });
        if let Ok((_, Some(known))) = looked_up {
            return Ok(known);
        }
        let made = make()?.into();
        if let Ok((hash, _)) = looked_up
            && texts.iter().map(|text| text.len()).sum::<usize>() <= MAX_TEXT
        {
            let _ = local.try_with(|memo| memo.keep(hash, Texts::own(texts), made.clone()));
        }
        Ok(made)
    }
}

impl Texts {
    fn own(texts: &[&str]) -> Texts {
        Texts(texts.iter().map(|&text| text.into()).collect())
    }

    fn are(&self, texts: &[&str]) -> bool {
        self.0.len() == texts.len() && self.0.iter().zip(texts).all(|(mine, text)| **mine == **text)
    }
}
