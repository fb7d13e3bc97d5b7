//! What lies between the header of a tagged entry and its value: its tags, each with the version from before it was written.
//!
//! ```text
//!  0  length of this block, these bytes counted (u32)     4  number of tags (u8)
//!  5  for each tag: length of its name (u16), its name, its version (u64)
//! ```
//! Numbers are big-endian. It is read as what anybody may have written: nothing is taken in whose lengths do not add up.

use std::sync::Arc;

use bytes::Bytes;

/// Tags of one entry.
pub(crate) const MOST_TAGS: usize = 64;

/// A tag as an entry knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// The version that it had before the entry was written.
    pub(crate) version: u64,
}

/// A value and its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tagged {
    /// 1 to [`MOST_TAGS`].
    pub(crate) tags: Vec<Tag>,
    /// The value.
    pub(crate) data: Bytes,
}

impl Tagged {
    /// The bytes before the value; `None` for more tags or longer names than there may be.
    pub(crate) fn block(&self) -> Option<Vec<u8>> {
        let mut out = vec![0; 4];
        out.push(u8::try_from(self.tags.len()).ok().filter(|&count| (1..=MOST_TAGS as u8).contains(&count))?);
        for tag in &self.tags {
            out.extend_from_slice(&u16::try_from(tag.name.len()).ok()?.to_be_bytes());
            out.extend_from_slice(tag.name.as_bytes());
            out.extend_from_slice(&tag.version.to_be_bytes());
        }
        let length = u32::try_from(out.len()).ok()?;
        out[..4].copy_from_slice(&length.to_be_bytes());
        Some(out)
    }

    /// The length of the bytes before the value.
    pub(crate) fn block_length(&self) -> usize {
        5 + self.tags.iter().map(|tag| 10 + tag.name.len()).sum::<usize>()
    }

    /// Reads a block with its value, which is a slice of `payload`, not a copy.
    pub(crate) fn decode(payload: &Bytes) -> Option<Tagged> {
        let length = u32::from_be_bytes(*payload.first_chunk()?) as usize;
        let mut rest = payload.get(4..length)?;
        let (&count, after) = rest.split_first()?;
        if count == 0 || usize::from(count) > MOST_TAGS {
            return None;
        }
        rest = after;
        let mut tags = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (name_length, after) = rest.split_first_chunk()?;
            let (name, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*name_length)))?;
            let (version, after) = after.split_first_chunk()?;
            let name = std::str::from_utf8(name).ok()?.into();
            tags.push(Tag { name, version: u64::from_be_bytes(*version) });
            rest = after;
        }
        rest.is_empty().then(|| Tagged { tags, data: payload.slice(length..) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn whole(tagged: &Tagged) -> Bytes {
        [&tagged.block().unwrap()[..], &tagged.data].concat().into()
    }

    #[test]
    fn the_layout_is_fixed_and_the_number_of_tags_bounded() {
        let tags = |count: usize| vec![Tag { name: "é".into(), version: 258 }; count];
        let one = Tagged { tags: tags(1), data: Bytes::from_static(b"x") };
        let block = [0, 0, 0, 17, 1, 0, 2, 0xc3, 0xa9, 0, 0, 0, 0, 0, 0, 1, 2];
        assert_eq!(one.block().unwrap(), block);
        assert_eq!(one.block_length(), block.len());
        for (count, fits) in [(0, false), (MOST_TAGS, true), (MOST_TAGS + 1, false)] {
            let tagged = Tagged { tags: tags(count), data: Bytes::new() };
            assert_eq!(tagged.block().is_some(), fits, "{count}");
        }
        let mut none = block.to_vec();
        none[4] = 0;
        assert_eq!(Tagged::decode(&none.into()), None);
    }

    #[test]
    fn no_cut_is_read() {
        let tag = |name: &str| Tag { name: name.into(), version: u64::MAX };
        let text = whole(&Tagged { tags: vec![tag("user:7"), tag(""), tag("b")], data: Bytes::new() });
        for length in 0..text.len() {
            assert_eq!(Tagged::decode(&text.slice(..length)), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tags in vec((".{0,20}", any::<u64>()), 1..MOST_TAGS), data in vec(any::<u8>(), 0..100)) {
            let tags = tags.into_iter().map(|(name, version)| Tag { name: name.into(), version }).collect();
            let tagged = Tagged { tags, data: data.into() };
            prop_assert_eq!(Tagged::decode(&whole(&tagged)), Some(tagged));
        }

        /// Whatever is there: it is refused, or it is exactly what would be written.
        #[test]
        fn random_bytes_are_refused_or_mean_what_they_say(mut text in vec(any::<u8>(), 0..80), length in 0..80_u8, count in 0..4_u8) {
            if let [a, b, c, d, e, ..] = &mut text[..] {
                (*a, *b, *c, *d, *e) = (0, 0, 0, length, count);
            }
            let text = Bytes::from(text);
            if let Some(tagged) = Tagged::decode(&text) {
                prop_assert_eq!(whole(&tagged), text);
            }
        }
    }
}
