//! Stripe epochs: one counter per stripe of the key space, moved by every write and every drop of a key in it.
//!
//! Whoever keeps a value anywhere remembers the stripe's epoch from *before* the value was read. The value may be kept
//! only while the epoch is still the same: otherwise it may be older than a write that was already acknowledged. The
//! epochs gate inserts into L1.
//!
//! Copies of what L1 has, nearer to a caller, need more: L1 also changes when a read fills it. So each stripe has a turn
//! too, which moves at the end of every locked section, whatever was done in it. Who takes the turn, then asks L1, has a
//! copy that is as good as L1 while the turn stays. That costs two loads and no lock.
//!
//! A change is made, and the gate is passed, under the stripe's lock, so that there is no moment at which an old value
//! is in L1 after a write moved the epoch. Reads take no lock.
//!
//! The stripe also knows which changes of its keys are under way. Of two that overlap nobody can say which one reached
//! Redis last, so neither may leave its value in L1.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::FixedState;
use parking_lot::{Mutex, MutexGuard};

/// Stripes; a power of two. Two keys that share one only cost each other a refused insert now and then.
pub(crate) const STRIPES: usize = 4_096;

/// What a stripe's epoch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    stripe: u16,
    at: u64,
}

/// The epochs of all stripes.
pub(crate) struct Epochs {
    // Apart from the locks and without padding: 32 KiB that readers scan without being disturbed by lock traffic.
    epochs: Box<[AtomicU64]>,
    turns: Box<[AtomicU64]>,
    changes: Box<[Mutex<Vec<Change>>]>,
    hasher: FixedState,
}

/// The changes of one key that are under way.
struct Change {
    key: Arc<str>,
    under_way: u32,
    overlapped: bool,
    /// Transactions that keep reads out and give way to changes.
    covers: u32,
}

/// A stripe that nobody else can change.
pub(crate) struct Stripe<'a> {
    epoch: &'a AtomicU64,
    turn: &'a AtomicU64,
    index: u16,
    changes: MutexGuard<'a, Vec<Change>>,
}

impl Epochs {
    /// All at zero.
    pub(crate) fn new() -> Epochs {
        Epochs {
            epochs: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            turns: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            changes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: FixedState::default(),
        }
    }

    /// The hash of a key; its lower bits choose the stripe.
    pub(crate) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The stripe of a key.
    pub(crate) fn stripe_of(&self, key: &str) -> usize {
        self.stripe_at(self.hash(key))
    }

    /// The same by the key's hash.
    pub(crate) fn stripe_at(&self, hash: u64) -> usize {
        hash as usize % STRIPES
    }

    /// All turns, by stripe.
    pub(crate) fn turns(&self) -> &[AtomicU64] {
        &self.turns
    }

    /// The turn of a key's stripe, by the key's hash.
    pub(crate) fn turn(&self, hash: u64) -> u64 {
        self.turns[self.stripe_at(hash)].load(Ordering::Acquire)
    }

    /// The epoch of a key's stripe now.
    pub(crate) fn epoch(&self, key: &str) -> Epoch {
        let stripe = self.stripe_of(key);
        Epoch { stripe: stripe as u16, at: self.epochs[stripe].load(Ordering::Acquire) }
    }

    /// Whether a stripe's epoch is still what it was.
    #[cfg(test)]
    pub(crate) fn is_current(&self, seen: Epoch) -> bool {
        self.epochs[usize::from(seen.stripe)].load(Ordering::Acquire) == seen.at
    }

    /// Locks a key's stripe. Nothing is awaited and no other stripe is locked while it is held.
    pub(crate) fn lock(&self, key: &str) -> Stripe<'_> {
        let index = self.stripe_of(key);
        let changes = self.changes[index].lock();
        Stripe { epoch: &self.epochs[index], turn: &self.turns[index], index: index as u16, changes }
    }

    /// Moves every stripe on: nothing that was read before may be kept, and every change that is under way counts as one
    /// that another one overlapped.
    pub(crate) fn bump_all(&self) {
        for ((epoch, turn), lock) in self.epochs.iter().zip(&self.turns).zip(&self.changes) {
            lock.lock().iter_mut().for_each(|change| change.overlapped = true);
            epoch.fetch_add(1, Ordering::AcqRel);
            turn.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Stripe<'_> {
    fn drop(&mut self) {
        // Still locked, and after what was done.
        self.turn.fetch_add(1, Ordering::AcqRel);
    }
}

impl Stripe<'_> {
    /// Moves the epoch on.
    pub(crate) fn bump(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the epoch is what it was when a read began.
    pub(crate) fn is_at(&self, seen: Epoch) -> bool {
        seen.stripe == self.index && self.epoch.load(Ordering::Acquire) == seen.at
    }

    /// A change of a key begins: the epoch moves.
    pub(crate) fn enter(&mut self, key: &Arc<str>) {
        self.bump();
        match self.changes.iter_mut().find(|change| change.key == *key) {
            Some(change) => {
                change.overlapped = change.under_way > 0;
                change.under_way += 1;
            }
            None => {
                self.changes.push(Change { key: key.clone(), under_way: 1, overlapped: false, covers: 0 })
            }
        }
    }

    /// A transaction is about to change a key and was accepted before: until [`Stripe::uncover`] no read keeps anything
    /// under it, while a change that comes later may leave its value.
    pub(crate) fn cover(&mut self, key: &Arc<str>) {
        self.bump();
        match self.changes.iter_mut().find(|change| change.key == *key) {
            Some(change) => change.covers += 1,
            None => {
                self.changes.push(Change { key: key.clone(), under_way: 0, overlapped: false, covers: 1 });
            }
        }
    }

    /// Its end.
    pub(crate) fn uncover(&mut self, key: &str) {
        self.bump();
        let Some(index) = self.changes.iter().position(|change| &*change.key == key) else { return };
        self.changes[index].covers = self.changes[index].covers.saturating_sub(1);
        self.let_go(index);
    }

    /// Whether a change of a key is under way, or a transaction that keeps reads out.
    pub(crate) fn is_changing(&self, key: &str) -> bool {
        self.changes.iter().any(|change| &*change.key == key)
    }

    /// Somebody else changed a key: the epoch moves, and what is under way here counts as overlapped.
    pub(crate) fn overlap(&mut self, key: &str) {
        self.bump();
        if let Some(change) = self.changes.iter_mut().find(|change| &*change.key == key) {
            change.overlapped = true;
        }
    }

    /// A change of a key ends: the epoch moves. Says whether it was alone all the time.
    pub(crate) fn leave(&mut self, key: &str) -> bool {
        self.bump();
        let Some(index) = self.changes.iter().position(|change| &*change.key == key) else { return false };
        let change = &mut self.changes[index];
        if change.under_way == 0 {
            return false;
        }
        let alone = !change.overlapped;
        change.under_way -= 1;
        self.let_go(index);
        alone
    }

    fn let_go(&mut self, index: usize) {
        let change = &mut self.changes[index];
        match (change.under_way, change.covers) {
            (0, 0) => drop(self.changes.swap_remove(index)),
            (0, _) => change.overlapped = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bump_concerns_its_stripe_alone() {
        let epochs = Epochs::new();
        let key = "feed_1";
        let other = (0..)
            .map(|n| format!("feed_{n}"))
            .find(|it| epochs.stripe_of(it) != epochs.stripe_of(key))
            .unwrap();
        let (seen, other_seen) = (epochs.epoch(key), epochs.epoch(&other));
        epochs.lock(key).bump();
        assert!(!epochs.is_current(seen));
        assert!(epochs.is_current(other_seen));
        assert!(!epochs.lock(key).is_at(other_seen), "an epoch of another stripe says nothing");
        epochs.bump_all();
        assert!(!epochs.is_current(other_seen));
    }

    #[test]
    fn a_turn_moves_when_the_lock_is_given_back() {
        let epochs = Epochs::new();
        let hash = epochs.hash("a");
        let before = epochs.turn(hash);
        let stripe = epochs.lock("a");
        assert_eq!(epochs.turn(hash), before);
        drop(stripe);
        assert_eq!(epochs.turn(hash), before + 1);
    }

    #[test]
    fn overlapping_changes_know_of_each_other() {
        let epochs = Epochs::new();
        let key: Arc<str> = "a".into();
        epochs.lock(&key).enter(&key);
        assert!(epochs.lock(&key).leave(&key), "alone");
        for _ in 0..3 {
            epochs.lock(&key).enter(&key);
        }
        let seen = epochs.epoch(&key);
        for _ in 0..3 {
            assert!(!epochs.lock(&key).leave(&key));
        }
        assert!(!epochs.is_current(seen));
        assert!(!epochs.lock(&key).leave(&key), "never begun");
        epochs.lock(&key).enter(&key);
        assert!(epochs.lock(&key).leave(&key), "alone again");
    }

    #[test]
    fn keys_spread_over_the_stripes() {
        let epochs = Epochs::new();
        let mut used = vec![0_u32; STRIPES];
        for n in 0..STRIPES * 16 {
            used[epochs.stripe_of(&format!("feed_{n}"))] += 1;
        }
        assert!(used.iter().all(|&count| (1..64).contains(&count)));
    }
}
