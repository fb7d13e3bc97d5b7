//! Calls on files that the standard library does not have: blocks ahead of time, syncing, locks that end with the process.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;
use rustix::process::Resource;

/// Gives the empty `file` a length, in blocks that exist: a store into a mapping of a hole would end in SIGBUS once the
/// disk is full.
///
/// # Errors
/// What the system says. Beyond the limit on file sizes (`ulimit -f`) this is EFBIG, found out beforehand: the call
/// itself would kill the process.
pub(crate) fn preallocate(file: &File, length: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Fsize).current;
    if limit.is_some_and(|limit| length > limit) {
        return Err(Errno::FBIG.into());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, length),
        // Some systems give the blocks and leave the length.
        Ok(()) => Ok(rustix::fs::ftruncate(file, length)?),
        Err(errno) => Err(errno.into()),
    }
}

/// For file systems that give blocks only to what is written.
fn fill(mut file: &File, length: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 16];
    let mut left = length;
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        file.write_all(&zeros[..piece as usize])?;
        left -= piece;
    }
    Ok(())
}

/// Waits until the content of `file`, stores into its mapping included, is on the disk.
///
/// # Errors
/// What the system says. After an error nobody knows what is on the disk, and asking again may say "all is well": never
/// sync that file again.
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(file)?)
}

/// Waits until the names in the folder `path` are on the disk.
///
/// # Errors
/// What the system says.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Takes the record lock of `file` for this process; false if another has it. It ends with the process, and when the
/// process closes *any* descriptor of the file. A forked child does not have it. It does not see its own process:
/// a second call of the same process succeeds.
///
/// # Errors
/// What the system says.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// What a file is, whatever its name: device and inode.
pub(crate) fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_there_and_empty() {
        let file = tempfile::tempfile().unwrap();
        preallocate(&file, 100_000).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 100_000);
        assert!(metadata.blocks() * 512 >= 100_000, "{} blocks", metadata.blocks());
        let filled = tempfile::tempfile().unwrap();
        fill(&filled, 100_000).unwrap();
        assert_eq!(filled.metadata().unwrap().len(), 100_000);
    }
}
