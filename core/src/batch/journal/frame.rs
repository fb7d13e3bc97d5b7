//! One record as it lies in a segment.
//!
//! ```text
//! 0  word: length of the payload × 4 + kind (u32)     8  checksum (u32)
//! 4  low half of the sequence number (u32)           12  the payload
//! ```
//! Numbers are little-endian. No kind is 0, so a word of 0 means "nothing was written from here on". The word is stored
//! before anything else of the record: when the process is killed, what is behind the record is still zeros, and nothing
//! of the record is there without its word.
//!
//! The checksum is CRC-32 (IEEE), continued from that of the record before, over word, number and payload. The first
//! eight bytes of the payload are padded with zeros, so that the usual small record is one block of 16 bytes, the
//! step the checksum is fastest in; the length, which is part of it, tells padding from payload.

use crate::base::crash::crash;
use std::sync::atomic::{Ordering, compiler_fence};

use crc32fast::Hasher;

/// What a record needs beside its payload.
pub(super) const OVERHEAD: usize = 12;

/// The longest payload.
pub(crate) const MAX_PAYLOAD: usize = (1 << 30) - 1;

/// The bytes that a payload of this length needs in a segment, for [`Journal::room`](super::Journal::room).
pub(crate) const fn framed(payload: usize) -> usize {
    OVERHEAD + payload
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A payload of the caller; has the next sequence number.
    Data = 1,
    /// The journal goes on in the next segment. Like the next kind, it has the number of the last record of data.
    Rolled = 2,
    /// Everything up to the number in it (u64) is on the disk.
    Durable = 3,
}

/// A record that lies within the segment; whether it checks out is another question.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'b> {
    pub(super) kind: Kind,
    pub(super) sequence_low: u32,
    pub(super) checksum: u32,
    pub(super) payload: &'b [u8],
    word: u32,
}

impl<'b> Frame<'b> {
    /// The record at `at`; `None` if there is none, or if it would not end within `bytes`.
    #[inline]
    pub(super) fn at(bytes: &'b [u8], at: usize) -> Option<Frame<'b>> {
        let (head, rest) = bytes.get(at..)?.split_first_chunk::<OVERHEAD>()?;
        let [word, sequence_low, checksum] = words(head);
        let kind = match word & 3 {
            1 => Kind::Data,
            2 => Kind::Rolled,
            3 => Kind::Durable,
            _ => return None,
        };
        let payload = rest.get(..(word >> 2) as usize)?;
        Some(Frame { kind, sequence_low, checksum, payload, word })
    }

    /// Its bytes in the segment.
    pub(super) fn length(&self) -> usize {
        framed(self.payload.len())
    }

    /// The checksum it should have behind a record whose checksum is `before`.
    pub(super) fn expected(&self, before: u32) -> u32 {
        checksum(before, self.word, self.sequence_low, self.payload)
    }

    /// Whether it is what was written behind that record.
    #[inline]
    pub(super) fn checks_out(&self, before: u32) -> bool {
        self.expected(before) == self.checksum
    }

    /// What a [`Kind::Durable`] says; 0 if it is none.
    pub(super) fn durable(&self) -> u64 {
        match (self.kind, self.payload.try_into()) {
            (Kind::Durable, Ok(number)) => u64::from_le_bytes(number),
            _ => 0,
        }
    }
}

/// The payload of the first record of data from `at` on, which is moved behind it. For records that were checked before.
pub(super) fn next_data<'b>(bytes: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
    loop {
        let frame = Frame::at(bytes, *at)?;
        *at += frame.length();
        if frame.kind == Kind::Data {
            return Some(frame.payload);
        }
    }
}

/// Writes a record at the start of `bytes`, which has room for it, and gives its checksum.
#[inline]
pub(super) fn put(bytes: &mut [u8], before: u32, kind: Kind, sequence: u64, payload: &[u8]) -> u32 {
    let word = ((payload.len() as u32) << 2) | kind as u32;
    let sequence_low = sequence as u32;
    let checksum = checksum(before, word, sequence_low, payload);
    let bytes = &mut bytes[..framed(payload.len())];
    bytes[..4].copy_from_slice(&word.to_le_bytes());
    // A killed process leaves the stores that it made, so their order in the program is all that has to be kept.
    compiler_fence(Ordering::Release);
    crash!("journal.mid_group");
    bytes[4..8].copy_from_slice(&sequence_low.to_le_bytes());
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    bytes[OVERHEAD..].copy_from_slice(payload);
    checksum
}

/// The checksum of the [`Kind::Rolled`] that ends a segment; the next segment's header is written before it is.
pub(super) fn rolled(before: u32, sequence: u64) -> u32 {
    checksum(before, Kind::Rolled as u32, sequence as u32, &[])
}

#[inline]
fn checksum(before: u32, word: u32, sequence_low: u32, payload: &[u8]) -> u32 {
    let mut block = [0; 16];
    block[..4].copy_from_slice(&word.to_le_bytes());
    block[4..8].copy_from_slice(&sequence_low.to_le_bytes());
    let (head, tail) = payload.split_at(payload.len().min(8));
    block[8..8 + head.len()].copy_from_slice(head);
    let mut hasher = Hasher::new_with_initial(before);
    hasher.update(&block);
    if !tail.is_empty() {
        hasher.update(tail);
    }
    hasher.finalize()
}

fn words(head: &[u8; OVERHEAD]) -> [u32; 3] {
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    [word(0), word(4), word(8)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_fixed() {
        let mut bytes = [0; 20];
        let checksum = put(&mut bytes, 7, Kind::Data, 0x1_0000_0002, b"likes+");
        assert_eq!(bytes[..8], [(6 << 2) | 1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[8..12], checksum.to_le_bytes());
        assert_eq!(bytes[12..], *b"likes+\0\0");
        let mut block = Hasher::new_with_initial(7);
        block.update(&[25, 0, 0, 0, 2, 0, 0, 0, b'l', b'i', b'k', b'e', b's', b'+', 0, 0]);
        assert_eq!(checksum, block.finalize());
    }

    #[test]
    fn zeros_are_no_record() {
        assert!(Frame::at(&[0; 64], 0).is_none());
        assert!(Frame::at(&[1; 11], 0).is_none(), "too short for a head");
        assert!(Frame::at(&[1; 64], usize::MAX).is_none());
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(before: u32, sequence: u64, payload in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = vec![0; framed(payload.len()) + 3];
            let checksum = put(&mut bytes, before, Kind::Data, sequence, &payload);
            let frame = Frame::at(&bytes, 0).unwrap();
            prop_assert!(frame.checks_out(before) && !frame.checks_out(before ^ 1));
            prop_assert_eq!((frame.kind, frame.checksum, frame.payload), (Kind::Data, checksum, &payload[..]));
            prop_assert_eq!(frame.sequence_low, sequence as u32);
        }

        #[test]
        fn any_bytes_can_be_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0_usize..120) {
            if let Some(frame) = Frame::at(&bytes, at) {
                prop_assert!(at + frame.length() <= bytes.len());
                frame.durable();
            }
        }
    }
}
