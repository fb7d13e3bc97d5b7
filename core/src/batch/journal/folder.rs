//! Names in the journal's folder, and the life of a stream's folder.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::header::{RECORDS, SegmentHeader, StreamHeader};
use super::lock;

/// What the folder of a stream is called once all of it was applied.
const DONE: &str = ".done";

/// The name of a segment.
pub(super) fn segment_name(index: u32) -> String {
    format!("{index:08}.seg")
}

/// The index of the segment of this name.
pub(super) fn segment_index(name: &str) -> Option<u32> {
    let index = name.strip_suffix(".seg")?.parse().ok()?;
    (segment_name(index) == name).then_some(index)
}

/// The name of a stream's folder.
pub(super) fn stream_name(stream: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(stream))
}

fn is_stream_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The folders of streams that no process holds. Between this and a [`StreamLock`](super::StreamLock) another may take
/// one, so it only says what is worth trying. A folder that does not exist has none.
///
/// # Errors
/// What the disk says.
pub(crate) fn orphans(disk: &dyn Disk, journal_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names(disk, journal_dir)?.iter().filter(|name| is_stream_name(name)) {
        let dir = journal_dir.join(name);
        if !lock::is_held(&dir)? {
            found.push(dir);
        }
    }
    found.sort();
    Ok(found)
}

/// The streams in a folder, held or not, with what they say of themselves. One without a readable segment says nothing.
///
/// # Errors
/// What the disk says.
pub(crate) fn headers(disk: &dyn Disk, journal_dir: &Path) -> io::Result<Vec<(PathBuf, StreamHeader)>> {
    let mut found = Vec::new();
    for name in names(disk, journal_dir)?.iter().filter(|name| is_stream_name(name)) {
        let dir = journal_dir.join(name);
        let mut segments = names(disk, &dir)?;
        segments.retain(|name| segment_index(name).is_some());
        segments.sort_unstable();
        let Some(first) = segments.first() else { continue };
        // It may be retired or put away meanwhile.
        let Ok(start) = disk.read_start(&dir.join(first), RECORDS) else { continue };
        found.extend(SegmentHeader::read(&start).map(|header| (dir, header.stream)));
    }
    Ok(found)
}

/// Marks the stream as wholly applied: nobody replays it from here on. The caller holds its lock.
///
/// # Errors
/// What the disk says.
pub(crate) fn finish(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut done = dir.as_os_str().to_owned();
    done.push(DONE);
    disk.rename(dir, Path::new(&done))?;
    disk.sync_dir(dir.parent().unwrap_or(dir))
}

/// The streams that are finished and not yet removed.
///
/// # Errors
/// What the disk says.
pub(crate) fn done(disk: &dyn Disk, journal_dir: &Path) -> io::Result<Vec<[u8; 16]>> {
    let names = names(disk, journal_dir)?;
    let streams = names.iter().filter_map(|name| name.strip_suffix(DONE).filter(|name| is_stream_name(name)));
    Ok(streams.filter_map(|name| u128::from_str_radix(name, 16).ok()).map(u128::to_be_bytes).collect())
}

/// Removes a stream that is finished. Any process may, twice or at the same time as another.
///
/// # Errors
/// What the disk says.
pub(crate) fn remove_done(disk: &dyn Disk, journal_dir: &Path, stream: [u8; 16]) -> io::Result<()> {
    absent_is_fine(disk.remove_dir_all(&journal_dir.join(stream_name(stream) + DONE)))
}

fn names(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names,
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
