//! Who holds a stream, within a process and between a process and its children.

use std::path::PathBuf;
use std::sync::Barrier;

use super::*;
use crate::sys::fork::in_forked_child;

const STREAM: [u8; 16] = [0xAB; 16];

fn listed(journal_dir: &Path) -> Vec<PathBuf> {
    orphans(&RealDisk, journal_dir).unwrap()
}

/// The folder of a stream whose owner is gone.
fn orphan(journal_dir: &Path) -> PathBuf {
    StreamLock::create(journal_dir, STREAM).unwrap().dir().to_owned()
}

#[test]
fn a_stream_is_an_orphan_once_its_owner_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let journal_dir = folder.path().join("journal");
    assert!(listed(&journal_dir).is_empty());
    let lock = StreamLock::create(&journal_dir, STREAM).unwrap();
    let dir = lock.dir().to_owned();
    assert_eq!(dir, journal_dir.join("ab".repeat(16)));
    assert!(listed(&journal_dir).is_empty());
    assert!(StreamLock::try_take(&dir).unwrap().is_none(), "by this process itself");
    drop(lock);
    assert_eq!(listed(&journal_dir), [&*dir]);
    let taken = StreamLock::try_take(&dir).unwrap().unwrap();
    assert!(listed(&journal_dir).is_empty());
    drop(taken);
    assert!(StreamLock::create(&journal_dir, STREAM).is_err(), "there is one of that name");
}

#[test]
fn looking_does_not_lose_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let lock = StreamLock::create(folder.path(), STREAM).unwrap();
    assert!(listed(folder.path()).is_empty());
    assert!(StreamLock::try_take(lock.dir()).unwrap().is_none());
    // Another process still finds it locked.
    assert!(in_forked_child(|| StreamLock::try_take(lock.dir()).unwrap().is_none()));
}

#[test]
fn of_many_adopters_at_once_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let dir = orphan(folder.path());
    let (begin, end) = (Barrier::new(8), Barrier::new(8));
    let adopt = || {
        begin.wait();
        let lock = StreamLock::try_take(&dir).unwrap();
        // Nobody lets go before all have tried.
        end.wait();
        lock.is_some()
    };
    let won = std::thread::scope(|scope| {
        let adopters: Vec<_> = (0..8).map(|_| scope.spawn(adopt)).collect();
        adopters.into_iter().map(|it| it.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
}

#[test]
fn a_finished_stream_is_never_listed_and_can_be_removed_twice() {
    let folder = tempfile::tempdir().unwrap();
    let lock = StreamLock::create(folder.path(), STREAM).unwrap();
    let dir = lock.dir().to_owned();
    let mut journal = journal(&dir, 4096);
    append_up_to(&mut journal, 3);
    journal.finish().unwrap();
    drop(lock);
    assert!(listed(folder.path()).is_empty());
    assert!(StreamLock::try_take(&dir).unwrap().is_none(), "it is gone");
    assert!(!dir.exists() && folder.path().join("ab".repeat(16) + ".done").exists());
    assert_eq!(done(&RealDisk, folder.path()).unwrap(), [STREAM]);
    remove_done(&RealDisk, folder.path(), STREAM).unwrap();
    remove_done(&RealDisk, folder.path(), STREAM).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn only_folders_of_streams_are_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["notes", "AB", "x.done", &("AB".repeat(16) + ".done"), &("cd".repeat(16) + ".new")] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    assert!(done(&RealDisk, folder.path()).unwrap().is_empty());
    assert!(listed(folder.path()).is_empty());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
}

#[test]
fn a_forked_child_does_not_have_its_parents_lock_and_cannot_let_it_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut lock = Some(StreamLock::create(folder.path(), STREAM).unwrap());
    let dir = lock.as_ref().unwrap().dir().to_owned();
    assert!(in_forked_child(|| {
        let taken = StreamLock::try_take(&dir).unwrap();
        drop(lock.take());
        taken.is_none()
    }));
    assert!(in_forked_child(|| StreamLock::try_take(&dir).unwrap().is_none()));
    drop(lock);
    assert!(in_forked_child(|| StreamLock::try_take(&dir).unwrap().is_some()));
    assert!(StreamLock::try_take(&dir).unwrap().is_some(), "the child's ended with it");
}

#[test]
fn a_forked_child_is_refused_and_leaves_its_parents_journal_alone() {
    let folder = tempfile::tempdir().unwrap();
    let lock = StreamLock::create(folder.path(), STREAM).unwrap();
    let mut journal = Some(journal(lock.dir(), 4096));
    append_up_to(journal.as_mut().unwrap(), 3);
    assert!(in_forked_child(|| {
        let mut journal = journal.take().unwrap();
        let refused = matches!(journal.room(10), Err(Refused::Forked));
        let kept = journal.retire(3).is_err() && journal.set_registered().is_err();
        refused && kept && journal.finish().is_err()
    }));
    let mut journal = journal.unwrap();
    append_up_to(&mut journal, 4);
    let recovered = read(lock.dir());
    assert_eq!((numbers(&recovered), recovered.end), (up_to(4), End::Clean));
}
