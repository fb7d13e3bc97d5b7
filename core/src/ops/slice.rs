//! An array's form: whether its base stays, what is removed, what is appended, and in which order.
//!
//! Each operation has a position. A text that is removed loses its earlier appends here, by a look into a table; values
//! that are equal though their texts differ are left to the server, which needs the positions for it.

use std::sync::Arc;

use foldhash::HashMap;
use smallvec::SmallVec;

use super::{NotComposable, Operation, text_bytes};

/// What one more append of a text costs: its position, with room for the vector to grow.
const POSITION_BYTES: usize = 8;

/// What becomes of an array: its base, unless cleared, without the removed values; then the appended values in their
/// order, each without those that are equal to a value removed at a later position.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct SliceForm {
    cleared: bool,
    /// The position of the next operation.
    next: u32,
    texts: HashMap<Arc<str>, Places>,
    /// Bytes of texts and positions.
    held: usize,
}

/// Where a text was removed last, and where it was appended since.
#[derive(Clone, Default, PartialEq)]
struct Places {
    removed: Option<u32>,
    // Four are as large as the vector is without them.
    appended: SmallVec<[u32; 4]>,
}

impl SliceForm {
    /// Whether the base is dropped.
    pub(crate) fn cleared(&self) -> bool {
        self.cleared
    }

    /// The removed values with the position of their last removal, in order of position.
    pub(crate) fn removed(&self) -> Vec<(u32, &Arc<str>)> {
        sorted(self.texts.iter().filter_map(|(text, places)| Some((places.removed?, text))))
    }

    /// The appended values with their positions, in order of position.
    pub(crate) fn appended(&self) -> Vec<(u32, &Arc<str>)> {
        sorted(self.texts.iter().flat_map(|(text, places)| places.appended.iter().map(move |at| (*at, text))))
    }

    #[inline]
    pub(super) fn then(&mut self, operation: &Operation) -> Result<(), NotComposable> {
        match operation {
            Operation::Append(text) => {
                let at = self.take_position()?;
                self.append(text, at);
            }
            Operation::Remove(text) => {
                let at = self.take_position()?;
                self.remove(text, at);
            }
            Operation::Clear => *self = SliceForm { cleared: true, ..SliceForm::default() },
            _ => return Err(NotComposable),
        }
        Ok(())
    }

    pub(super) fn followed_by(&mut self, later: &SliceForm) -> Result<(), NotComposable> {
        if later.cleared {
            *self = later.clone();
            return Ok(());
        }
        let start = self.next;
        self.next = start.checked_add(later.next).ok_or(NotComposable)?;
        for (text, places) in &later.texts {
            if let Some(at) = places.removed {
                self.remove(text, start + at);
            }
            places.appended.iter().for_each(|at| self.append(text, start + at));
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        // The table fills up to seven eighths; each slot has a byte beside it.
        let slots = self.texts.capacity() * 8 / 7;
        slots * (size_of::<(Arc<str>, Places)>() + 1) + self.held
    }

    fn take_position(&mut self) -> Result<u32, NotComposable> {
        let at = self.next;
        self.next = at.checked_add(1).ok_or(NotComposable)?;
        Ok(at)
    }

    fn append(&mut self, text: &Arc<str>, at: u32) {
        self.places(text).appended.push(at);
        self.held += POSITION_BYTES;
    }

    fn remove(&mut self, text: &Arc<str>, at: u32) {
        let places = self.places(text);
        places.removed = Some(at);
        let dropped = std::mem::take(&mut places.appended).len();
        self.held -= dropped * POSITION_BYTES;
    }

    fn places(&mut self, text: &Arc<str>) -> &mut Places {
        let SliceForm { texts, held, .. } = self;
        texts.entry(text.clone()).or_insert_with(|| {
            *held += text_bytes(text);
            Places::default()
        })
    }
}

fn sorted<'a>(found: impl Iterator<Item = (u32, &'a Arc<str>)>) -> Vec<(u32, &'a Arc<str>)> {
    let mut found: Vec<_> = found.collect();
    found.sort_unstable_by_key(|(at, _)| *at);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(operations: &[Operation]) -> SliceForm {
        let mut form = SliceForm::default();
        operations.iter().for_each(|it| form.then(it).unwrap());
        form
    }

    fn append(text: &str) -> Operation {
        Operation::Append(text.into())
    }

    fn remove(text: &str) -> Operation {
        Operation::Remove(text.into())
    }

    fn shown(places: Vec<(u32, &Arc<str>)>) -> Vec<(u32, &str)> {
        places.into_iter().map(|(at, text)| (at, &**text)).collect()
    }

    #[test]
    fn a_removal_drops_earlier_appends_of_its_text_and_no_others() {
        let form = form(&[append("1"), append("1.0"), remove("1"), append("2"), append("1"), remove("3")]);
        assert_eq!(shown(form.removed()), [(2, "1"), (5, "3")]);
        assert_eq!(shown(form.appended()), [(1, "1.0"), (3, "2"), (4, "1")]);
        assert!(!form.cleared());
    }

    #[test]
    fn of_two_removals_the_last_one_stays() {
        let form = form(&[remove("1"), append("1.0"), remove("1")]);
        assert_eq!(shown(form.removed()), [(2, "1")]);
    }

    #[test]
    fn clearing_drops_everything_and_its_memory() {
        let mut form = form(&[append("\"canary\""), remove("1")]);
        assert!(form.bytes() > 2 * size_of::<Places>());
        form.then(&Operation::Clear).unwrap();
        assert!(form.cleared() && form.removed().is_empty() && form.appended().is_empty());
        assert_eq!(form.bytes(), 0);
    }

    #[test]
    fn positions_do_not_wrap() {
        let mut full = SliceForm { next: u32::MAX, ..form(&[append("1")]) };
        let before = full.clone();
        assert_eq!(full.then(&remove("1")), Err(NotComposable));
        assert_eq!(full.followed_by(&form(&[remove("1")])), Err(NotComposable));
        assert!(full == before);
        full.followed_by(&form(&[Operation::Clear, append("2")])).unwrap();
        assert_eq!(shown(full.appended()), [(0, "2")]);
    }

    #[test]
    fn a_text_that_comes_and_goes_takes_no_more_memory() {
        let mut form = form(&[append("1"), remove("1")]);
        let before = form.bytes();
        for _ in 0..1_000 {
            form.then(&append("1")).unwrap();
        }
        assert!(form.bytes() > before + 4_000);
        form.then(&remove("1")).unwrap();
        assert_eq!(form.bytes(), before);
    }
}
