//! The one string that an L2 entry is: a fixed header, then the value.
//!
//! ```text
//!  0  magic 0xB7      4  length of the value (u32)    16  sequence (u64)
//!  1  format 1        8  generation (u64)             24  expiry, ms of Redis' time (u64, 0 is never)
//!  2  kind            …                               32  checksum of bytes 0..32 (u64)
//!  3  span                                            40  the value, then perhaps a mark
//! ```
//! Numbers are big-endian, so that a script can compare sequences as they lie. What is in Redis was written by anybody:
//! a string that is not exactly this is no entry. The checksum is FNV-1a; each of its steps is a bijection, so that no
//! change of a single byte goes unseen.
//!
//! The sequence is that of a delayed write that was accepted and whose transaction is still to come, or 0. In a lease it is
//! its token. A tagged value has its tags before it (`tagged`). A fence has another layout, which only scripts read
//! (scripts/fences.lua); here it is known by its kind.
//!
//! The span is the life that the entry was given, as a step of a quarter of a doubling: what a part of its life is, is asked
//! long after that. The expiry says until when it is fresh; how long Redis has it is the record's own business.
//!
//! A mark says that somebody loads the key anew while its entry can still be read: a token of 8 bytes, then when the mark
//! ends, as 13 digits of Redis' time in ms. Only scripts write it, so it is not under the checksum.
//!
//! A later release may write another format or kind. While releases run side by side such an entry is
//! a miss here and is left where it is; only what is damaged, or nobody's, is overwritten.

use std::time::Duration;

use bytes::Bytes;

use crate::cache::tagged::Tagged;

/// Length of the header.
pub(crate) const HEADER_LEN: usize = 40;
/// Length of a mark's token, and of a mark.
pub(crate) const TOKEN_LEN: usize = 8;
const MARK_LEN: usize = TOKEN_LEN + 13;

const MAGIC: u8 = 0xB7;
const FORMAT: u8 = 1;
const KIND_VALUE: u8 = 1;
const KIND_ABSENT: u8 = 2;
const KIND_LEASE: u8 = 3;
const KIND_FENCE: u8 = 4;
const KIND_TAGGED: u8 = 5;

/// What an entry says of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Its value.
    Value(Bytes),
    /// Its value, while its tags are what they were.
    Tagged(Tagged),
    /// It has none, says its source.
    Absent,
    /// Somebody is loading it.
    Lease,
}

/// What a string in Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// An entry.
    Entry(L2Entry),
    /// Writers are under way: nothing here is to be read, or filled.
    Fence,
    /// An entry of a later release.
    Later,
    /// Nothing of zmsg's, or damaged.
    Damaged,
}

/// An L2 entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct L2Entry {
    /// The generation it was written in; those of another are misses.
    pub(crate) generation: u64,
    /// The accept sequence of the delayed write it came from, 0 if it came from none; the token of a lease.
    pub(crate) sequence: u64,
    /// When it is no longer fresh, in milliseconds of Redis' time; 0 is never.
    pub(crate) expiry_ms: u64,
    /// The life it was given.
    pub(crate) span: Span,
    /// Until when somebody loads it anew, in milliseconds of Redis' time; 0 if nobody does. Never written from here.
    pub(crate) marked_ms: u64,
    /// What it says.
    pub(crate) content: Content,
}

/// A life, to a tenth of itself. Nothing is a life without end, or that of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span(u8);

impl Span {
    /// That of a life.
    pub(crate) fn of(life: Option<Duration>) -> Span {
        let Some(life) = life else { return Span(0) };
        let steps = (life.as_secs_f64() * 1e3).max(1.0).log2() * 4.0;
        Span(1 + steps.round().min(254.0) as u8)
    }

    /// The life, if it had an end.
    pub(crate) fn life(self) -> Option<Duration> {
        let steps = self.0.checked_sub(1)?;
        Duration::try_from_secs_f64(2_f64.powf(f64::from(steps) / 4.0) / 1e3).ok()
    }
}

/// What the header of a value says without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether tags have a say.
    pub(crate) tagged: bool,
    /// As in [`L2Entry`].
    pub(crate) generation: u64,
    /// As in [`L2Entry`].
    pub(crate) expiry_ms: u64,
}

impl L2Entry {
    /// The string to store; `None` if the value is 4 GiB or longer, which no limit lets happen.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let (kind, block, data) = match &self.content {
            Content::Value(data) => (KIND_VALUE, Vec::new(), &data[..]),
            Content::Tagged(tagged) => (KIND_TAGGED, tagged.block()?, &tagged.data[..]),
            Content::Absent => (KIND_ABSENT, Vec::new(), &[][..]),
            Content::Lease => (KIND_LEASE, Vec::new(), &[][..]),
        };
        let length = block.len() + data.len();
        let mut out = Vec::with_capacity(HEADER_LEN + length);
        out.extend_from_slice(&[MAGIC, FORMAT, kind, self.span.0]);
        out.extend_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.expiry_ms.to_be_bytes());
        out.extend_from_slice(&checksum(&out).to_be_bytes());
        out.extend_from_slice(&block);
        out.extend_from_slice(data);
        Some(out)
    }

    /// What the beginning of a string says of the value behind it; `None` if it is no value's.
    pub(crate) fn peek(text: &[u8]) -> Option<Head> {
        let header: &[u8; HEADER_LEN] = text.first_chunk()?;
        let word = |at: usize| header[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let [MAGIC, FORMAT, kind @ (KIND_VALUE | KIND_TAGGED), ..] = *header else { return None };
        let sound = word(32)? == checksum(&header[..32]);
        let (generation, expiry_ms) = (word(8)?, word(24)?);
        sound.then_some(Head { tagged: kind == KIND_TAGGED, generation, expiry_ms })
    }

    /// The header of an entry with another life in it.
    pub(crate) fn with_life(mut header: [u8; HEADER_LEN], span: Span, expiry_ms: u64) -> [u8; HEADER_LEN] {
        header[3] = span.0;
        header[24..32].copy_from_slice(&expiry_ms.to_be_bytes());
        let sum = checksum(&header[..32]).to_be_bytes();
        header[32..].copy_from_slice(&sum);
        header
    }

    /// Reads a string. The value is a slice of it, not a copy.
    pub(crate) fn decode(text: &Bytes) -> Decoded {
        match text[..] {
            [MAGIC, format, ..] if format > FORMAT => Decoded::Later,
            [MAGIC, FORMAT, KIND_FENCE, ..] => Decoded::Fence,
            _ => L2Entry::decode_this_format(text).unwrap_or(Decoded::Damaged),
        }
    }

    fn decode_this_format(text: &Bytes) -> Option<Decoded> {
        let header: &[u8; HEADER_LEN] = text.first_chunk()?;
        let [MAGIC, FORMAT, kind, span, ..] = *header else { return None };
        let length = u32::from_be_bytes(*header[4..].first_chunk()?) as usize;
        let word = |at: usize| header[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let marked_ms = marked_until(text.get(HEADER_LEN.checked_add(length)?..)?)?;
        if word(32)? != checksum(&header[..32]) {
            return None;
        }
        let content = match kind {
            _ if kind > KIND_TAGGED => return Some(Decoded::Later),
            KIND_VALUE => Content::Value(text.slice(HEADER_LEN..HEADER_LEN + length)),
            KIND_TAGGED => Content::Tagged(Tagged::decode(&text.slice(HEADER_LEN..HEADER_LEN + length))?),
            KIND_ABSENT if length == 0 => Content::Absent,
            KIND_LEASE if length == 0 && marked_ms == 0 => Content::Lease,
            _ => return None,
        };
        let (generation, sequence, expiry_ms) = (word(8)?, word(16)?, word(24)?);
        let entry = L2Entry { generation, sequence, expiry_ms, span: Span(span), marked_ms, content };
        Some(Decoded::Entry(entry))
    }
}

/// What lies behind a value: nothing, or a mark; else `None`.
fn marked_until(behind: &[u8]) -> Option<u64> {
    match behind.len() {
        0 => Some(0),
        MARK_LEN => std::str::from_utf8(&behind[TOKEN_LEN..]).ok()?.parse().ok(),
        _ => None,
    }
}

/// FNV-1a, 64 bits. Source: Fowler, Noll, Vo, "FNV hash", RFC 9923.
pub(in crate::cache) fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::tagged::Tag;

    fn entry(content: Content) -> L2Entry {
        let span = Span::default();
        L2Entry {
            generation: 7,
            sequence: 1 << 40,
            expiry_ms: 1_700_000_000_000,
            span,
            marked_ms: 0,
            content,
        }
    }

    fn value(text: &'static str) -> Content {
        Content::Value(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn the_layout_is_fixed() {
        let text = entry(value("hi")).encode().unwrap();
        assert_eq!(text.len(), HEADER_LEN + 2);
        assert_eq!(text[..8], [0xB7, 1, 1, 0, 0, 0, 0, 2]);
        assert_eq!(text[16..24], (1_u64 << 40).to_be_bytes());
        assert_eq!(checksum(b"foobar"), 0x8594_4171_f739_67e8, "as published");
    }

    #[test]
    fn the_value_is_not_copied() {
        let text = Bytes::from(entry(value("value")).encode().unwrap());
        let Decoded::Entry(L2Entry { content: Content::Value(data), .. }) = L2Entry::decode(&text) else {
            panic!("a value")
        };
        assert_eq!(data.as_ptr(), text[HEADER_LEN..].as_ptr());
    }

    #[test]
    fn every_flipped_bit_of_the_header_and_every_cut_is_seen() {
        let tags = vec![Tag { name: "user:7".into(), version: 7 }];
        let tagged = Content::Tagged(Tagged { tags, data: Bytes::from_static(b"value") });
        for whole in [value("value"), value(""), tagged, Content::Absent, Content::Lease] {
            let text = entry(whole).encode().unwrap();
            for bit in 0..HEADER_LEN * 8 {
                let mut broken = text.clone();
                broken[bit / 8] ^= 1 << (bit % 8);
                // A higher number of the format may be a later one.
                let damaged = match (broken[1] > FORMAT, broken[2]) {
                    (true, _) => Decoded::Later,
                    (false, KIND_FENCE) if broken[1] == FORMAT && broken[0] == MAGIC => Decoded::Fence,
                    _ => Decoded::Damaged,
                };
                assert_eq!(L2Entry::decode(&broken.into()), damaged, "bit {bit}");
            }
            for length in 0..text.len() {
                let cut = L2Entry::decode(&text[..length].to_vec().into());
                assert_eq!(cut, Decoded::Damaged, "{length} bytes");
            }
            let mut longer = text.clone();
            longer.push(0);
            assert_eq!(L2Entry::decode(&longer.into()), Decoded::Damaged);
        }
    }

    #[test]
    fn what_a_later_release_wrote_is_known_as_that() {
        let text = entry(value("value")).encode().unwrap();
        for (at, byte) in [(2, KIND_TAGGED + 1), (2, 255)] {
            let mut later = text.clone();
            later[at] = byte;
            let sum = checksum(&later[..32]).to_be_bytes();
            later[32..40].copy_from_slice(&sum);
            assert_eq!(L2Entry::decode(&later.into()), Decoded::Later, "byte {at} is {byte}");
        }
        assert_eq!(L2Entry::decode(&Bytes::from_static(&[MAGIC, FORMAT + 1])), Decoded::Later);
        assert_eq!(L2Entry::decode(&Bytes::from_static(&[MAGIC, 0])), Decoded::Damaged);
    }

    #[test]
    fn a_mark_is_read_and_anything_else_behind_a_value_is_damage() {
        let mut text = entry(value("value")).encode().unwrap();
        text.extend_from_slice(b"\xff\x00345678");
        text.extend_from_slice(b"1700000000123");
        let Decoded::Entry(marked) = L2Entry::decode(&text.clone().into()) else { panic!("an entry") };
        assert_eq!((marked.marked_ms, marked.content), (1_700_000_000_123, value("value")));
        text.pop();
        assert_eq!(L2Entry::decode(&text.clone().into()), Decoded::Damaged);
        text.push(b'x');
        assert_eq!(L2Entry::decode(&text.into()), Decoded::Damaged);
    }

    #[test]
    fn a_span_is_its_life_to_a_tenth() {
        for ms in [1, 2, 3, 500, 30_000, 86_400_000, 100 * 365 * 86_400_000_u64] {
            let told = Span::of(Some(Duration::from_millis(ms))).life().unwrap().as_secs_f64() * 1e3;
            assert!((0.91..1.1).contains(&(told / ms as f64)), "{ms}: {told}");
        }
        assert_eq!(Span::of(None).life(), None);
        assert!(Span::of(Some(Duration::MAX)).life().is_some());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            generation: u64, sequence: u64, expiry_ms: u64, span: u8, data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300))
        ) {
            let content = data.map_or(Content::Absent, |data| Content::Value(data.into()));
            let entry = L2Entry { generation, sequence, expiry_ms, span: Span(span), marked_ms: 0, content };
            let text = Bytes::from(entry.encode().unwrap());
            prop_assert_eq!(L2Entry::decode(&text), Decoded::Entry(entry));
        }

        #[test]
        fn random_bytes_are_no_entry(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(L2Entry::decode(&text.into()), Decoded::Entry(_)));
        }
    }
}
