//! Puts the segments of a stream in a row and judges what is wrong between and within them.

use super::header::{Class, SegmentHeader};
use super::scan::{Ending, Run, Scan};

/// One file of a stream, read.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) index: u32,
    /// Its header and its records; `None` if the header is damaged or another's.
    pub(super) scan: Option<(SegmentHeader, Scan)>,
    /// Whether it has nothing behind a header that is damaged.
    pub(super) blank: bool,
}

/// Sound records of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) index: u32,
    pub(super) run: Run,
}

/// How a stream ends. Numbers are sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its last record.
    Clean,
    /// A record was being written, or was not yet on the disk; it was not acknowledged, and all up to `after` is there.
    Torn { after: u64 },
    /// `first` to `last` cannot be read, or where `last` is `None` everything from `first` on. If more than one range is
    /// damaged this spans them all. Keep the files.
    Damaged { first: u64, last: Option<u64> },
}

/// Records that are missing.
#[derive(Debug, Clone, Copy)]
struct Gap {
    first: u64,
    last: Option<u64>,
}

#[derive(Debug)]
enum Piece {
    Sound(Stretch),
    Missing(Gap),
    /// What a header says: all up to `durable` was on the disk; and if `below` is set, that what is above and below
    /// that may be missing.
    Told {
        durable: u64,
        below: Option<u64>,
    },
}

/// The sound records of a stream in order, and how it ends.
pub(super) fn judge(parts: &[Part], class: Class) -> (Vec<Stretch>, End) {
    let (pieces, torn) = lay_out(parts);
    let mut stretches = Vec::new();
    let mut damage: Option<Gap> = None;
    // Behind a gap that is excused, up to here.
    let mut skip_below = 0;
    for (place, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Told { .. } => {}
            Piece::Sound(stretch) if stretch.run.first < skip_below => {}
            Piece::Sound(stretch) => stretches.push(*stretch),
            Piece::Missing(gap) => {
                let behind = &pieces[place + 1..];
                if let Some(below) = excused(behind, *gap) {
                    skip_below = below;
                } else if class == Class::JournalFsync && durable(behind) < gap.first {
                    // Not on the disk when the power went; nor did anyone say so of what is behind it.
                    return (stretches, end(damage, Some(gap.first - 1)));
                } else {
                    let first = damage.map_or(gap.first, |damage| damage.first);
                    damage = Some(Gap { first, last: gap.last });
                }
            }
        }
    }
    (stretches, end(damage, torn))
}

fn end(damage: Option<Gap>, torn: Option<u64>) -> End {
    match (damage, torn) {
        (Some(Gap { first, last }), _) => End::Damaged { first, last },
        (None, Some(after)) => End::Torn { after },
        (None, None) => End::Clean,
    }
}

/// The highest number that anything in `pieces` says to be on the disk.
fn durable(pieces: &[Piece]) -> u64 {
    let told = pieces.iter().map(|piece| match piece {
        Piece::Sound(stretch) => stretch.run.durable,
        Piece::Told { durable, .. } => *durable,
        Piece::Missing(_) => 0,
    });
    told.max().unwrap_or(0)
}

/// The end of the range of records that could not be synced in which the gap lies, if it does.
fn excused(behind: &[Piece], gap: Gap) -> Option<u64> {
    behind.iter().find_map(|piece| match piece {
        Piece::Told { durable, below: Some(below) } => {
            let within = *durable < gap.first && gap.last.is_some_and(|last| last < *below);
            within.then_some(*below)
        }
        _ => None,
    })
}

/// What the stream is known to be behind a segment.
struct Before {
    next: u64,
    chain: u32,
    rolled: bool,
    ending: Ending,
}

fn lay_out(parts: &[Part]) -> (Vec<Piece>, Option<u64>) {
    let mut pieces = Vec::new();
    let mut before: Option<Before> = None;
    for part in parts {
        let Some((header, scan)) = &part.scan else { continue };
        let expected = match &before {
            Some(before) => (before.next, before.chain),
            // Segments before the first one that is there were retired, if it is the first one that is there.
            None if part.index == parts[0].index => (header.first, header.chain),
            None => (1, !header.chain),
        };
        if expected != (header.first, header.chain) {
            let last = header.first.saturating_sub(1).max(expected.0);
            pieces.push(Piece::Missing(Gap { first: expected.0, last: Some(last) }));
        }
        pieces.push(Piece::Told { durable: header.durable, below: header.doubt.then_some(header.first) });
        lay_out_runs(part.index, &scan.runs, &mut pieces);
        let rolled = scan.ending == Ending::Rolled;
        before = Some(Before { next: scan.next, chain: scan.chain, rolled, ending: scan.ending });
    }
    let torn = close(parts, before, &mut pieces);
    (pieces, torn)
}

fn lay_out_runs(index: u32, runs: &[Run], pieces: &mut Vec<Piece>) {
    let mut next = runs.first().map_or(0, |run| run.first);
    for run in runs {
        // Where the ranges meet, what is damaged was no record of data, and the checksums show that none is missing.
        if run.first > next {
            pieces.push(Piece::Missing(Gap { first: next, last: Some(run.first - 1) }));
        }
        pieces.push(Piece::Sound(Stretch { index, run: *run }));
        next = run.last + 1;
    }
}

/// Judges the end of the last segment: gives the last number if it is torn.
fn close(parts: &[Part], before: Option<Before>, pieces: &mut Vec<Piece>) -> Option<u64> {
    let next = before.as_ref().map_or(1, |before| before.next);
    let unread = parts.iter().rev().take_while(|part| part.scan.is_none());
    let (mut count, mut blank) = (0, true);
    for part in unread {
        count += 1;
        blank &= part.blank;
    }
    let is_torn = match before {
        // A segment that was being made when the power went has no header and no records.
        _ if count == 1 && blank => true,
        _ if count > 0 => return lost(next, pieces),
        Some(Before { rolled: true, .. } | Before { ending: Ending::Dirty, .. }) => {
            return lost(next, pieces);
        }
        Some(Before { ending, .. }) => ending == Ending::Torn,
        None => false,
    };
    is_torn.then_some(next - 1)
}

fn lost(first: u64, pieces: &mut Vec<Piece>) -> Option<u64> {
    pieces.push(Piece::Missing(Gap { first, last: None }));
    None
}
