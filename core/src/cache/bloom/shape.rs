//! How large a filter is, which bits a key has, and the marker that says so.
//!
//! ```text
//!  0  magic 0xB8     2  bits in a chunk, log 2     4  chunks (u32)        16  seed (u64)        32  error rate (f64)
//!  1  format 1       3  bits of a key              8  generation (u64)    24  capacity (u64)    40  checksum of 0..40
//! ```
//! Numbers are big-endian. The size is the textbook's, m = -n ln p / (ln 2)² bits for n keys at the error rate p, of which
//! each key has k = -log₂ p (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970). All bits of one
//! key are in one chunk (Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters", 2007): with tens of
//! thousands of keys in a chunk, chunks are filled alike and the error rate hardly moves. Within it the bits are
//! h₁ + i·h₂ (Kirsch, Mitzenmacher, "Less hashing, same performance", 2006); h₂ is odd and the chunk's size a power of two,
//! so that no two are the same. The hash is SHA-256 over seed and key: who does not know the seed cannot look for keys
//! that meet. ADR 0012 says why no library makes these bits.

use std::f64::consts::LN_2;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::cache::header::checksum;

/// Length of a marker.
pub(super) const MARKER_LEN: usize = 48;
/// Length of what a chunk begins with.
pub(super) const CHUNK_HEADER: usize = 16;

const MAGIC: u8 = 0xB8;
const FORMAT: u8 = 1;
/// A chunk of 64 KiB: small enough to be sent, large enough that a filter has few.
const LARGEST_CHUNK: u8 = 19;
/// Below 64 bytes the keys of a chunk would be told apart by too few bits.
const SMALLEST_CHUNK: u8 = 9;
/// 512 MiB: beyond, a filter grows no more.
const MOST_CHUNKS: u32 = 8_192;
const MOST_HASHES: u8 = 32;

/// What a filter is made for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wanted {
    /// Keys that it holds at the error rate.
    pub(crate) capacity: u64,
    /// Of the keys that do not exist, how many are "maybe".
    pub(crate) error_rate: f64,
}

/// One generation of a filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    pub(super) generation: u64,
    pub(super) seed: u64,
    pub(super) wanted: Wanted,
    chunks: u32,
    chunk_log2: u8,
    hashes: u8,
}

/// Where the bits of a key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) chunk: u32,
    /// Within the chunk.
    pub(super) bits: SmallVec<[u32; 10]>,
}

impl Shape {
    /// A filter for that many keys; one that would be too large is as large as it may be.
    pub(super) fn new(generation: u64, seed: u64, wanted: Wanted) -> Shape {
        let per_key = -wanted.error_rate.ln() / (LN_2 * LN_2);
        // Saturating: a float of any size fits.
        let bits = (wanted.capacity as f64 * per_key).ceil() as u64;
        let chunk_log2 = (bits.clamp(1, 1 << LARGEST_CHUNK).next_power_of_two().trailing_zeros() as u8)
            .clamp(SMALLEST_CHUNK, LARGEST_CHUNK);
        let chunks = bits.div_ceil(1 << chunk_log2).clamp(1, u64::from(MOST_CHUNKS)) as u32;
        let hashes = (-wanted.error_rate.log2()).round().clamp(1.0, f64::from(MOST_HASHES)) as u8;
        Shape { generation, seed, wanted, chunks, chunk_log2, hashes }
    }

    /// Whether a filter for twice as many keys would be larger.
    pub(super) fn may_grow(&self) -> bool {
        self.chunks < MOST_CHUNKS
    }

    pub(super) fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Bits of a key.
    pub(super) fn hashes(&self) -> u8 {
        self.hashes
    }

    /// Bits in a chunk.
    pub(super) fn chunk_bits(&self) -> u64 {
        1 << self.chunk_log2
    }

    /// All bits.
    pub(super) fn bits(&self) -> u64 {
        u64::from(self.chunks) << self.chunk_log2
    }

    /// The bits of a key.
    pub(super) fn place(&self, key: &str) -> Place {
        let hash: [u8; 32] =
            Sha256::new_with_prefix(self.seed.to_be_bytes()).chain_update(key).finalize().into();
        let word = |at: usize| hash[at * 8..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let chunk = ((u128::from(word(0)) * u128::from(self.chunks)) >> 64) as u32;
        let (first, step, mask) = (word(1), word(2) | 1, self.chunk_bits() - 1);
        let bit = |i: u8| (first.wrapping_add(step.wrapping_mul(u64::from(i))) & mask) as u32;
        Place { chunk, bits: (0..self.hashes).map(bit).collect() }
    }

    /// Keys that set so many bits, as far as one can tell: -(m/k) ln(1 - X/m) (Swamidass, Baldi, "Mathematical correction
    /// for fingerprint similarity measures", 2007).
    pub(super) fn keys_of_fill(&self, fill: f64) -> f64 {
        -(self.bits() as f64 / f64::from(self.hashes)) * (-fill.clamp(0.0, 1.0 - f64::EPSILON)).ln_1p()
    }

    /// The error rate with that part of the bits set.
    pub(super) fn error_of_fill(&self, fill: f64) -> f64 {
        fill.powi(i32::from(self.hashes))
    }

    /// What a chunk begins with.
    pub(super) fn chunk_header(&self, chunk: u32) -> [u8; CHUNK_HEADER] {
        let mut header = [0; CHUNK_HEADER];
        header[..8].copy_from_slice(&self.seed.to_be_bytes());
        header[8..12].copy_from_slice(&(self.generation as u32).to_be_bytes());
        header[12..].copy_from_slice(&chunk.to_be_bytes());
        header
    }

    /// Length of a chunk in bytes.
    pub(super) fn chunk_len(&self) -> usize {
        CHUNK_HEADER + (1 << self.chunk_log2) / 8
    }

    pub(super) fn encode(&self) -> [u8; MARKER_LEN] {
        let mut marker = [0; MARKER_LEN];
        marker[..4].copy_from_slice(&[MAGIC, FORMAT, self.chunk_log2, self.hashes]);
        marker[4..8].copy_from_slice(&self.chunks.to_be_bytes());
        marker[8..16].copy_from_slice(&self.generation.to_be_bytes());
        marker[16..24].copy_from_slice(&self.seed.to_be_bytes());
        marker[24..32].copy_from_slice(&self.wanted.capacity.to_be_bytes());
        marker[32..40].copy_from_slice(&self.wanted.error_rate.to_bits().to_be_bytes());
        let sum = checksum(&marker[..40]).to_be_bytes();
        marker[40..].copy_from_slice(&sum);
        marker
    }

    /// Reads a marker; `None` unless it is exactly what [`Shape::encode`] gives for something that can be.
    pub(super) fn decode(text: &[u8]) -> Option<Shape> {
        let marker: &[u8; MARKER_LEN] = text.try_into().ok()?;
        let word = |at: usize| marker[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let [MAGIC, FORMAT, chunk_log2, hashes, ..] = *marker else { return None };
        let shape = Shape {
            generation: word(8)?,
            seed: word(16)?,
            wanted: Wanted { capacity: word(24)?, error_rate: f64::from_bits(word(32)?) },
            chunks: u32::from_be_bytes(*marker[4..].first_chunk()?),
            chunk_log2,
            hashes,
        };
        let sizes = (1..=MOST_CHUNKS).contains(&shape.chunks)
            && (SMALLEST_CHUNK..=LARGEST_CHUNK).contains(&chunk_log2)
            && (1..=MOST_HASHES).contains(&hashes);
        let rate = shape.wanted.error_rate > 0.0 && shape.wanted.error_rate < 1.0;
        (sizes && rate && word(40)? == checksum(&marker[..40])).then_some(shape)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn wanted(capacity: u64, error_rate: f64) -> Wanted {
        Wanted { capacity, error_rate }
    }

    #[test]
    fn sizes_are_the_textbooks() {
        let million = Shape::new(1, 2, wanted(1_000_000, 0.01));
        assert_eq!((million.hashes, million.chunks, million.chunk_log2), (7, 19, 19), "9,585,059 bits");
        let small = Shape::new(1, 2, wanted(1_000, 0.01));
        assert_eq!((small.hashes, small.chunks, small.chunk_log2), (7, 1, 14), "9,586 bits");
        let huge = Shape::new(1, 2, wanted(u64::MAX, 1e-9));
        assert_eq!((huge.hashes, huge.chunks, huge.may_grow()), (30, MOST_CHUNKS, false));
        assert_eq!(Shape::new(1, 2, wanted(1, 0.5)).bits(), 512);
    }

    #[test]
    fn the_bits_of_a_key_are_fixed() {
        // Another place would make every filter in Redis lie, and without a sign.
        let place = Shape::new(3, 0x0123_4567_89ab_cdef, wanted(1_000_000, 0.01)).place("feed_1");
        let again = Shape::new(9, 0x0123_4567_89ab_cdef, wanted(1_000_000, 0.01)).place("feed_1");
        assert_eq!(place, again);
        assert_eq!((place.chunk, &place.bits[..3]), (FIXED.0, &FIXED.1[..]));
    }

    /// Computed by another program.
    const FIXED: (u32, [u32; 3]) = (15, [31_187, 250_536, 469_885]);

    #[test]
    fn the_estimate_counts_the_keys() {
        let shape = Shape::new(1, 7, wanted(50_000, 0.01));
        let set: HashSet<(u32, u32)> = (0..50_000)
            .map(|n| shape.place(&format!("feed_{n}")))
            .flat_map(|place| place.bits.into_iter().map(move |bit| (place.chunk, bit)))
            .collect();
        let fill = set.len() as f64 / shape.bits() as f64;
        let keys = shape.keys_of_fill(fill);
        assert!((keys - 50_000.0).abs() < 500.0, "{keys}");
        assert!(shape.error_of_fill(fill) <= 0.0102, "{}", shape.error_of_fill(fill));
        assert!(shape.keys_of_fill(1.0).is_finite());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_marker_is_seen() {
        let marker = Shape::new(3, 4, wanted(1_000, 0.01)).encode();
        for bit in 0..MARKER_LEN * 8 {
            let mut broken = marker;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Shape::decode(&broken), None, "bit {bit}");
        }
        for length in 0..MARKER_LEN {
            assert_eq!(Shape::decode(&marker[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(generation: u64, seed: u64, capacity in 1_u64..1_000_000_000, rate in 1e-6_f64..0.5) {
            let shape = Shape::new(generation, seed, wanted(capacity, rate));
            prop_assert_eq!(Shape::decode(&shape.encode()), Some(shape));
        }

        #[test]
        fn random_bytes_are_no_marker(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Shape::decode(&text), None);
        }

        #[test]
        fn bits_lie_in_their_chunk_and_differ(key in ".*", seed: u64, capacity in 1_u64..100_000_000, rate in 1e-6_f64..0.5) {
            let shape = Shape::new(1, seed, wanted(capacity, rate));
            let place = shape.place(&key);
            prop_assert!(place.chunk < shape.chunks());
            prop_assert_eq!(place.bits.len(), usize::from(shape.hashes()));
            let bits: HashSet<u32> = place.bits.iter().copied().collect();
            prop_assert_eq!(bits.len(), place.bits.len());
            prop_assert!(bits.iter().all(|&bit| u64::from(bit) < shape.chunk_bits()));
        }
    }
}
