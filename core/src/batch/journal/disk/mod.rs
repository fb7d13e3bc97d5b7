//! What the journal needs of a disk, so that its tests can have one that fails, tears and forgets.

use std::io;
use std::path::Path;
use std::sync::Arc;

mod memory;
mod real;

pub(crate) use memory::MemoryDisk;
pub(crate) use real::RealDisk;

/// Waits until what was in a block when this began is on the disk. May run while the block is stored into.
pub(crate) type SyncBlock = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Files and folders by path. Errors are those of the system.
pub(crate) trait Disk: Send + Sync {
    /// Makes a file of `length` zeros, in blocks that exist: a later store into it cannot fail. Replaces a file of that
    /// name. On an error there is no such file.
    fn create(&self, path: &Path, length: usize) -> io::Result<Box<dyn Block>>;
    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The first `length` bytes of a file, fewer if it is shorter.
    fn read_start(&self, path: &Path, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = self.read(path)?;
        bytes.truncate(length);
        Ok(bytes)
    }
    /// The names in a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Renames a file or folder; at once, whole.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with what is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are on the disk.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// A file that is stored into directly.
pub(crate) trait Block: Send {
    /// What is in it.
    fn view(&self) -> &[u8];
    /// The same, to store into. Asked for anew before each store.
    fn bytes(&mut self) -> &mut [u8];
    /// A handle that syncs it.
    fn syncer(&self) -> SyncBlock;
}
