//! What the scripts of the queue are given, and what they answer.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// What lies before the lane in a body.
const HEAD: usize = 35;

/// What makes a queue the same one: of another epoch, or with a lower sequence, it has lost something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub epoch: Bytes,
    pub sequence: u64,
    /// The sequence is lower than one that was known before it was asked for.
    pub lost: bool,
}

/// An operation that is to be accepted.
pub(super) struct New<'a> {
    pub op_id: &'a str,
    /// Its key, empty for none.
    pub lane: &'a str,
    pub payload: &'a [u8],
    pub delay: Duration,
    pub coalesce: bool,
}

/// An operation that was accepted.
pub(super) struct Enqueued {
    /// It was not there already.
    pub new: bool,
    pub standing: Standing,
    pub replaced: Option<String>,
}

/// An operation that this process has leased.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub op_id: String,
    /// The number of its lease.
    pub attempt: u64,
    /// Leases that ended without a word after its worker had begun it.
    pub crashes: u32,
    /// Tries that failed.
    pub errors: u32,
    /// When it was due first, in milliseconds of Redis' time.
    pub due_ms: u64,
    pub sequence: u64,
    pub lane: Bytes,
    pub payload: Bytes,
}

/// What a look for work gave.
pub(super) struct Claims {
    pub standing: Standing,
    /// Until something is due or a lease ends.
    pub wait: Option<Duration>,
    /// Operations that are due and whose worker did not come back.
    pub suspects: u64,
    /// Further others that are due.
    pub due: u64,
    /// Redis' time.
    pub now_ms: u64,
    pub claimed: Vec<Claimed>,
}

/// Which operations to lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Due,
    Suspect,
}

/// How a lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Done,
    Dead,
    /// Runs again; counts towards the most errors.
    Error(Duration),
    /// Runs again; it was not its fault.
    Again(Duration),
}

/// What became of a wish to take an operation back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It will not run.
    Yes,
    /// A worker has begun it, now or before.
    Started,
    /// It is not in the queue: it has ended, or never was.
    Unknown,
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Depth {
    pub all: u64,
    pub scheduled: u64,
    pub due: u64,
    pub suspects: u64,
    pub leased: u64,
    pub oldest_due_ms: u64,
    pub paused: bool,
    pub done: u64,
    pub retried: u64,
    pub dead: u64,
    pub replaced: u64,
    pub cancelled: u64,
    pub damaged: u64,
}

impl Claimed {
    /// One of which only the lease is known, which is enough to give it back.
    pub(super) fn only(op_id: String, attempt: u64) -> Claimed {
        let (lane, payload) = (Bytes::new(), Bytes::new());
        Claimed { op_id, attempt, crashes: 0, errors: 0, due_ms: 0, sequence: 0, lane, payload }
    }
}

impl How {
    pub(super) fn word(self) -> &'static [u8] {
        match self {
            How::Done => b"done",
            How::Dead => b"dead",
            How::Error(_) => b"error",
            How::Again(_) => b"again",
        }
    }

    pub(super) fn delay_ms(self) -> u128 {
        match self {
            How::Done | How::Dead => 0,
            How::Error(delay) | How::Again(delay) => delay.as_millis(),
        }
    }
}

/// One of those that a look for work gave.
pub(super) fn claimed_of(parts: &[Bytes]) -> Result<Claimed> {
    let [op_id, attempt, crashes, errors, body] = parts else { return Err(unexpected()) };
    let digits = |range: std::ops::Range<usize>| -> u64 {
        let text = body.get(range).and_then(|it| std::str::from_utf8(it).ok());
        text.and_then(|it| it.parse().ok()).unwrap_or(0)
    };
    let lane_end = body.len().min(HEAD + digits(30..HEAD) as usize);
    Ok(Claimed {
        op_id: String::from_utf8_lossy(op_id).into_owned(),
        attempt: number(attempt)?,
        crashes: number(crashes)?,
        errors: number(errors)?,
        due_ms: digits(0..13),
        sequence: digits(14..30),
        lane: body.slice(HEAD.min(body.len())..lane_end),
        payload: body.slice(lane_end..),
    })
}

pub(super) fn number<N: std::str::FromStr>(text: &Bytes) -> Result<N> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(unexpected)
}

pub(super) fn unexpected() -> Error {
    Error::new(ErrorKind::Queue, "Redis answered a script of the queue with something else than it gives")
}
