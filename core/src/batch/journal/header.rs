//! What a segment says of itself before its records.
//!
//! ```text
//!  0  magic "zmsgjrnl"             16  stream (16)            80  first sequence number (u64)
//!  8  format 1 (u16)               32  database (16)          88  durable (u64)
//! 10  class (u8)                   48  place (32)             96  checksum the first record continues (u32)
//! 11  flags (u8)                   …                         100  checksum of bytes 0..100 (u32)
//! 12  index (u32)
//! ```
//! Numbers are little-endian. It stands there twice, each within a sector of its own, and is rewritten one copy after the
//! other: whenever the process or the power ends, one copy is whole.

use std::sync::atomic::{Ordering, compiler_fence};

/// Where the two copies are, and where the records begin.
const COPIES: [usize; 2] = [0, 512];
/// The first byte behind the headers.
pub(super) const RECORDS: usize = 1024;

const LENGTH: usize = 104;
const MAGIC: &[u8; 8] = b"zmsgjrnl";
const FORMAT: u16 = 1;
const REGISTERED: u8 = 1;
const DOUBT: u8 = 2;

/// What an acknowledgement rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Stores into a shared mapping.
    Journal = 1,
    /// An `fdatasync` after them.
    JournalFsync = 2,
    /// Memory of the process.
    Memory = 3,
}

/// What all segments of a stream say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamHeader {
    pub(crate) class: Class,
    /// 128 random bits; the folder's name.
    pub(crate) stream: [u8; 16],
    /// The identity of the database it belongs to; all zeros while that is not known.
    pub(crate) database: [u8; 16],
    /// A fingerprint of the database's address.
    pub(crate) place: [u8; 32],
    /// Whether the database has a watermark for this stream.
    pub(crate) registered: bool,
}

/// What one segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) stream: StreamHeader,
    pub(super) index: u32,
    /// The number that its first record of data has, or would have.
    pub(super) first: u64,
    /// What was known to be on the disk when it was made.
    pub(super) durable: u64,
    /// The records above `durable` and below `first` could not be synced. They were never acknowledged as durable, and
    /// may be missing.
    pub(super) doubt: bool,
    /// The checksum that its first record continues.
    pub(super) chain: u32,
}

impl SegmentHeader {
    /// Writes both copies.
    pub(super) fn write(&self, bytes: &mut [u8]) {
        let text = self.encode();
        for at in COPIES {
            bytes[at..at + LENGTH].copy_from_slice(&text);
            // The second copy is not touched before the first is whole.
            compiler_fence(Ordering::Release);
        }
    }

    /// Reads the first copy that is whole.
    pub(super) fn read(bytes: &[u8]) -> Option<SegmentHeader> {
        COPIES.iter().find_map(|&at| SegmentHeader::decode(bytes.get(at..)?.first_chunk()?))
    }

    fn encode(&self) -> [u8; LENGTH] {
        let mut text = [0; LENGTH];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            text[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(MAGIC);
        put(&FORMAT.to_le_bytes());
        put(&[self.stream.class as u8, self.flags()]);
        put(&self.index.to_le_bytes());
        put(&self.stream.stream);
        put(&self.stream.database);
        put(&self.stream.place);
        put(&self.first.to_le_bytes());
        put(&self.durable.to_le_bytes());
        put(&self.chain.to_le_bytes());
        let checksum = crc32fast::hash(&text[..LENGTH - 4]);
        text[LENGTH - 4..].copy_from_slice(&checksum.to_le_bytes());
        text
    }

    fn flags(&self) -> u8 {
        (u8::from(self.stream.registered) * REGISTERED) | (u8::from(self.doubt) * DOUBT)
    }

    fn decode(text: &[u8; LENGTH]) -> Option<SegmentHeader> {
        let (told, checksum) = text.split_last_chunk()?;
        if crc32fast::hash(told) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut rest = told;
        if take(&mut rest)? != *MAGIC || u16::from_le_bytes(take(&mut rest)?) != FORMAT {
            return None;
        }
        let [class, flags] = take(&mut rest)?;
        let class = match class {
            1 => Class::Journal,
            2 => Class::JournalFsync,
            3 => Class::Memory,
            _ => return None,
        };
        let index = u32::from_le_bytes(take(&mut rest)?);
        let (stream, database, place) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
        let registered = flags & REGISTERED != 0;
        Some(SegmentHeader {
            stream: StreamHeader { class, stream, database, place, registered },
            index,
            first: u64::from_le_bytes(take(&mut rest)?),
            durable: u64::from_le_bytes(take(&mut rest)?),
            doubt: flags & DOUBT != 0,
            chain: u32::from_le_bytes(take(&mut rest)?),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (part, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> SegmentHeader {
        let (stream, database, place) = ([1; 16], [2; 16], [3; 32]);
        let stream = StreamHeader { class: Class::JournalFsync, stream, database, place, registered: true };
        SegmentHeader { stream, index: 5, first: 1 << 40, durable: 99, doubt: true, chain: 0xDEAD_BEEF }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = [0; RECORDS];
        header().write(&mut bytes);
        assert_eq!(SegmentHeader::read(&bytes), Some(header()));
        assert_eq!(bytes[..12], *b"zmsgjrnl\x01\0\x02\x03");
        assert_eq!(bytes[80..88], (1_u64 << 40).to_le_bytes());
    }

    #[test]
    fn a_flipped_bit_spoils_one_copy_and_the_other_is_read() {
        let text = header().encode();
        let mut bytes = [0; RECORDS];
        header().write(&mut bytes);
        for bit in 0..LENGTH * 8 {
            let mut broken = text;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&broken), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::read(&bytes), Some(header()), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_rewrite_that_is_cut_anywhere_leaves_the_old_or_the_new() {
        let mut bytes = [0; RECORDS];
        header().write(&mut bytes);
        let mut new = header();
        new.stream.database = [9; 16];
        let text = new.encode();
        for copy in COPIES {
            for cut in 0..=LENGTH {
                let mut torn = bytes;
                torn[copy..copy + cut].copy_from_slice(&text[..cut]);
                let read = SegmentHeader::read(&torn);
                assert!(read == Some(header()) || read == Some(new), "{cut} bytes at {copy}");
            }
            bytes[copy..copy + LENGTH].copy_from_slice(&text);
        }
        assert_eq!(SegmentHeader::read(&bytes), Some(new));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            prop_assert_eq!(SegmentHeader::read(&bytes), None);
        }
    }
}
