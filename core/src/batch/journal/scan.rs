//! Reads one segment by itself: its header says which number and which checksum it begins with.

use super::frame::{self, Frame, Kind, OVERHEAD};
use super::header::{RECORDS, SegmentHeader};
use super::resync::resync;

/// Records that check out, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Where the first one lies.
    pub(super) start: usize,
    /// The numbers of its records of data; `last` is `first - 1` if it has none.
    pub(super) first: u64,
    pub(super) last: u64,
    /// The highest number that one of its records says to be on the disk.
    pub(super) durable: u64,
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With a rolled record.
    Rolled,
    /// With zeros: nothing more was written.
    Open,
    /// With one record that does not check out, and zeros.
    Torn,
    /// With something else.
    Dirty,
}

/// What is in a segment.
#[derive(Debug)]
pub(super) struct Scan {
    /// Sound stretches in order; between two of them something is damaged.
    pub(super) runs: Vec<Run>,
    pub(super) ending: Ending,
    /// The number behind the last sound record.
    pub(super) next: u64,
    /// The checksum that the next segment continues if this one was rolled behind its last sound record.
    pub(super) chain: u32,
}

/// Reads the records behind a header that was read.
pub(super) fn scan(bytes: &[u8], header: &SegmentHeader) -> Scan {
    let (mut at, mut chain, mut last) = (RECORDS, header.chain, header.first.saturating_sub(1));
    let mut runs = Vec::new();
    loop {
        let walk = walk(bytes, at, chain, last);
        runs.push(walk.run);
        let next = walk.run.last + 1;
        if walk.rolled {
            return Scan { runs, ending: Ending::Rolled, next, chain: walk.chain };
        }
        let nothing_more = is_blank(bytes, walk.at);
        let found = if nothing_more { None } else { resync(bytes, walk.at, walk.chain, walk.run.last) };
        let Some(point) = found else {
            let ending = if nothing_more { Ending::Open } else { ending(bytes, walk.at) };
            return Scan { runs, ending, next, chain: frame::rolled(walk.chain, walk.run.last) };
        };
        (at, chain, last) = (point.at, point.chain, point.last);
    }
}

/// Whether from `at` on there are only zeros.
pub(super) fn is_blank(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..).unwrap_or_default().iter().all(|byte| *byte == 0)
}

/// What it is that does not check out at `at`, with nothing sound behind it.
fn ending(bytes: &[u8], at: usize) -> Ending {
    let length = Frame::at(bytes, at).map_or(OVERHEAD, |frame| frame.length());
    // The word of a torn record is there before the rest of it.
    let begun = bytes[at..].iter().take(4).any(|byte| *byte != 0);
    if begun && is_blank(bytes, at + length) { Ending::Torn } else { Ending::Dirty }
}

struct Walk {
    run: Run,
    /// The first place that does not check out, or behind a rolled record.
    at: usize,
    chain: u32,
    rolled: bool,
}

fn walk(bytes: &[u8], start: usize, chain: u32, last: u64) -> Walk {
    let run = Run { start, first: last + 1, last, durable: 0 };
    let mut walk = Walk { run, at: start, chain, rolled: false };
    while let Some(frame) = Frame::at(bytes, walk.at) {
        let number = walk.run.last + u64::from(frame.kind == Kind::Data);
        if frame.sequence_low != number as u32 || !frame.checks_out(walk.chain) {
            break;
        }
        walk.at += frame.length();
        walk.chain = frame.checksum;
        walk.run.last = number;
        walk.run.durable = walk.run.durable.max(frame.durable());
        if frame.kind == Kind::Rolled {
            walk.rolled = true;
            break;
        }
    }
    walk
}
