//! A file in preallocated blocks, mapped into memory: what is stored here belongs to the kernel at once and survives the
//! death of the process.

// Mapping a file is the one thing about it that safe Rust cannot promise.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use memmap2::MmapMut;

use crate::sys::files;

/// The mapping, and the file for its `fdatasync`.
pub(crate) struct Mapping {
    bytes: MmapMut,
    file: Arc<File>,
}

impl Mapping {
    /// Makes the file `path` with `length` bytes of zeros in blocks of its own. What was there under this name is
    /// emptied first. A file that could not be made whole is removed.
    ///
    /// # Errors
    /// What the system says: no space, a limit on file sizes, a broken disk.
    pub(crate) fn create(path: &Path, length: usize) -> io::Result<Mapping> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Mapping::of(file, length).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = fs::remove_file(path);
        })
    }

    fn of(file: File, length: usize) -> io::Result<Mapping> {
        files::preallocate(&file, length as u64)?;
        // SAFETY: two things could make a mapping unsound. The file could become shorter: it has its whole length, in
        // blocks that exist, and nothing in this program ever shortens a file. Someone else could store into it while
        // we hold a reference: the file was just made (or emptied) below a folder whose lock this process holds, a
        // forked child refuses to write, and other processes only read it. Another program with rights to the folder
        // that writes there regardless can damage what is in the file, as it could without a mapping.
        let bytes = unsafe { MmapMut::map_mut(&file)? };
        Ok(Mapping { bytes, file: Arc::new(file) })
    }

    /// What is in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to store into.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The file, to sync it from another thread while stores go on.
    pub(crate) fn file(&self) -> Arc<File> {
        self.file.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_in_the_file_without_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut mapping = Mapping::create(&path, 8192).unwrap();
        mapping.bytes_mut()[5000] = 7;
        let seen = fs::read(&path).unwrap();
        assert_eq!((seen.len(), seen[5000]), (8192, 7));
        files::sync_data(&mapping.file()).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_made_whole_is_not_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(Mapping::create(&path, usize::MAX / 4).is_err());
        assert!(!path.exists());
    }
}
