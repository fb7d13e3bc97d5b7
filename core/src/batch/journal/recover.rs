//! Reads the stream of a process that is gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::folder;
use super::header::{Class, RECORDS, SegmentHeader, StreamHeader};
use super::loaded::LoadedSegment;
use super::scan::{is_blank, scan};
pub(crate) use super::timeline::End;
use super::timeline::{Part, Stretch, judge};

/// A stream that was read and checked; nothing in its folder was changed.
pub(crate) struct Recovered {
    /// What the stream says of itself; `None` if no segment has a header.
    pub(crate) header: Option<StreamHeader>,
    /// The number of the first record that is not retired. A watermark below the one before it cannot be served.
    pub(crate) first: u64,
    /// The number of the last record that can be read; `first - 1` if there is none.
    pub(crate) last: u64,
    /// How it ends. [`Recovered::load`] gives every sound record, also behind damage.
    pub(crate) end: End,
    stretches: Vec<Stretch>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// Reads the stream in the folder `dir`, whose lock the caller holds. One segment is in memory at a time.
///
/// # Errors
/// What the disk says. What is wrong with the content is no error but an [`End`].
pub(crate) fn recover(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Recovered> {
    let names = disk.list(dir)?;
    let mut indices: Vec<u32> = names.iter().filter_map(|name| folder::segment_index(name)).collect();
    indices.sort_unstable();
    let mut stream: Option<StreamHeader> = None;
    let mut parts = Vec::with_capacity(indices.len());
    for index in indices {
        let bytes = disk.read(&dir.join(folder::segment_name(index)))?;
        parts.push(part(&bytes, index, &mut stream));
    }
    let class = stream.map_or(Class::Journal, |stream| stream.class);
    let (stretches, end) = judge(&parts, class);
    let first = parts.iter().find_map(|part| part.scan.as_ref()).map_or(1, |(header, _)| header.first);
    let last = stretches.last().map_or(first.saturating_sub(1), |stretch| stretch.run.last);
    Ok(Recovered { header: stream, first, last, end, stretches, disk, dir: dir.to_owned() })
}

fn part(bytes: &[u8], index: u32, stream: &mut Option<StreamHeader>) -> Part {
    let header = SegmentHeader::read(bytes).filter(|header| header.index == index && belongs(header, stream));
    let scan = header.map(|header| (header, scan(bytes, &header)));
    Part { index, scan, blank: is_blank(bytes, RECORDS) }
}

/// Whether a segment is of the stream that the ones before it are of. It may know more of it: the process may have ended
/// between two headers that it was rewriting.
fn belongs(header: &SegmentHeader, stream: &mut Option<StreamHeader>) -> bool {
    let told = header.stream;
    let known = *stream.get_or_insert(told);
    let unknown = [0; 16];
    let one_database =
        known.database == told.database || known.database == unknown || told.database == unknown;
    let belongs = one_database
        && (known.class, known.stream, known.place) == (told.class, told.stream, told.place)
        // A watermark is a bigint.
        && (1..=i64::MAX as u64).contains(&header.first);
    if belongs {
        let database = if known.database == unknown { told.database } else { known.database };
        let registered = known.registered || told.registered;
        *stream = Some(StreamHeader { database, registered, ..known });
    }
    belongs
}

impl Recovered {
    /// The segment that holds the first sound record above `after`, read from the disk; `None` if there is no such record.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn load(&self, after: u64) -> io::Result<Option<LoadedSegment>> {
        let Some(first) = self.stretches.iter().find(|stretch| stretch.run.last > after) else {
            return Ok(None);
        };
        let bytes = self.disk.read(&self.dir.join(folder::segment_name(first.index)))?;
        let of_segment = self.stretches.iter().filter(|stretch| stretch.index == first.index);
        let runs = of_segment.map(|stretch| stretch.run).collect();
        Ok(Some(LoadedSegment::new(first.index, bytes.into(), runs)))
    }
}
