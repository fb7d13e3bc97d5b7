//! Which families of keys were met before, so that each is logged once.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Families that are remembered; further ones are not told of.
const MOST: usize = 64;

/// Families of keys: what lies before the first digit, `:` or `_`.
#[derive(Default)]
pub(super) struct Families(Mutex<HashSet<Box<str>>>);

impl Families {
    /// Whether no key of this one's family was met before.
    pub(super) fn is_first_of_family(&self, key: &str) -> bool {
        let family = key.split(|it: char| it.is_numeric() || it == ':' || it == '_').next().unwrap_or(key);
        let mut known = self.0.lock();
        known.len() < MOST && !known.contains(family) && known.insert(family.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_family_is_told_and_families_are_bounded() {
        let families = Families::default();
        for (key, first) in
            [("feed_1", true), ("feed:x", false), ("feed2", false), ("feedback", true), ("7", true)]
        {
            assert_eq!(families.is_first_of_family(key), first, "{key}");
        }
        let more = (0..200).filter(|n| families.is_first_of_family(&"x".repeat(n + 1))).count();
        assert_eq!(more, MOST - 3);
    }
}
