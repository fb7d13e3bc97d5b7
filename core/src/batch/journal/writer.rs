//! The journal of this process, as its owner appends to it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::folder;
use super::frame::{self, Kind, MAX_PAYLOAD, OVERHEAD};
use super::header::{Class, RECORDS, SegmentHeader, StreamHeader};
use super::loaded::LoadedSegment;
use super::segment::Segment;
use super::sync::{Synced, Syncer, Waiting};
use crate::base::crash::crash;
use crate::sys::fork;

/// What the journal may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The length of a segment; one with a larger record is as long as that needs.
    pub(crate) segment_bytes: usize,
    /// All segments together. Twice the length of a segment at least, or nothing can be retired in time.
    pub(crate) max_bytes: u64,
}

/// Why there is no room. Nothing was written, and the journal can be used as before.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another segment would exceed `max_bytes`: retire something first.
    Full,
    /// The disk does not give another segment.
    Io(io::Error),
    /// The journal is the parent's; a forked child opens its own.
    Forked,
    /// The record has more bytes than any may have: half of `max_bytes`, or [`MAX_PAYLOAD`].
    TooLong { bytes: usize, most: u64 },
}

/// A stream that this process appends to. One thread at a time, under the lock of the accumulator.
pub(crate) struct Journal {
    live: Segment,
    /// Where the next record goes.
    at: usize,
    /// Where records must end: a rolled record fits behind. 0 once the segment is sealed, so that nothing fits.
    end: usize,
    /// The checksum of the last record.
    chain: u32,
    last: u64,
    generation: u64,
    /// Rolled segments, oldest first.
    rolled: VecDeque<Segment>,
    waiting: Waiting,
    /// The last number known to be on the disk.
    durable: u64,
    bytes: u64,
    limits: Limits,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Journal {
    /// Begins the stream in the folder `dir`, which its owner has locked (see [`StreamLock`](super::StreamLock)).
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        header: StreamHeader,
        limits: Limits,
    ) -> io::Result<Journal> {
        fork::watch();
        let chain = crc32fast::hash(&header.stream);
        let header = SegmentHeader { stream: header, index: 0, first: 1, durable: 0, doubt: false, chain };
        let length = limits.segment_bytes.max(RECORDS + 2 * OVERHEAD);
        let live = Segment::create(&*disk, dir, length, header)?;
        if header.stream.class == Class::JournalFsync {
            // A reader learns the class from the first header: it is there before any record is.
            live.block.syncer()()?;
            disk.sync_dir(dir)?;
            disk.sync_dir(dir.parent().unwrap_or(dir))?;
        }
        Ok(Journal {
            live,
            at: RECORDS,
            end: length - OVERHEAD,
            chain,
            last: 0,
            generation: fork::generation(),
            rolled: VecDeque::new(),
            waiting: Waiting::default(),
            durable: 0,
            bytes: length as u64,
            limits,
            disk,
            dir: dir.to_owned(),
        })
    }

    /// Makes sure that records of `bytes` bytes, the sum of [`framed`](super::framed) over them, fit into one segment,
    /// and gives the index of that segment. Asked before anything is promised: what is appended then cannot fail.
    ///
    /// # Errors
    /// See [`Refused`].
    #[inline]
    pub(crate) fn room(&mut self, bytes: usize) -> Result<u32, Refused> {
        if fork::generation() != self.generation {
            return Err(Refused::Forked);
        }
        if bytes > self.end.saturating_sub(self.at) {
            self.roll(bytes)?;
        }
        Ok(self.live.header.index)
    }

    /// Appends one record and gives its number, from 1 on. The caller has asked for [`Journal::room`].
    #[inline]
    pub(crate) fn append(&mut self, payload: &[u8]) -> u64 {
        self.last += 1;
        self.put(Kind::Data, payload);
        self.last
    }

    /// The number of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The number of the first record that its segments hold.
    pub(crate) fn first(&self) -> u64 {
        self.rolled.front().unwrap_or(&self.live).header.first
    }

    /// The bytes that its segments take on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The memory that its segments take: in class memory all of them, else none.
    pub(crate) fn memory(&self) -> usize {
        if self.class() == Class::Memory { self.bytes as usize } else { 0 }
    }

    /// A copy of the segment that holds the first record above `after`; `None` if there is no such record.
    pub(crate) fn load(&self, after: u64) -> Option<LoadedSegment> {
        match self.rolled.iter().find(|segment| segment.last > after) {
            Some(segment) => Some(segment.load(segment.last, segment.length)),
            None => (self.last > after).then(|| self.live.load(self.last, self.at)),
        }
    }

    /// Removes the segments that hold nothing above `up_to`; never the live one. A stream that is synced keeps one until
    /// its successor is on the disk, so that a loss of power always leaves a header to read.
    ///
    /// # Errors
    /// What the disk says; the next call tries again.
    pub(crate) fn retire(&mut self, up_to: u64) -> io::Result<()> {
        self.check_owner()?;
        while let Some(segment) = self.rolled.front().filter(|segment| self.is_retired(segment, up_to)) {
            self.disk.remove_file(&self.dir.join(folder::segment_name(segment.header.index)))?;
            self.bytes -= segment.length as u64;
            self.rolled.pop_front();
            crash!("journal.mid_retire");
            if self.class() == Class::JournalFsync {
                // In this order on the disk too: a segment that is missing between two others is damage.
                self.disk.sync_dir(&self.dir)?;
            }
        }
        Ok(())
    }

    fn is_retired(&self, segment: &Segment, up_to: u64) -> bool {
        // A record of the successor that is on the disk has its header and its name with it.
        let replaced = self.class() != Class::JournalFsync || self.durable > segment.last;
        segment.last <= up_to && replaced
    }

    /// Notes the database's identity, in every segment.
    ///
    /// # Errors
    /// Only in a forked child.
    pub(crate) fn set_database(&mut self, database: [u8; 16]) -> io::Result<()> {
        self.rewrite(StreamHeader { database, ..self.live.header.stream })
    }

    /// Notes that the database has a watermark for this stream, in every segment.
    ///
    /// # Errors
    /// Only in a forked child.
    pub(crate) fn set_registered(&mut self) -> io::Result<()> {
        self.rewrite(StreamHeader { registered: true, ..self.live.header.stream })
    }

    /// A handle that brings all that was appended so far to the disk, while appends go on.
    pub(crate) fn syncer(&self) -> Syncer {
        let (mut blocks, names, ticket) = self.waiting.all();
        blocks.push(self.live.block.syncer());
        let dir = names.then(|| self.dir.clone());
        Syncer { disk: self.disk.clone(), dir, blocks, done: Synced { up_to: self.last, ticket } }
    }

    /// Notes what a [`Syncer`] has done; the note tells a reader that damage up to there is damage, not a torn tail.
    pub(crate) fn synced(&mut self, done: Synced) {
        self.waiting.settle(done.ticket);
        if done.up_to <= self.durable {
            return;
        }
        self.durable = done.up_to;
        let payload = done.up_to.to_le_bytes();
        // Where it does not fit, the header of the next segment says the same.
        if frame::framed(payload.len()) <= self.end.saturating_sub(self.at) {
            self.put(Kind::Durable, &payload);
        }
    }

    /// Notes that a [`Syncer`] failed: the segments with what it was to sync are never synced again, and the next record
    /// goes into a new one. Gives the last number that can no longer be promised to survive a loss of power; those above
    /// [`Journal::durable`] and up to it are still in the journal and will be flushed.
    pub(crate) fn sync_failed(&mut self) -> u64 {
        self.waiting.give_up();
        self.end = 0;
        self.last
    }

    /// The last number that is known to be on the disk.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Ends the stream, all of which was applied: nobody will replay it. See [`folder::finish`].
    ///
    /// # Errors
    /// What the disk says; then the folder is adopted later, and nothing in it is above its watermark.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.check_owner()?;
        folder::finish(&*self.disk, &self.dir)
    }

    fn class(&self) -> Class {
        self.live.header.stream.class
    }

    fn check_owner(&self) -> io::Result<()> {
        if fork::generation() == self.generation {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "this journal is the parent process's"))
    }

    #[inline]
    fn put(&mut self, kind: Kind, payload: &[u8]) {
        let room = self.live.block.bytes().get_mut(self.at..self.end);
        // Without room the caller broke the contract, and the index below says so.
        self.chain = frame::put(room.unwrap_or_default(), self.chain, kind, self.last, payload);
        self.at += frame::framed(payload.len());
    }

    /// Goes on in a new segment. The new one is there before the old one says that it is rolled: a reader that finds
    /// only the first half of this sees from the checksums that nothing is missing.
    #[cold]
    fn roll(&mut self, bytes: usize) -> Result<(), Refused> {
        crash!("journal.before_roll");
        // The live segment, whatever is in it, and the next one fit together.
        let half = (self.limits.max_bytes / 2).saturating_sub((RECORDS + OVERHEAD) as u64);
        let most = half.min(frame::framed(MAX_PAYLOAD) as u64);
        if bytes as u64 > most {
            return Err(Refused::TooLong { bytes, most });
        }
        let length = self.limits.segment_bytes.max(RECORDS + bytes + OVERHEAD);
        if self.bytes + length as u64 > self.limits.max_bytes {
            return Err(Refused::Full);
        }
        let sealed = self.end == 0;
        let chain = frame::rolled(self.chain, self.last);
        let header = SegmentHeader {
            index: self.live.header.index + 1,
            first: self.last + 1,
            durable: self.durable,
            doubt: sealed,
            chain,
            ..self.live.header
        };
        let next = Segment::create(&*self.disk, &self.dir, length, header).map_err(Refused::Io)?;
        self.end = self.live.length;
        self.put(Kind::Rolled, &[]);
        if !sealed {
            self.waiting.add(self.live.block.syncer());
        }
        self.waiting.named();
        self.live.last = self.last;
        self.rolled.push_back(std::mem::replace(&mut self.live, next));
        (self.at, self.end) = (RECORDS, length - OVERHEAD);
        self.bytes += length as u64;
        Ok(())
    }

    fn rewrite(&mut self, stream: StreamHeader) -> io::Result<()> {
        self.check_owner()?;
        for segment in self.rolled.iter_mut().chain([&mut self.live]) {
            segment.rewrite(stream);
        }
        Ok(())
    }
}
