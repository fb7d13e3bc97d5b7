//! The one string that an L2 entry is: a fixed header, then the value.
//!
//! ```text
//!  0  magic 0xB7      4  length of the value (u32)    16  version (u64)
//!  1  format 1        8  generation (u64)             24  expiry, ms of Redis' time (u64, 0 is never)
//!  2  kind            …                               32  checksum of bytes 0..32 (u64)
//!  3  zero                                            40  the value
//! ```
//! Numbers are big-endian, so that a script can compare versions as they lie. What is in Redis was written by anybody:
//! a string that is not exactly this is no entry. The checksum is FNV-1a; each of its steps is a bijection, so that no
//! change of a single byte goes unseen.

use bytes::Bytes;

/// Length of the header.
pub(crate) const HEADER_LEN: usize = 40;

const MAGIC: u8 = 0xB7;
const FORMAT: u8 = 1;
const KIND_VALUE: u8 = 1;
const KIND_ABSENT: u8 = 2;

/// An L2 entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct L2Entry {
    /// The generation it was written in; those of another are misses.
    pub(crate) generation: u64,
    /// The version of the write; 0 where no transaction gave one.
    pub(crate) version: u64,
    /// When it ends, in milliseconds of Redis' time; 0 is never.
    pub(crate) expiry_ms: u64,
    /// The value; `None` is a known absence.
    pub(crate) data: Option<Bytes>,
}

impl L2Entry {
    /// The string to store; `None` if the value is 4 GiB or longer, which no limit lets happen.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let data = self.data.as_deref().unwrap_or_default();
        let kind = if self.data.is_some() { KIND_VALUE } else { KIND_ABSENT };
        let mut out = Vec::with_capacity(HEADER_LEN + data.len());
        out.extend_from_slice(&[MAGIC, FORMAT, kind, 0]);
        out.extend_from_slice(&u32::try_from(data.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.expiry_ms.to_be_bytes());
        out.extend_from_slice(&checksum(&out).to_be_bytes());
        out.extend_from_slice(data);
        Some(out)
    }

    /// Reads a string; `None` if it is no entry. The value is a slice of it, not a copy.
    pub(crate) fn decode(text: &Bytes) -> Option<L2Entry> {
        let header: &[u8; HEADER_LEN] = text.first_chunk()?;
        let [MAGIC, FORMAT, kind, 0, ..] = *header else { return None };
        let length = u32::from_be_bytes(*header[4..].first_chunk()?) as usize;
        let word = |at: usize| header[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        if word(32)? != checksum(&header[..32]) || text.len() - HEADER_LEN != length {
            return None;
        }
        let data = match kind {
            KIND_VALUE => Some(text.slice(HEADER_LEN..)),
            KIND_ABSENT if length == 0 => None,
            _ => return None,
        };
        Some(L2Entry { generation: word(8)?, version: word(16)?, expiry_ms: word(24)?, data })
    }
}

/// FNV-1a, 64 bits. Source: Fowler, Noll, Vo, "FNV hash", RFC 9923.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(data: Option<&'static [u8]>) -> L2Entry {
        L2Entry {
            generation: 7,
            version: 1 << 40,
            expiry_ms: 1_700_000_000_000,
            data: data.map(Bytes::from_static),
        }
    }

    #[test]
    fn the_layout_is_fixed() {
        let text = entry(Some(b"hi")).encode().unwrap();
        assert_eq!(text.len(), HEADER_LEN + 2);
        assert_eq!(text[..8], [0xB7, 1, 1, 0, 0, 0, 0, 2]);
        assert_eq!(text[16..24], (1_u64 << 40).to_be_bytes());
        assert_eq!(checksum(b"foobar"), 0x8594_4171_f739_67e8, "as published");
    }

    #[test]
    fn the_value_is_not_copied() {
        let text = Bytes::from(entry(Some(b"value")).encode().unwrap());
        let data = L2Entry::decode(&text).unwrap().data.unwrap();
        assert_eq!(data.as_ptr(), text[HEADER_LEN..].as_ptr());
    }

    #[test]
    fn every_flipped_bit_of_the_header_and_every_cut_is_seen() {
        for whole in [entry(Some(b"value")), entry(Some(b"")), entry(None)] {
            let text = whole.encode().unwrap();
            for bit in 0..HEADER_LEN * 8 {
                let mut broken = text.clone();
                broken[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(L2Entry::decode(&broken.into()), None, "bit {bit}");
            }
            for length in 0..text.len() {
                assert_eq!(L2Entry::decode(&text[..length].to_vec().into()), None, "{length} bytes");
            }
            let mut longer = text.clone();
            longer.push(0);
            assert_eq!(L2Entry::decode(&longer.into()), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            generation: u64, version: u64, expiry_ms: u64, data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300))
        ) {
            let entry = L2Entry { generation, version, expiry_ms, data: data.map(Bytes::from) };
            let text = Bytes::from(entry.encode().unwrap());
            prop_assert_eq!(L2Entry::decode(&text), Some(entry));
        }

        #[test]
        fn random_bytes_are_no_entry(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(L2Entry::decode(&text.into()), None);
        }
    }
}
