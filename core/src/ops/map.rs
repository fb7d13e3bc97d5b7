//! An object's form: per key, its last value or that it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{NotComposable, Operation, text_bytes};

/// What a key costs beside its text and its value's. Nodes of the tree are two thirds full on average.
const KEY_BYTES: usize = size_of::<(Arc<str>, Option<Arc<str>>)>() * 3 / 2;

/// What becomes of an object: the keys in question get their value or go, the others stay.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct MapForm {
    keys: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// Bytes of keys and values.
    held: usize,
}

impl MapForm {
    /// Keys that are set, with their JSON text, in order.
    pub(crate) fn puts(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.keys.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    /// Keys that go, in order.
    pub(crate) fn deletes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.keys.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key)
    }

    #[inline]
    pub(super) fn then(&mut self, operation: &Operation) -> Result<(), NotComposable> {
        match operation {
            Operation::Put(key, value) => self.change(key, Some(value)),
            Operation::Delete(key) => self.change(key, None),
            _ => return Err(NotComposable),
        }
        Ok(())
    }

    pub(super) fn followed_by(&mut self, later: &MapForm) {
        later.keys.iter().for_each(|(key, value)| self.change(key, value.as_ref()));
    }

    pub(super) fn bytes(&self) -> usize {
        self.held
    }

    fn change(&mut self, key: &Arc<str>, value: Option<&Arc<str>>) {
        self.held += value_bytes(value);
        match self.keys.insert(key.clone(), value.cloned()) {
            Some(old) => self.held -= value_bytes(old.as_ref()),
            None => self.held += KEY_BYTES + text_bytes(key),
        }
    }
}

fn value_bytes(value: Option<&Arc<str>>) -> usize {
    value.map_or(0, |it| text_bytes(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_key_the_last_one_wins_and_keys_are_in_order() {
        let put = |key: &str, value: &str| Operation::Put(key.into(), value.into());
        let delete = |key: &str| Operation::Delete(key.into());
        let mut form = MapForm::default();
        for it in [put("b", "1"), put("a", "2"), delete("c"), delete("b"), put("c", "3"), delete("0")] {
            form.then(&it).unwrap();
        }
        let puts: Vec<_> = form.puts().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(puts, [("a", "2"), ("c", "3")]);
        assert_eq!(form.deletes().map(|it| &**it).collect::<Vec<_>>(), ["0", "b"]);
    }

    #[test]
    fn a_value_that_is_replaced_is_no_longer_counted() {
        let mut form = MapForm::default();
        form.then(&Operation::Delete("k".into())).unwrap();
        let empty = form.bytes();
        form.then(&Operation::Put("k".into(), "1".repeat(1_000).into())).unwrap();
        assert!(form.bytes() > empty + 1_000);
        form.then(&Operation::Delete("k".into())).unwrap();
        assert_eq!(form.bytes(), empty);
    }
}
