//! The journal as its owner and its adopter see it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::*;

mod damage;
mod faulty;
mod locks;
mod measure;
mod power;
mod processes;
mod writing;

/// The header of a test's stream.
fn header(class: Class) -> StreamHeader {
    StreamHeader { class, stream: [7; 16], database: [0; 16], place: [8; 32], registered: false }
}

fn limits(segment_bytes: usize) -> Limits {
    Limits { segment_bytes, max_bytes: 1 << 20 }
}

fn journal(dir: &Path, segment_bytes: usize) -> Journal {
    Journal::create(Arc::new(RealDisk), dir, header(Class::Journal), limits(segment_bytes)).unwrap()
}

/// Appends one record.
fn append(journal: &mut Journal, payload: &[u8]) -> u64 {
    journal.room(framed(payload.len())).unwrap();
    journal.append(payload)
}

/// A payload that says its number.
fn payload(sequence: u64) -> Vec<u8> {
    format!("op{sequence:04}").into_bytes()
}

fn append_up_to(journal: &mut Journal, last: u64) {
    for sequence in journal.last() + 1..=last {
        assert_eq!(append(journal, &payload(sequence)), sequence);
    }
}

fn read(dir: &Path) -> Recovered {
    recover(Arc::new(RealDisk), dir).unwrap()
}

/// The numbers of all sound records, each of which has the payload of its number.
fn numbers(recovered: &Recovered) -> Vec<u64> {
    let records = recovered.read_from(0);
    records
        .map(|record| {
            assert_eq!(record.payload, payload(record.sequence));
            record.sequence
        })
        .collect()
}

/// A record as tests compare it.
struct Told {
    segment: u32,
    sequence: u64,
    payload: Bytes,
}

/// Both sides of a journal give what lies above a number, and before it what lies in the same segment.
trait ReadFrom {
    fn part(&self, after: u64) -> Option<LoadedSegment>;

    fn read_from(&self, lo: u64) -> impl Iterator<Item = Told> {
        let first = self.part(lo);
        let parts = std::iter::successors(first, |part| self.part(part.last));
        let mut told = Vec::new();
        for part in parts {
            let segment = part.index;
            told.extend(part.map(|(sequence, payload)| Told { segment, sequence, payload }));
        }
        told.into_iter()
    }
}

impl ReadFrom for Journal {
    fn part(&self, after: u64) -> Option<LoadedSegment> {
        self.load(after)
    }
}

impl ReadFrom for Recovered {
    fn part(&self, after: u64) -> Option<LoadedSegment> {
        self.load(after).unwrap()
    }
}

fn up_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}
