//! One segment in memory, to be read from its start: its later records refer to earlier ones.

use bytes::Bytes;

use super::frame::next_data;
use super::scan::Run;

/// Gives the number and the payload of each of its records of data, in order. A payload is a slice of the segment.
pub(crate) struct LoadedSegment {
    /// Its index.
    pub(crate) index: u32,
    /// The number of its last record that can be read.
    pub(crate) last: u64,
    bytes: Bytes,
    runs: std::vec::IntoIter<Run>,
    /// Where the next record lies, and the numbers that are still to come from there.
    at: usize,
    numbers: std::ops::Range<u64>,
}

impl LoadedSegment {
    /// Its bytes, and the stretches of them that check out.
    pub(super) fn new(index: u32, bytes: Bytes, runs: Vec<Run>) -> LoadedSegment {
        let last = runs.last().map_or(0, |run| run.last);
        // Empty: the first run is taken with the first record.
        LoadedSegment { index, last, bytes, runs: runs.into_iter(), at: 0, numbers: 0..0 }
    }
}

impl Iterator for LoadedSegment {
    type Item = (u64, Bytes);

    fn next(&mut self) -> Option<(u64, Bytes)> {
        loop {
            if let Some(number) = self.numbers.next() {
                let payload = next_data(&self.bytes, &mut self.at)?;
                return Some((number, self.bytes.slice_ref(payload)));
            }
            let run = self.runs.next()?;
            (self.at, self.numbers) = (run.start, run.first..run.last + 1);
        }
    }
}
