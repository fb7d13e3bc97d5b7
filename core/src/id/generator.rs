//! Makes ids from a grant, without I/O.
//!
//! The last tick (millisecond and sequence in one word) only ever grows; the next one is the greater of "last + 1" and
//! the clock. A burst therefore runs ahead of the clock by borrowing the milliseconds that follow, at most
//! [`BORROW_MS`] of them, and then waits. The kernel's coarse clock stands still for 1 to 10 ms at a time, so the
//! bound is ten: what would look like a burst to a clock that has not ticked yet is not made to wait.
//!
//! The clock is PostgreSQL's time at the grant plus the monotonic time since. It decides how well ids sort between
//! processes, and nothing else: uniqueness rests on the ceiling, which no clock moves.

use std::time::Duration;

use parking_lot::Mutex;

use super::grants::Grant;
use super::layout::{EPOCH_MS, IDS_PER_MS, compose, node_bits};
use crate::base::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::fork;

/// Milliseconds that ids may run ahead of the clock.
pub(crate) const BORROW_MS: i64 = 10;
/// Longest prefix of an id.
const MOST_PREFIX_BYTES: usize = 64;
/// Between two looks at the clock by a caller at the bound.
const PAUSE: Duration = Duration::from_micros(100);
/// Looks at a clock that does not move before the caller is told, so that nothing hangs: about two seconds.
const MOST_PAUSES: u32 = 10_000;

/// Makes ids; shared by every thread of the process.
pub(crate) struct Generator {
    clock: Clock,
    born: u64,
    state: Mutex<State>,
}

enum State {
    /// No grant yet.
    Empty,
    /// The usual state.
    Granted(Active),
    /// For good.
    Closed,
}

/// A grant in use. Milliseconds count from [`EPOCH_MS`].
struct Active {
    node_bits: u64,
    /// The clock's time is the monotonic time plus this.
    offset_ms: i64,
    /// The next tick that was not used.
    next: u64,
    /// The first tick that must not be used.
    end: u64,
}

/// What one attempt to make an id ends in.
#[derive(Debug)]
enum Attempt {
    Made(i64),
    /// The bound was reached; the clock must move first.
    Ahead,
}

impl Generator {
    /// A generator without a grant.
    pub(crate) fn new(clock: Clock) -> Generator {
        fork::watch();
        Generator { clock, born: fork::generation(), state: Mutex::new(State::Empty) }
    }

    /// Whether this process is a fork of the one that made the generator.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        fork::generation() != self.born
    }

    /// An error if no grant can be taken into use any more: in a forked child, and once closed.
    pub(crate) fn check_usable(&self) -> Result<()> {
        match () {
            () if self.is_forked() => Err(forked()),
            () if matches!(&*self.state.lock(), State::Closed) => Err(Error::closed()),
            () => Ok(()),
        }
    }

    /// Takes a grant into use, or the extension of the one in use. Time never goes back: the clock is moved to the
    /// grant's time only if that is forward.
    pub(crate) fn install(&self, grant: &Grant) {
        let now_ms = grant.from_ms - EPOCH_MS;
        let end = (grant.ceiling_ms - EPOCH_MS) as u64 * IDS_PER_MS;
        let granted_offset = now_ms - self.clock.mono_ms() as i64;
        let mut state = self.state.lock();
        let (offset_ms, next) = match &*state {
            State::Closed => return,
            State::Granted(old) => (old.offset_ms.max(granted_offset), old.next),
            State::Empty => (granted_offset, 0),
        };
        // Nothing below the floor: on a node that is new to this process it belongs to an earlier owner.
        let next = next.max((grant.floor_ms - EPOCH_MS) as u64 * IDS_PER_MS);
        *state = State::Granted(Active { node_bits: node_bits(grant.node), offset_ms, next, end });
    }

    /// The first millisecond, since 1970, that no id made so far has, or the clock's if that is later; 0 without a
    /// grant. A new grant must not begin below it.
    pub(crate) fn position_ms(&self) -> i64 {
        match &*self.state.lock() {
            State::Granted(active) => active.now_ms(&self.clock).max(active.unused_ms()) + EPOCH_MS,
            _ => 0,
        }
    }

    /// Stops for good and says the first millisecond, since 1970, that no id has; `None` if there was no grant.
    pub(crate) fn close(&self) -> Option<i64> {
        match std::mem::replace(&mut *self.state.lock(), State::Closed) {
            State::Granted(active) => Some(active.unused_ms() + EPOCH_MS),
            _ => None,
        }
    }

    /// The next id as a number.
    pub(crate) fn next_number(&self) -> Result<i64> {
        match self.attempt()? {
            Attempt::Made(id) => Ok(id),
            Attempt::Ahead => self.wait_for_the_clock(),
        }
    }

    /// The next id as `prefix_number`.
    pub(crate) fn next_id(&self, prefix: &str) -> Result<String> {
        check_prefix(prefix)?;
        let number = self.next_number()?;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number);
        let mut id = String::with_capacity(prefix.len() + 1 + digits.len());
        id.push_str(prefix);
        id.push('_');
        id.push_str(digits);
        Ok(id)
    }

    #[inline]
    fn attempt(&self) -> Result<Attempt> {
        // Before the lock: in a forked child nobody may be left to release it.
        if self.is_forked() {
            return Err(forked());
        }
        let mono_ms = self.clock.mono_ms() as i64;
        self.take(mono_ms)
    }

    /// One id, if the bound and the ceiling leave room for it at this monotonic time.
    #[inline]
    fn take(&self, mono_ms: i64) -> Result<Attempt> {
        let mut state = self.state.lock();
        let State::Granted(active) = &mut *state else { return Err(no_grant(&state)) };
        let now_ms = mono_ms + active.offset_ms;
        let tick = active.next.max(now_ms as u64 * IDS_PER_MS);
        if tick >= active.end {
            return Err(exhausted());
        }
        if tick >= (now_ms + BORROW_MS + 1) as u64 * IDS_PER_MS {
            return Ok(Attempt::Ahead);
        }
        active.next = tick + 1;
        Ok(Attempt::Made(compose(tick, active.node_bits)))
    }

    /// At the bound: waits with the precise clock, which ticks when the coarse one does not.
    #[cold]
    fn wait_for_the_clock(&self) -> Result<i64> {
        for _ in 0..MOST_PAUSES {
            if let Attempt::Made(id) = self.take((self.clock.mono_ns() / 1_000_000) as i64)? {
                return Ok(id);
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::new(ErrorKind::Id, "ids are made faster than 4,096 per millisecond; slow down"))
    }
}

impl Active {
    fn now_ms(&self, clock: &Clock) -> i64 {
        clock.mono_ms() as i64 + self.offset_ms
    }

    fn unused_ms(&self) -> i64 {
        self.next.div_ceil(IDS_PER_MS) as i64
    }
}

fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() {
        return Err(Error::task("the prefix of an id is empty; give one, or ask for the bare number"));
    }
    if prefix.len() > MOST_PREFIX_BYTES {
        let message = format!(
            "the prefix of an id has {} bytes; at most {MOST_PREFIX_BYTES} are allowed",
            prefix.len()
        );
        return Err(Error::task(message));
    }
    if prefix.contains('\0') {
        return Err(Error::task("the prefix of an id holds a NUL character, which PostgreSQL's text cannot"));
    }
    Ok(())
}

#[cold]
fn forked() -> Error {
    let message =
        "this process was forked from the one that opened the engine; open an engine of its own here";
    Error::new(ErrorKind::Id, message).with_retryable(false)
}

#[cold]
fn no_grant(state: &State) -> Error {
    match state {
        State::Closed => Error::closed(),
        _ => Error::new(ErrorKind::Id, "no node id yet: PostgreSQL must be reachable once to grant one"),
    }
}

#[cold]
fn exhausted() -> Error {
    Error::new(
        ErrorKind::Id,
        "the grant of ids ran out: PostgreSQL must be reachable to extend it (see id_grant)",
    )
}
