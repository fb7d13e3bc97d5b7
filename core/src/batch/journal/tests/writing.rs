//! Appending, rolling, retiring, and reading it back.

use super::super::header::RECORDS;
use super::*;

/// Room for ten records of [`payload`].
const TEN: usize = RECORDS + 10 * framed(6) + framed(0);

#[test]
fn what_is_appended_is_read_by_its_owner_and_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = journal(folder.path(), TEN);
    append_up_to(&mut journal, 25);
    let own: Vec<_> = journal.read_from(0).map(|it| (it.segment, it.sequence, it.payload.to_vec())).collect();
    let expected: Vec<_> = (1..=25).map(|it| ((it as u32 - 1) / 10, it, payload(it))).collect();
    assert_eq!(own, expected);
    let recovered = read(folder.path());
    assert_eq!((recovered.first, recovered.last, recovered.end), (1, 25, End::Clean));
    assert_eq!(recovered.header, Some(header(Class::Journal)));
    let theirs: Vec<_> = recovered.read_from(0).collect();
    let theirs: Vec<_> = theirs.iter().map(|it| (it.segment, it.sequence, it.payload.to_vec())).collect();
    assert_eq!(theirs, expected);
}

#[test]
fn reading_begins_where_the_segment_of_the_first_wanted_record_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = journal(folder.path(), TEN);
    append_up_to(&mut journal, 25);
    let recovered = read(folder.path());
    for (lo, begin) in [(0, 1), (5, 1), (9, 1), (10, 11), (19, 11), (20, 21), (24, 21)] {
        let own: Vec<_> = journal.read_from(lo).map(|it| it.sequence).collect();
        let theirs: Vec<_> = recovered.read_from(lo).map(|it| it.sequence).collect();
        assert_eq!(own, (begin..=25).collect::<Vec<_>>(), "above {lo}");
        assert_eq!(own, theirs);
    }
    assert_eq!((journal.read_from(25).count(), recovered.read_from(25).count()), (0, 0));
}

#[test]
fn retiring_removes_what_lies_wholly_below_and_never_the_live_segment() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = journal(folder.path(), TEN);
    append_up_to(&mut journal, 30);
    assert_eq!(journal.bytes(), 3 * TEN as u64);
    journal.retire(19).unwrap();
    assert_eq!(journal.read_from(0).next().unwrap().sequence, 11);
    assert_eq!(journal.bytes(), 2 * TEN as u64);
    let recovered = read(folder.path());
    assert_eq!((recovered.first, recovered.last, recovered.end), (11, 30, End::Clean));
    journal.retire(30).unwrap();
    append_up_to(&mut journal, 31);
    let recovered = read(folder.path());
    assert_eq!((recovered.first, recovered.last, recovered.end), (21, 31, End::Clean));
}

#[test]
fn at_its_bound_it_refuses_and_goes_on_once_something_is_retired() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { segment_bytes: TEN, max_bytes: 2 * TEN as u64 };
    let mut journal =
        Journal::create(Arc::new(RealDisk), folder.path(), header(Class::Journal), limits).unwrap();
    append_up_to(&mut journal, 20);
    assert!(matches!(journal.room(framed(6)), Err(Refused::Full)));
    journal.retire(10).unwrap();
    append_up_to(&mut journal, 21);
    assert_eq!(numbers(&read(folder.path())), (11..=21).collect::<Vec<_>>());
}

#[test]
fn a_large_record_has_a_segment_of_its_own_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = journal(folder.path(), TEN);
    append(&mut journal, b"small");
    append(&mut journal, &[9; 5000]);
    append(&mut journal, b"small");
    append(&mut journal, b"");
    let recovered = read(folder.path());
    let lengths: Vec<_> = recovered.read_from(0).map(|it| it.payload.len()).collect();
    assert_eq!((lengths, recovered.end), (vec![5, 5000, 5, 0], End::Clean));
    assert!(matches!(journal.room(usize::MAX), Err(Refused::TooLong { .. })));
}

#[test]
fn every_segment_learns_of_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = journal(folder.path(), TEN);
    append_up_to(&mut journal, 15);
    journal.set_database([4; 16]).unwrap();
    journal.set_registered().unwrap();
    append_up_to(&mut journal, 25);
    for kept in ["00000000.seg", "00000001.seg", "00000002.seg"] {
        let other = tempfile::tempdir().unwrap();
        std::fs::copy(folder.path().join(kept), other.path().join(kept)).unwrap();
        let header = read(other.path()).header.unwrap();
        assert_eq!((header.database, header.registered), ([4; 16], true), "{kept}");
    }
}

#[test]
fn the_class_memory_is_the_same_journal_without_files() {
    let limits = Limits { segment_bytes: TEN, max_bytes: 3 * TEN as u64 };
    let nowhere = Path::new("/nowhere");
    let mut journal = Journal::create(Arc::new(MemoryDisk), nowhere, header(Class::Memory), limits).unwrap();
    for round in 1..=20 {
        append_up_to(&mut journal, 10 * round);
        journal.retire(10 * round).unwrap();
    }
    assert_eq!(
        journal.read_from(191).map(|it| it.sequence).collect::<Vec<_>>(),
        (191..=200).collect::<Vec<_>>()
    );
    assert!(!nowhere.exists());
    journal.finish().unwrap();
}

#[test]
fn a_folder_without_segments_is_an_empty_stream() {
    let folder = tempfile::tempdir().unwrap();
    let recovered = read(folder.path());
    assert_eq!((recovered.header, recovered.first, recovered.last), (None, 1, 0));
    assert_eq!(recovered.end, End::Clean);
}
