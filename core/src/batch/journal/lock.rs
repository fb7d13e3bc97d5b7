//! Who owns a stream: the process that holds the record lock of its `lock` file.
//!
//! Such a lock ends with the process, however it ends, and a forked child does not inherit it, so a child that outlives
//! its parent keeps no stream from being adopted. But it does not see its own process, and closing any descriptor of the
//! file drops it. So what this process holds is noted here, and a lock file that is noted is never opened.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};

use super::folder;
use crate::sys::{files, fork};

/// The file in a stream's folder.
const LOCK: &str = "lock";
/// What a stream's folder is called until it is locked.
const NEW: &str = ".new";

/// A file: device and inode.
type Identity = (u64, u64);

/// What this process holds, each with the generation of the process that took it. A forked child has what its parent
/// had noted, and a mutex that may be locked for ever by a thread that is not there; it uses another one.
static HELD: [Mutex<Vec<(u64, Identity)>>; 16] = [const { Mutex::new(Vec::new()) }; 16];

/// The stream is this process's until this is dropped.
#[derive(Debug)]
pub(crate) struct StreamLock {
    dir: PathBuf,
    identity: Identity,
    generation: u64,
    /// Open for as long as the lock is held.
    file: Option<File>,
}

impl StreamLock {
    /// Makes the folder of a new stream, locked before anyone can see it. Only its owner may look into it.
    ///
    /// # Errors
    /// What the system says; a stream of that name is already there.
    pub(crate) fn create(journal_dir: &Path, stream: [u8; 16]) -> io::Result<StreamLock> {
        let dir = journal_dir.join(folder::stream_name(stream));
        if dir.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let new = journal_dir.join(folder::stream_name(stream) + NEW);
        DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
        let mut taken = take(&new, true)?.ok_or(io::ErrorKind::AlreadyExists)?;
        std::fs::rename(&new, &dir)?;
        taken.dir = dir;
        Ok(taken)
    }

    /// Takes the stream of this folder; `None` if another holds it, this process included, or if it is gone.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn try_take(dir: &Path) -> io::Result<Option<StreamLock>> {
        take(dir, true)
    }

    /// The folder of the stream.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for StreamLock {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // The parent's: a child that closes its copy of the file releases nothing.
            return;
        }
        let mut held = held();
        // Closed under the mutex: between the note's end and the file's nobody may take it and lose it again.
        self.file = None;
        held.retain(|noted| *noted != (self.generation, self.identity));
    }
}

/// Whether any process holds the stream.
pub(super) fn is_held(dir: &Path) -> io::Result<bool> {
    match std::fs::metadata(dir.join(LOCK)) {
        // Taken for an instant, since asking would not see this process's own threads. Another that tries in this
        // instant is told "held", and leaves the stream to whoever is asking here.
        Ok(_) => Ok(take(dir, false)?.is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn held() -> MutexGuard<'static, Vec<(u64, Identity)>> {
    HELD[fork::generation() as usize % HELD.len()].lock()
}

fn take(dir: &Path, create: bool) -> io::Result<Option<StreamLock>> {
    fork::watch();
    let generation = fork::generation();
    let path = dir.join(LOCK);
    // One thread at a time, so that no two open the file.
    let mut held = held();
    let noted = |identity| held.contains(&(generation, identity));
    if identity(&path)?.is_some_and(noted) {
        return Ok(None);
    }
    let opened = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(&path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if !files::try_lock(&file)? {
        return Ok(None);
    }
    let opened = files::identity(&file.metadata()?);
    // Finished and removed by its last owner between opening and locking.
    if identity(&path)? != Some(opened) {
        return Ok(None);
    }
    held.push((generation, opened));
    Ok(Some(StreamLock { dir: dir.to_owned(), identity: opened, generation, file: Some(file) }))
}

fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(files::identity(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
