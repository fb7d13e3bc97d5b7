//! Remembers what was made of a text, per thread and bounded: programs build the same few statements for ever.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::thread::LocalKey;

use foldhash::fast::RandomState;

use crate::error::Result;

/// Texts kept per thread; when full, all are forgotten and the ones in use come back at once.
const MAX_ENTRIES: usize = 1_024;
/// Longer texts are not worth their place.
const MAX_TEXT: usize = 8 << 10;

/// From texts to what was made of them.
pub(super) struct TextCache<T>(RefCell<HashMap<Box<str>, Arc<T>, RandomState>>);

impl<T> TextCache<T> {
    pub fn new() -> TextCache<T> {
        TextCache(RefCell::new(HashMap::default()))
    }

    /// The remembered one, or `make`; errors are not remembered. Also works while the thread ends.
    pub fn get(
        local: &'static LocalKey<TextCache<T>>,
        text: &str,
        make: impl FnOnce(&str) -> Result<T>,
    ) -> Result<Arc<T>> {
        if let Ok(Some(known)) = local.try_with(|cache| cache.0.borrow().get(text).cloned()) {
            return Ok(known);
        }
        let made = Arc::new(make(text)?);
        if text.len() <= MAX_TEXT {
            let _ = local.try_with(|cache| cache.keep(text, made.clone()));
        }
        Ok(made)
    }

    fn keep(&self, text: &str, made: Arc<T>) {
        let mut map = self.0.borrow_mut();
        if map.len() >= MAX_ENTRIES {
            map.clear();
        }
        map.insert(text.into(), made);
    }
}
