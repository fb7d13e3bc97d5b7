//! No disk at all: the same journal, with its segments in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Block, Disk, SyncBlock};

/// For the class `memory`. A segment's memory is freed with it; nothing can be read back by path.
pub(crate) struct MemoryDisk;

impl Disk for MemoryDisk {
    fn create(&self, _path: &Path, length: usize) -> io::Result<Box<dyn Block>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        bytes.resize(length, 0);
        Ok(Box::new(Memory(bytes)))
    }

    fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

struct Memory(Vec<u8>);

impl Block for Memory {
    fn view(&self) -> &[u8] {
        &self.0
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn syncer(&self) -> SyncBlock {
        Arc::new(|| Ok(()))
    }
}
