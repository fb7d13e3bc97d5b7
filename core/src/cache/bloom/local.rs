//! Bits in this process's memory: what a scan has found, and a copy of what is known to be set in Redis.
//!
//! Within a generation a bit that is set stays set, so that a copy which has only such bits may say "maybe" by itself. It
//! never says "no": what it lacks may be set.

use std::sync::atomic::{AtomicU64, Ordering};

use super::shape::{Place, Shape};

/// Bits of one generation.
pub(super) struct LocalBits {
    words: Box<[AtomicU64]>,
    words_per_chunk: usize,
}

impl LocalBits {
    /// None is set.
    pub(super) fn new(shape: &Shape) -> LocalBits {
        let words = (0..shape.bits() / 64).map(|_| AtomicU64::new(0)).collect();
        LocalBits { words, words_per_chunk: (shape.chunk_bits() / 64) as usize }
    }

    pub(super) fn add(&self, place: &Place) {
        for (word, mask) in self.at(place) {
            word.fetch_or(mask, Ordering::Relaxed);
        }
    }

    pub(super) fn has(&self, place: &Place) -> bool {
        self.at(place).all(|(word, mask)| word.load(Ordering::Relaxed) & mask != 0)
    }

    fn at<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (&'a AtomicU64, u64)> {
        let base = place.chunk as usize * self.words_per_chunk;
        place.bits.iter().map(move |bit| {
            // Redis counts bits from the highest one of the first byte on.
            (&self.words[base + *bit as usize / 64], 1 << (63 - bit % 64))
        })
    }

    /// The bits of one chunk as Redis has them.
    pub(super) fn chunk(&self, chunk: u32) -> Vec<u8> {
        let base = chunk as usize * self.words_per_chunk;
        let words = &self.words[base..base + self.words_per_chunk];
        words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_be_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::shape::Wanted;
    use super::*;

    proptest! {
        #[test]
        fn what_was_added_is_there_and_lies_where_redis_looks(keys in proptest::collection::vec(".{0,12}", 1..50), seed: u64) {
            let shape = Shape::new(1, seed, Wanted { capacity: 100_000, error_rate: 0.01 });
            let bits = LocalBits::new(&shape);
            for key in &keys {
                bits.add(&shape.place(key));
            }
            for key in &keys {
                let place = shape.place(key);
                prop_assert!(bits.has(&place));
                let chunk = bits.chunk(place.chunk);
                prop_assert!(place.bits.iter().all(|&bit| chunk[bit as usize / 8] & (0x80 >> (bit % 8)) != 0));
            }
        }
    }

    #[test]
    fn of_as_many_others_as_it_is_made_for_one_in_a_hundred_is_maybe() {
        let shape = Shape::new(1, 99, Wanted { capacity: 200_000, error_rate: 0.01 });
        let bits = LocalBits::new(&shape);
        (0..200_000).for_each(|n| bits.add(&shape.place(&format!("feed_{n}"))));
        let wrong = (0..200_000).filter(|n| bits.has(&shape.place(&format!("other_{n}")))).count();
        assert!(wrong as f64 / 200_000.0 <= 0.012, "{wrong} of 200,000");
    }
}
