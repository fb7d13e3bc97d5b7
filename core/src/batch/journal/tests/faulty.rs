//! A disk that can be full, break, fail to sync, and lose its power.
//!
//! What was done and not synced is kept as a list; a power loss leaves any subset of it, in sectors of 512 bytes. That
//! is more than real file systems do to a caller, which keep at least some order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::Disk;
use super::super::disk::{Block, SyncBlock};

const SECTOR: usize = 512;

/// Copies are the same disk.
#[derive(Clone, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What a reader sees.
    now: Content,
    /// What would be left if the power went.
    safe: Content,
    unsynced: Vec<(u64, Change)>,
    changes: u64,
    files: usize,
    fail_create: Option<i32>,
    fail_rename: Option<i32>,
    fail_sync: Option<i32>,
}

#[derive(Clone, Default)]
struct Content {
    names: BTreeMap<PathBuf, usize>,
    files: BTreeMap<usize, Vec<u8>>,
}

#[derive(Clone)]
enum Change {
    Name { path: PathBuf, file: usize },
    Rename { from: PathBuf, to: PathBuf, file: usize },
    Remove { path: PathBuf },
    Length { file: usize, length: usize },
    Write { file: usize, at: usize, bytes: Vec<u8> },
}

impl Change {
    fn file(&self) -> Option<usize> {
        match self {
            Change::Length { file, .. } | Change::Write { file, .. } => Some(*file),
            _ => None,
        }
    }
}

impl Content {
    fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::Name { path, file } => drop(self.names.insert(path, file)),
            Change::Rename { from, to, file } => {
                self.names.remove(&from);
                self.names.insert(to, file);
            }
            Change::Remove { path } => drop(self.names.remove(&path)),
            Change::Length { file, length } => self.files.entry(file).or_default().resize(length, 0),
            Change::Write { file, at, bytes } => {
                let content = self.files.entry(file).or_default();
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
    }
}

impl State {
    fn change(&mut self, change: Change) {
        self.now.apply(&change);
        self.changes += 1;
        self.unsynced.push((self.changes, change));
    }

    /// Makes durable what `chosen` says.
    fn settle(&mut self, chosen: impl Fn(u64, &Change) -> bool) {
        let (done, left) = self.unsynced.drain(..).partition(|(number, change)| chosen(*number, change));
        self.unsynced = left;
        for (_, change) in &done as &Vec<(u64, Change)> {
            self.safe.apply(change);
        }
    }
}

fn failure(code: Option<i32>) -> io::Result<()> {
    code.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
}

impl FaultyDisk {
    /// Every creation fails with this code of the system, until `None`.
    pub(super) fn fail_create(&self, code: Option<i32>) {
        self.0.lock().fail_create = code;
    }

    /// As above.
    pub(super) fn fail_rename(&self, code: Option<i32>) {
        self.0.lock().fail_rename = code;
    }

    /// As above. What was to be synced is not.
    pub(super) fn fail_sync(&self, code: Option<i32>) {
        self.0.lock().fail_sync = code;
    }

    /// How many changes the loss of power may undo.
    pub(super) fn unsynced(&self) -> usize {
        self.0.lock().unsynced.len()
    }

    /// The disk after a loss of power that undid the changes whose bit in `kept` is 0.
    pub(super) fn after_power_loss(&self, kept: u64) -> FaultyDisk {
        let state = self.0.lock();
        let mut content = state.safe.clone();
        for (place, (_, change)) in state.unsynced.iter().enumerate() {
            if kept >> place & 1 == 1 {
                content.apply(change);
            }
        }
        for file in content.names.values() {
            content.files.entry(*file).or_default();
        }
        FaultyDisk::of(content)
    }

    /// A disk with these files.
    pub(super) fn with(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> FaultyDisk {
        let mut content = Content::default();
        for (number, (path, bytes)) in files.into_iter().enumerate() {
            content.names.insert(path, number);
            content.files.insert(number, bytes);
        }
        FaultyDisk::of(content)
    }

    fn of(content: Content) -> FaultyDisk {
        let files = content.files.len();
        FaultyDisk(Arc::new(Mutex::new(State {
            safe: content.clone(),
            now: content,
            files,
            ..State::default()
        })))
    }

    /// The files as they are.
    pub(super) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let now = self.0.lock().now.clone();
        now.names.iter().map(|(path, file)| (path.clone(), now.files[file].clone())).collect()
    }

    /// Flips one bit of a file.
    pub(super) fn flip(&self, path: &Path, bit: usize) {
        let state = &mut *self.0.lock();
        let file = state.now.files.get_mut(&state.now.names[path]).unwrap();
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path, length: usize) -> io::Result<Box<dyn Block>> {
        let mut state = self.0.lock();
        failure(state.fail_create)?;
        state.files += 1;
        let file = state.files;
        state.change(Change::Name { path: path.to_owned(), file });
        state.change(Change::Length { file, length });
        let disk = self.clone();
        let bytes = vec![0; length];
        Ok(Box::new(FaultyBlock { disk, file, logged: Mutex::new(bytes.clone()), bytes }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.lock();
        let file = state.now.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.now.files[file].clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let names = state.now.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        failure(state.fail_rename)?;
        let file = *state.now.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.lock().change(Change::Remove { path: path.to_owned() });
        Ok(())
    }

    fn remove_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        failure(state.fail_sync)?;
        state.settle(|_, change| change.file().is_none());
        Ok(())
    }
}

/// Stores into it are seen when it is next asked for.
struct FaultyBlock {
    disk: FaultyDisk,
    file: usize,
    bytes: Vec<u8>,
    logged: Mutex<Vec<u8>>,
}

impl FaultyBlock {
    fn log(&self) {
        let mut logged = self.logged.lock();
        let sectors = logged.chunks_mut(SECTOR).zip(self.bytes.chunks(SECTOR));
        for (sector, (old, new)) in sectors.enumerate() {
            let differs = |(old, new): (&u8, &u8)| old != new;
            let Some(first) = old.iter().zip(new).position(differs) else { continue };
            let last = old.iter().zip(new).rposition(differs).unwrap();
            let (at, bytes) = (sector * SECTOR + first, new[first..=last].to_vec());
            self.disk.0.lock().change(Change::Write { file: self.file, at, bytes });
            old.copy_from_slice(new);
        }
    }
}

impl Block for FaultyBlock {
    fn view(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes(&mut self) -> &mut [u8] {
        self.log();
        &mut self.bytes
    }

    fn syncer(&self) -> SyncBlock {
        self.log();
        let (disk, file) = (self.disk.clone(), self.file);
        let until = disk.0.lock().changes;
        Arc::new(move || {
            let mut state = disk.0.lock();
            failure(state.fail_sync)?;
            state.settle(|number, change| number <= until && change.file() == Some(file));
            Ok(())
        })
    }
}
