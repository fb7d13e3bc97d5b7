//! Is there anything valid behind a place that does not check out? If so the place is damage, not a torn tail.

use super::frame::{Frame, Kind, OVERHEAD};

/// Where reading can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) at: usize,
    /// The checksum that the record there continues.
    pub(super) chain: u32,
    /// The number of the last record of data before it.
    pub(super) last: u64,
}

/// The first place behind `at` with a record that checks out against the one before it. At `at` is something that does
/// not, behind a record with checksum `chain` and number `last`.
///
/// A record's checksum is what the next one continues, so a record can be checked without its predecessor being sound:
/// against the checksum that lies there, or the one it should have.
pub(super) fn resync(bytes: &[u8], at: usize, chain: u32, last: u64) -> Option<Point> {
    let search = Search { bytes, last };
    if let Some(frame) = Frame::at(bytes, at) {
        // Its checksum may be what is damaged.
        let behind = search.check(at + frame.length(), frame.expected(chain));
        if behind.is_some() {
            return behind;
        }
    }
    // Its length may be.
    let stored = bytes.get(at + 8..)?.first_chunk().map(|checksum| u32::from_le_bytes(*checksum))?;
    let end = bytes.len().saturating_sub(OVERHEAD);
    (at + 1..=end).find_map(|place| search.check(place, stored).or_else(|| search.check_behind(place)))
}

struct Search<'b> {
    bytes: &'b [u8],
    last: u64,
}

impl Search<'_> {
    /// The record at `at`, if it checks out behind `chain`.
    fn check(&self, at: usize, chain: u32) -> Option<Point> {
        let frame = self.plausible(at)?;
        frame.checks_out(chain).then(|| {
            let ahead = self.ahead(&frame);
            let own = u64::from(frame.kind == Kind::Data);
            Point { at, chain, last: (self.last + ahead).saturating_sub(own).max(self.last) }
        })
    }

    /// The record behind the one at `at`, if it checks out against that one's checksum.
    fn check_behind(&self, at: usize) -> Option<Point> {
        let frame = self.plausible(at)?;
        self.check(at + frame.length(), frame.checksum)
    }

    /// The record at `at`, if its number can be that of a record in this segment. Few places have one, which keeps the
    /// search linear.
    fn plausible(&self, at: usize) -> Option<Frame<'_>> {
        let frame = Frame::at(self.bytes, at)?;
        let most = (self.bytes.len() / OVERHEAD) as u64;
        (self.ahead(&frame) <= most).then_some(frame)
    }

    /// How far its number is ahead of the last good one.
    fn ahead(&self, frame: &Frame<'_>) -> u64 {
        u64::from(frame.sequence_low.wrapping_sub(self.last as u32))
    }
}
