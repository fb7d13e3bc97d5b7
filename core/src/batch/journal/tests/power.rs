//! Loss of power, full disks and failed syncs.

use super::super::header::RECORDS;
use super::faulty::FaultyDisk;
use super::*;

const NO_SPACE: i32 = 28;
const BROKEN: i32 = 5;
/// Room for four records of [`payload`] and a note of what is durable.
const FOUR: usize = RECORDS + 4 * framed(6) + framed(8) + framed(0);

fn dir() -> &'static Path {
    Path::new("/journal/stream")
}

fn on(disk: &FaultyDisk, class: Class) -> Journal {
    Journal::create(Arc::new(disk.clone()), dir(), header(class), limits(FOUR)).unwrap()
}

fn sync(journal: &mut Journal) -> u64 {
    let done = journal.syncer().run().unwrap();
    journal.synced(done);
    done.up_to
}

/// Tries every subset of what is not synced; nothing up to `acknowledged` may be missing. Says how many there were.
fn every_power_loss_keeps(disk: &FaultyDisk, journal: &Journal, acknowledged: u64) -> usize {
    // Lets the disk see the last store.
    drop(journal.syncer());
    let changes = disk.unsynced();
    assert!(changes <= 14, "{changes} changes are too many to try");
    for kept in 0..1_u64 << changes {
        let after = disk.after_power_loss(kept);
        let recovered = recover(Arc::new(after), dir()).unwrap();
        assert!(!matches!(recovered.end, End::Damaged { .. }), "{kept:b}: {:?}", recovered.end);
        let numbers = numbers(&recovered);
        let first: Vec<_> = numbers.iter().copied().filter(|it| *it <= acknowledged).collect();
        assert_eq!(first, up_to(acknowledged), "{kept:b} of {changes}: {:?}", recovered.end);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{kept:b}: {numbers:?}");
    }
    changes
}

#[test]
fn no_loss_of_power_takes_an_acknowledged_record() {
    let disk = FaultyDisk::default();
    let mut journal = on(&disk, Class::JournalFsync);
    let mut acknowledged = 0;
    let mut most = 0;
    // How many records go between two syncs: within a segment, across one border, across two.
    for step in [1, 2, 3, 1, 4, 5, 2, 6, 1, 1, 3] {
        for _ in 0..step {
            let next = journal.last() + 1;
            append_up_to(&mut journal, next);
            if disk.unsynced() <= 12 {
                most = most.max(every_power_loss_keeps(&disk, &journal, acknowledged));
            }
        }
        acknowledged = sync(&mut journal);
        most = most.max(every_power_loss_keeps(&disk, &journal, acknowledged));
    }
    assert!((11..=14).contains(&most), "{most} changes were tried at most");
}

#[test]
fn damage_below_a_durable_mark_is_told_from_a_torn_tail() {
    let disk = FaultyDisk::default();
    let mut journal = on(&disk, Class::JournalFsync);
    append_up_to(&mut journal, 2);
    sync(&mut journal);
    append_up_to(&mut journal, 3);
    drop(journal.syncer());
    let segment = dir().join("00000000.seg");
    let record = |number: usize| (RECORDS + (number - 1) * framed(6) + framed(0)) * 8;
    disk.flip(&segment, record(2));
    let end = recover(Arc::new(disk.clone()), dir()).unwrap().end;
    assert_eq!(end, End::Damaged { first: 2, last: Some(2) });
    disk.flip(&segment, record(2));
    disk.flip(&segment, record(3) + framed(8) * 8);
    let end = recover(Arc::new(disk.clone()), dir()).unwrap().end;
    assert_eq!(end, End::Torn { after: 2 });
}

#[test]
fn appends_go_on_while_a_sync_is_under_way() {
    let disk = FaultyDisk::default();
    let mut journal = on(&disk, Class::JournalFsync);
    append_up_to(&mut journal, 3);
    let syncer = journal.syncer();
    append_up_to(&mut journal, 6);
    let done = syncer.run().unwrap();
    assert_eq!(done.up_to, 3);
    journal.synced(done);
    assert_eq!(journal.durable(), 3);
    every_power_loss_keeps(&disk, &journal, 3);
    // What was rolled meanwhile is synced by the next.
    assert_eq!(sync(&mut journal), 6);
    every_power_loss_keeps(&disk, &journal, 6);
}

#[test]
fn after_a_failed_sync_records_go_to_a_new_segment_and_the_old_one_is_never_synced_again() {
    let disk = FaultyDisk::default();
    let mut journal = on(&disk, Class::JournalFsync);
    append_up_to(&mut journal, 2);
    sync(&mut journal);
    append_up_to(&mut journal, 3);
    disk.fail_sync(Some(BROKEN));
    assert!(journal.syncer().run().is_err());
    assert_eq!(journal.sync_failed(), 3);
    disk.fail_sync(None);
    assert_eq!(journal.durable(), 2);
    append_up_to(&mut journal, 5);
    assert_eq!(journal.read_from(0).map(|it| it.segment).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
    assert_eq!(sync(&mut journal), 5);
    drop(journal.syncer());
    // The third may be missing, and was never acknowledged; the fourth and fifth may not.
    let changes = disk.unsynced();
    let mut seen = std::collections::BTreeSet::new();
    for kept in 0..1_u64 << changes {
        let recovered = recover(Arc::new(disk.after_power_loss(kept)), dir()).unwrap();
        assert!(!matches!(recovered.end, End::Damaged { .. }), "{kept:b}: {:?}", recovered.end);
        seen.insert(numbers(&recovered));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [vec![1, 2, 3, 4, 5], vec![1, 2, 4, 5]]);
}

#[test]
fn a_disk_that_gives_no_segment_refuses_the_record_and_nothing_else() {
    for class in [Class::Journal, Class::JournalFsync] {
        let disk = FaultyDisk::default();
        let mut journal = on(&disk, class);
        append_up_to(&mut journal, 4);
        for code in [NO_SPACE, BROKEN] {
            disk.fail_create(Some(code));
            for _ in 0..2 {
                let refused = journal.room(3 * framed(6));
                let Err(Refused::Io(error)) = refused else { panic!("{refused:?}") };
                assert_eq!(error.raw_os_error(), Some(code));
            }
            disk.fail_create(None);
            disk.fail_rename(Some(code));
            assert!(matches!(journal.room(3 * framed(6)), Err(Refused::Io(_))));
            disk.fail_rename(None);
            drop(journal.syncer());
            let recovered = recover(Arc::new(disk.clone()), dir()).unwrap();
            assert_eq!((recovered.last, recovered.end), (4, End::Clean));
        }
        // What fits still goes in, and what does not has its segment once the disk gives one.
        journal.room(framed(0)).unwrap();
        append_up_to(&mut journal, 9);
        sync(&mut journal);
        let recovered = recover(Arc::new(disk.clone()), dir()).unwrap();
        assert_eq!((numbers(&recovered), recovered.end), (up_to(9), End::Clean));
    }
}

#[test]
fn segments_are_removed_in_order_on_the_disk_too() {
    let disk = FaultyDisk::default();
    let mut journal = on(&disk, Class::JournalFsync);
    append_up_to(&mut journal, 17);
    journal.retire(12).unwrap();
    assert_eq!(journal.read_from(0).count(), 17, "nothing that follows is on the disk yet");
    sync(&mut journal);
    journal.retire(12).unwrap();
    assert_eq!(journal.read_from(0).next().unwrap().sequence, 11);
    drop(journal.syncer());
    for kept in 0..1_u64 << disk.unsynced() {
        let recovered = recover(Arc::new(disk.after_power_loss(kept)), dir()).unwrap();
        assert_eq!((recovered.last, recovered.end), (17, End::Clean), "{kept:b}");
    }
}

#[test]
fn a_header_that_is_rewritten_as_the_power_goes_is_the_old_one_or_the_new() {
    let disk = FaultyDisk::default();
    let mut journal = on(&disk, Class::JournalFsync);
    append_up_to(&mut journal, 6);
    sync(&mut journal);
    journal.set_database([4; 16]).unwrap();
    journal.set_registered().unwrap();
    append_up_to(&mut journal, 7);
    every_power_loss_keeps(&disk, &journal, 6);
    for kept in 0..1_u64 << disk.unsynced() {
        let header = recover(Arc::new(disk.after_power_loss(kept)), dir()).unwrap().header.unwrap();
        assert!([[0; 16], [4; 16]].contains(&header.database), "{kept:b}");
    }
}
