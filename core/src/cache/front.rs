//! A front before L1: what was hit last, found again for a hash, a lock that nobody waits for, and a few loads.
//!
//! It decides nothing. A copy in it counts exactly while the turn of its stripe ([`Epochs::turn`]) is what it was before
//! L1 was asked, and its deadline is ahead: every change of L1 moves the turn, so a copy that may be older than what L1
//! would say is no copy at all. Copies that L1 has meanwhile given up for room may stay; they are as good as before.
//!
//! Sets of two. A copy gives way to another key only after as many attempts as it was hit lately, so that keys read
//! once do not push out those read all the time. Now and then a hit asks to be repeated in L1, which would else think
//! that nobody wants the entry any more.
//!
//! Its memory is a fixed part of what L1 may use: so many slots, and no value that is larger than its share.

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

/// One part in so many of the memory of L1 is the front's.
const SHARE: u64 = 16;
/// Memory for one copy, which with [`MOST_SETS`] is a sixteenth of the default 100 MiB.
const BYTES_PER_COPY: u64 = 1_600;
/// Largest value with its key; the rest is for the slot itself.
const MOST_BYTES: usize = 1_400;
const MOST_SETS: u64 = 2_048;
/// Below that it is not worth its place.
const FEWEST_SETS: u64 = 16;
/// Hits that a copy keeps as credit.
const MOST_CREDIT: u8 = 8;
/// One hit in so many is repeated in L1.
const REPEAT: u8 = 16;

/// The front. Without sets it holds nothing.
pub(super) struct Front {
    sets: Box<[Set]>,
}

// No two sets share a cache line.
#[repr(align(64))]
#[derive(Default)]
struct Set(Mutex<[Option<Copy>; 2]>);

struct Copy {
    key: SmallVec<[u8; 40]>,
    data: Option<Bytes>,
    deadline_ms: u64,
    turn: u64,
    credit: u8,
    until_repeat: u8,
}

/// A hit.
pub(super) struct Hit {
    pub(super) data: Option<Bytes>,
    pub(super) deadline_ms: u64,
    /// Whether L1 should hear of it.
    pub(super) repeat: bool,
}

impl Front {
    /// A front for an L1 of `max_cost` bytes.
    pub(super) fn new(max_cost: u64) -> Front {
        let sets = (max_cost / SHARE / BYTES_PER_COPY / 2).min(MOST_SETS);
        let sets = if sets < FEWEST_SETS { 0 } else { 1 << sets.ilog2() };
        Front { sets: (0..sets).map(|_| Set::default()).collect() }
    }

    /// Bytes that it may hold, to be taken from what L1 may.
    pub(super) fn max_cost(&self) -> u64 {
        self.sets.len() as u64 * 2 * BYTES_PER_COPY
    }

    /// The copy of a key, if it counts at this turn of its stripe and at this time.
    #[inline]
    pub(super) fn get(&self, hash: u64, key: &str, turn: u64, now_ms: u64) -> Option<Hit> {
        let mut copies = self.set(hash)?.0.try_lock()?;
        let copy = copies.iter_mut().flatten().find(|copy| copy.key[..] == *key.as_bytes())?;
        if copy.turn != turn || copy.deadline_ms <= now_ms {
            return None;
        }
        copy.credit = (copy.credit + 1).min(MOST_CREDIT);
        copy.until_repeat -= 1;
        let repeat = copy.until_repeat == 0;
        if repeat {
            copy.until_repeat = REPEAT;
        }
        Some(Hit { data: copy.data.clone(), deadline_ms: copy.deadline_ms, repeat })
    }

    /// Offers what L1 said after the stripe was at `turn`.
    pub(super) fn offer(&self, hash: u64, key: &str, data: &Option<Bytes>, deadline_ms: u64, turn: u64) {
        if key.len() + data.as_ref().map_or(0, Bytes::len) > MOST_BYTES {
            return;
        }
        let Some(mut copies) = self.set(hash).and_then(|set| set.0.try_lock()) else { return };
        let Some(place) = place_for(&mut copies, key) else { return };
        *place = Some(Copy {
            key: SmallVec::from_slice(key.as_bytes()),
            data: data.clone(),
            deadline_ms,
            turn,
            credit: 0,
            until_repeat: REPEAT,
        });
    }

    // The stripe is chosen by other bits of the hash.
    fn set(&self, hash: u64) -> Option<&Set> {
        self.sets.get((hash >> 32) as usize & self.sets.len().wrapping_sub(1))
    }
}

/// The key's own place, an empty one, or that of a copy without credit; who has some pays with it.
fn place_for<'a>(copies: &'a mut [Option<Copy>; 2], key: &str) -> Option<&'a mut Option<Copy>> {
    let own = copies.iter().position(|copy| copy.as_ref().is_some_and(|it| it.key[..] == *key.as_bytes()));
    let credit = |copy: &Option<Copy>| copy.as_ref().map_or(0, |copy| 1 + copy.credit);
    let weakest = usize::from(credit(&copies[1]) < credit(&copies[0]));
    let place = &mut copies[own.unwrap_or(weakest)];
    match place {
        Some(copy) if own.is_none() && copy.credit > 0 => {
            copy.credit -= 1;
            None
        }
        _ => Some(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_COST: u64 = 100 << 20;

    fn bytes(text: &str) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn data(front: &Front, key: &str, turn: u64, now_ms: u64) -> Option<Option<Bytes>> {
        front.get(7, key, turn, now_ms).map(|hit| hit.data)
    }

    #[test]
    fn a_copy_counts_at_its_turn_until_its_deadline() {
        let front = Front::new(MAX_COST);
        front.offer(7, "a", &bytes("x"), 100, 3);
        front.offer(7, "b", &None, u64::MAX, 4);
        assert_eq!(data(&front, "a", 3, 99), Some(bytes("x")));
        assert_eq!(data(&front, "b", 4, u64::MAX - 1), Some(None));
        assert_eq!(data(&front, "a", 3, 100), None);
        assert_eq!(data(&front, "a", 2, 99), None);
        assert_eq!(data(&front, "a", 4, 99), None);
        front.offer(7, "a", &bytes("y"), 200, 4);
        assert_eq!(data(&front, "a", 4, 100), Some(bytes("y")), "its own place, at once");
        assert_eq!(data(&front, "c", 4, 0), None, "the hash alone is not the key");
    }

    #[test]
    fn a_copy_in_use_gives_way_only_to_a_key_that_keeps_coming() {
        let front = Front::new(MAX_COST);
        for key in ["a", "b"] {
            front.offer(7, key, &None, u64::MAX, 0);
            assert!((0..3).all(|_| data(&front, key, 0, 0).is_some()));
        }
        for _ in 0..3 {
            front.offer(7, "c", &None, u64::MAX, 0);
            assert_eq!(data(&front, "c", 0, 0), None);
        }
        (0..5).for_each(|_| front.offer(7, "c", &None, u64::MAX, 0));
        assert_eq!(data(&front, "c", 0, 0), Some(None));
    }

    #[test]
    fn one_hit_in_sixteen_is_repeated() {
        let front = Front::new(MAX_COST);
        front.offer(7, "a", &None, u64::MAX, 0);
        let repeated = (0..160).filter(|_| front.get(7, "a", 0, 0).is_some_and(|hit| hit.repeat)).count();
        assert_eq!(repeated, 10);
    }

    #[test]
    fn its_memory_is_a_part_of_that_of_l1() {
        for max_cost in [0, 1 << 10, 1 << 20, 10 << 20, MAX_COST, 1 << 40] {
            let front = Front::new(max_cost);
            assert!(front.max_cost() <= max_cost / SHARE);
            front.offer(7, "a", &Some(vec![0; MOST_BYTES].into()), u64::MAX, 0);
            assert!(front.get(7, "a", 0, 0).is_none(), "too large for its share");
        }
        assert!(size_of::<Set>() / 2 + MOST_BYTES <= BYTES_PER_COPY as usize, "{}", size_of::<Set>());
        assert_eq!(Front::new(MAX_COST).sets.len(), MOST_SETS as usize);
    }
}
