//! The disk of this machine.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::{Block, Disk, SyncBlock};
use crate::sys::files;
use crate::sys::mapping::Mapping;

/// Files in preallocated blocks, mapped into memory.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path, length: usize) -> io::Result<Box<dyn Block>> {
        Ok(Box::new(Mapping::create(path, length)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_start(&self, path: &Path, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length);
        fs::File::open(path)?.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        // A name that is not text is none of ours.
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        files::sync_dir(path)
    }
}

impl Block for Mapping {
    fn view(&self) -> &[u8] {
        Mapping::bytes(self)
    }

    #[inline]
    fn bytes(&mut self) -> &mut [u8] {
        self.bytes_mut()
    }

    fn syncer(&self) -> SyncBlock {
        let file = self.file();
        Arc::new(move || files::sync_data(&file))
    }
}
