//! One file of a stream, as its writer holds it.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::disk::{Block, Disk};
use super::folder;
use super::header::{RECORDS, SegmentHeader, StreamHeader};
use super::loaded::LoadedSegment;
use super::scan::Run;

/// A segment that the writer has made and not yet removed.
pub(super) struct Segment {
    pub(super) block: Box<dyn Block>,
    pub(super) header: SegmentHeader,
    /// The number of its last record; `first - 1` while it has none. Kept up for rolled segments only.
    pub(super) last: u64,
    /// Its length on the disk.
    pub(super) length: usize,
}

impl Segment {
    /// Makes it whole under another name, then gives it its own: a segment without a header is never seen.
    pub(super) fn create(
        disk: &dyn Disk,
        dir: &Path,
        length: usize,
        header: SegmentHeader,
    ) -> io::Result<Segment> {
        let path = dir.join(folder::segment_name(header.index));
        let unfinished = path.with_extension("tmp");
        let mut block = disk.create(&unfinished, length)?;
        header.write(block.bytes());
        disk.rename(&unfinished, &path).inspect_err(|_| {
            // The first error is the one to tell; the name is used again by the next try.
            let _ = disk.remove_file(&unfinished);
        })?;
        Ok(Segment { block, header, last: header.first - 1, length })
    }

    /// Says something else of the stream.
    pub(super) fn rewrite(&mut self, stream: StreamHeader) {
        self.header.stream = stream;
        self.header.write(self.block.bytes());
    }

    /// A copy of its first `length` bytes, with the records up to the number `last`. What this process wrote needs no check.
    pub(super) fn load(&self, last: u64, length: usize) -> LoadedSegment {
        let bytes = Bytes::copy_from_slice(&self.block.view()[..length]);
        let run = Run { start: RECORDS, first: self.header.first, last, durable: 0 };
        LoadedSegment::new(self.header.index, bytes, vec![run])
    }
}
