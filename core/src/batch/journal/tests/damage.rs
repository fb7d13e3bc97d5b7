//! What a reader makes of files that are not as they were written.

use std::path::PathBuf;

use proptest::prelude::*;

use super::super::header::{RECORDS, SegmentHeader};
use super::faulty::FaultyDisk;
use super::*;

fn dir() -> &'static Path {
    Path::new("/journal/stream")
}

fn segment(index: u32) -> PathBuf {
    dir().join(format!("{index:08}.seg"))
}

/// A stream of `last` records in segments of this length.
fn written(last: u64, segment_bytes: usize) -> FaultyDisk {
    let disk = FaultyDisk::default();
    let limits = Limits { segment_bytes, max_bytes: u64::MAX };
    let mut journal = Journal::create(Arc::new(disk.clone()), dir(), header(Class::Journal), limits).unwrap();
    append_up_to(&mut journal, last);
    drop(journal.syncer());
    disk
}

const fn length(records: usize) -> usize {
    RECORDS + records * framed(6) + framed(0)
}

fn recovered(files: &[(PathBuf, Vec<u8>)]) -> Recovered {
    recover(Arc::new(FaultyDisk::with(files.to_vec())), dir()).unwrap()
}

/// Where a record of a first segment begins.
fn place(number: usize) -> usize {
    RECORDS + (number - 1) * framed(6)
}

#[test]
fn a_last_record_that_is_torn_anywhere_is_cut_and_all_others_stay() {
    // Alone in its segment, in the middle of one, and as the last that fits.
    for last in [1, 7, 10, 11] {
        let mut files = written(last, length(10)).files();
        let at = place((last as usize - 1) % 10 + 1);
        for kept in 0..framed(6) {
            let bytes = &mut files.last_mut().unwrap().1;
            let record = bytes[at..at + framed(6)].to_vec();
            bytes[at + kept..at + framed(6)].fill(0);
            let recovered = recovered(&files);
            let expected = if kept == 0 { End::Clean } else { End::Torn { after: last - 1 } };
            assert_eq!(recovered.end, expected, "{kept} bytes of record {last}");
            assert_eq!(numbers(&recovered), up_to(last - 1));
            files.last_mut().unwrap().1[at..at + framed(6)].copy_from_slice(&record);
        }
        assert_eq!(recovered(&files).end, End::Clean);
    }
}

/// Flips every bit of every file: it is seen, or every record is read all the same (it was in the copy of a header, or
/// behind the end of a segment whose successor shows that nothing is missing).
fn every_flipped_bit_is_seen_or_harmless(last: u64, segment_bytes: usize) {
    let mut files = written(last, segment_bytes).files();
    for file in 0..files.len() {
        for bit in 0..files[file].1.len() * 8 {
            files[file].1[bit / 8] ^= 1 << (bit % 8);
            let recovered = recovered(&files);
            let name = || format!("bit {bit} of file {file}: {:?}", recovered.end);
            let numbers = numbers(&recovered);
            match recovered.end {
                End::Clean => assert_eq!(numbers, up_to(last), "{}", name()),
                End::Torn { after } => {
                    // The last record, or what looks like the beginning of one more.
                    assert!(after == last || after == last - 1, "{}", name());
                    assert_eq!(numbers, up_to(after), "{}", name());
                }
                End::Damaged { first, last: to } => {
                    // One record at most, and its exact number; behind the last one nobody knows.
                    assert!(to.is_none_or(|to| to == first), "{}", name());
                    assert!(to.is_some() || first >= last, "{}", name());
                    let expected = up_to(last).into_iter().filter(|it| *it != first).collect::<Vec<_>>();
                    assert_eq!(numbers, expected, "{}", name());
                }
            }
            files[file].1[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_log_is_seen_or_harmless() {
    every_flipped_bit_is_seen_or_harmless(15, length(10) + 7);
    if std::env::var_os("ZMSG_SOAK").is_some() {
        every_flipped_bit_is_seen_or_harmless(3000, 1 << 15);
    }
}

#[test]
fn sectors_of_zeros_in_the_middle_are_damage_with_exact_numbers() {
    let mut files = written(100, length(200)).files();
    let bytes = &mut files[0].1;
    bytes[place(20) + 5..place(50) + 5].fill(0);
    let recovered = recovered(&files);
    // Record 50 has no beginning, so nothing says what record 51 continues; record 52 continues record 51.
    assert_eq!(recovered.end, End::Damaged { first: 20, last: Some(51) });
    assert_eq!(recovered.last, 100);
    let expected: Vec<_> = (1..20).chain(52..=100).collect();
    assert_eq!(numbers(&recovered), expected);
}

#[test]
fn damage_that_reaches_the_end_has_no_last_number() {
    let mut files = written(20, length(30)).files();
    files[0].1[place(10)..place(20) + 9].fill(0xAA);
    assert_eq!(recovered(&files).end, End::Damaged { first: 10, last: None });
}

#[test]
fn something_behind_the_end_is_damage() {
    let mut files = written(20, length(30)).files();
    files[0].1[place(25)] = 1;
    assert_eq!(recovered(&files).end, End::Damaged { first: 21, last: None });
    assert_eq!(numbers(&recovered(&files)), up_to(20));
}

#[test]
fn a_missing_segment_is_damage_unless_it_is_the_first_which_may_be_retired() {
    let files = written(40, length(10)).files();
    let without = |index: usize| {
        let mut files = files.clone();
        files.remove(index);
        recovered(&files)
    };
    assert_eq!((without(0).first, without(0).end), (11, End::Clean));
    assert_eq!(without(1).end, End::Damaged { first: 11, last: Some(20) });
    assert_eq!(numbers(&without(1)), (1..=10).chain(21..=40).collect::<Vec<_>>());
    assert_eq!(without(3).end, End::Damaged { first: 31, last: None });
}

#[test]
fn a_segment_without_a_sound_header_is_damage_unless_it_is_last_and_empty() {
    let files = written(30, length(10)).files();
    let spoilt = |index: usize| {
        let mut files = files.clone();
        files[index].1[..RECORDS].fill(0);
        files
    };
    assert_eq!(recovered(&spoilt(0)).end, End::Damaged { first: 1, last: Some(10) });
    assert_eq!(recovered(&spoilt(1)).end, End::Damaged { first: 11, last: Some(20) });
    assert_eq!(recovered(&spoilt(2)).end, End::Damaged { first: 21, last: None });
    let mut empty = spoilt(2);
    empty[2].1.fill(0);
    assert_eq!(recovered(&empty).end, End::Torn { after: 20 });
    empty[2].1.clear();
    assert_eq!(recovered(&empty).end, End::Torn { after: 20 });
}

#[test]
fn a_header_with_a_number_that_no_watermark_has_is_damage() {
    for first in [0, i64::MAX as u64 + 1, u64::MAX] {
        let mut files = written(5, length(10)).files();
        let header = SegmentHeader::read(&files[0].1).unwrap();
        SegmentHeader { first, ..header }.write(&mut files[0].1);
        assert_eq!(recovered(&files).end, End::Damaged { first: 1, last: None }, "{first}");
    }
}

#[test]
fn a_segment_of_another_stream_or_another_place_in_the_row_is_damage() {
    let files = written(30, length(10)).files();
    let disk = FaultyDisk::default();
    let other = StreamHeader { stream: [9; 16], ..header(Class::Journal) };
    let mut journal = Journal::create(Arc::new(disk.clone()), dir(), other, limits(length(10))).unwrap();
    append_up_to(&mut journal, 30);
    drop(journal.syncer());
    let mut mixed = files.clone();
    mixed[1].1 = disk.files()[1].1.clone();
    assert_eq!(recovered(&mixed).end, End::Damaged { first: 11, last: Some(20) });
    assert_eq!(recovered(&mixed).header, Some(header(Class::Journal)));
    let mut swapped = files.clone();
    swapped[1].1 = files[2].1.clone();
    assert_eq!(recovered(&swapped).end, End::Damaged { first: 11, last: Some(20) });
}

#[test]
fn a_roll_that_was_cut_in_the_middle_loses_nothing() {
    // The next segment is there; the old one does not say so yet, or only half.
    let files = written(11, length(10)).files();
    for kept in 0..=framed(0) {
        let mut files = files.clone();
        files[1].1[RECORDS..].fill(0);
        let end = place(11);
        files[0].1[end + kept..].fill(0);
        let recovered = recovered(&files);
        assert_eq!((numbers(&recovered), recovered.end), (up_to(10), End::Clean), "{kept} bytes");
    }
}

#[test]
fn reading_changes_no_file() {
    let mut files = written(20, length(10)).files();
    files[0].1[place(3)] ^= 1;
    let disk = FaultyDisk::with(files.clone());
    recover(Arc::new(disk.clone()), dir()).unwrap();
    assert_eq!(disk.files(), files);
}

proptest! {
    #[test]
    fn any_files_can_be_read(
        texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..4)
    ) {
        let files: Vec<_> = (0..).zip(texts).map(|(index, text)| (segment(index), text)).collect();
        let recovered = recovered(&files);
        prop_assert_eq!(recovered.read_from(0).count(), 0);
        prop_assert!(files.is_empty() || recovered.end != End::Clean);
    }

    #[test]
    fn any_bytes_in_place_of_records_can_be_read(
        class in prop_oneof![Just(1_u8), Just(2)],
        patches in proptest::collection::vec((0..3_usize, RECORDS..length(10), any::<u32>()), 1..8)
    ) {
        let disk = FaultyDisk::default();
        let class = if class == 1 { Class::Journal } else { Class::JournalFsync };
        let mut journal = Journal::create(Arc::new(disk.clone()), dir(), header(class), limits(length(10))).unwrap();
        append_up_to(&mut journal, 30);
        drop(journal.syncer());
        let mut files = disk.files();
        for (file, at, word) in patches {
            let end = files[file].1.len().min(at + 4);
            files[file].1[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
        }
        // Whatever is left is what was written, in order.
        let numbers = numbers(&recovered(&files));
        prop_assert!(numbers.is_sorted_by(|a, b| a < b));
    }
}
