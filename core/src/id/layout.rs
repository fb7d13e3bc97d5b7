//! 63 bits: 41 milliseconds, 10 node, 12 sequence.
//!
//! ```text
//! 62            22 21       12 11        0
//! │ milliseconds  │   node    │ sequence │      the sign bit stays clear
//! ```

/// Bits of the time.
pub(crate) const TIME_BITS: u32 = 41;
/// Bits of the node.
pub(crate) const NODE_BITS: u32 = 10;
/// Bits of the sequence within one millisecond.
pub(crate) const SEQUENCE_BITS: u32 = 12;

/// Nodes that can make ids at once.
pub(crate) const NODES: i64 = 1 << NODE_BITS;
/// Ids of one node in one millisecond.
pub(crate) const IDS_PER_MS: u64 = 1 << SEQUENCE_BITS;
/// The first millisecond, counted from the epoch, that has no id any more; 69 years on.
pub(crate) const END_MS: i64 = 1 << TIME_BITS;

/// The epoch, in milliseconds since 1970: 2024-01-01T00:00:00Z. It lies before every installation, with months to
/// spare for a database whose clock is behind, so that times are positive, and late enough that the 69 years last
/// until 2093.
pub(crate) const EPOCH_MS: i64 = 1_704_067_200_000;

const _: () = {
    assert!(TIME_BITS + NODE_BITS + SEQUENCE_BITS == 63, "an id is positive as an int8");
    assert!(
        EPOCH_MS / 86_400_000 == 19_723 && EPOCH_MS % 86_400_000 == 0,
        "the epoch is 2024-01-01, 19,723 days after 1970"
    );
    assert!(
        compose(END_MS as u64 * IDS_PER_MS - 1, node_bits(NODES - 1)) == i64::MAX,
        "the last id is the largest int8"
    );
    assert!(compose(0, node_bits(0)) == 0, "the first id is zero");
};

/// A node, moved to its place in an id.
pub(crate) const fn node_bits(node: i64) -> u64 {
    debug_assert!(0 <= node && node < NODES);
    (node as u64) << SEQUENCE_BITS
}

/// The id of a tick, which is milliseconds since the epoch and sequence in one word: `ms * IDS_PER_MS + sequence`.
pub(crate) const fn compose(tick: u64, node_bits: u64) -> i64 {
    let sequence = tick & (IDS_PER_MS - 1);
    (((tick - sequence) << NODE_BITS) | node_bits | sequence) as i64
}

/// The parts of an id.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Milliseconds since 1970.
    pub(crate) unix_ms: i64,
    /// Node.
    pub(crate) node: i64,
    /// Sequence within the millisecond.
    pub(crate) sequence: u64,
}

/// Takes an id apart.
#[cfg(test)]
pub(crate) fn split(id: i64) -> Parts {
    Parts {
        unix_ms: (id >> (NODE_BITS + SEQUENCE_BITS)) + EPOCH_MS,
        node: (id >> SEQUENCE_BITS) & (NODES - 1),
        sequence: id as u64 & (IDS_PER_MS - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn composing_and_splitting_are_inverse(ms in 0..END_MS, node in 0..NODES, sequence in 0..IDS_PER_MS) {
            let id = compose(ms as u64 * IDS_PER_MS + sequence, node_bits(node));
            prop_assert!(id >= 0);
            prop_assert_eq!(split(id), Parts { unix_ms: ms + EPOCH_MS, node, sequence });
        }

        #[test]
        fn later_ticks_are_larger_ids(tick in 0..END_MS as u64 * IDS_PER_MS - 1, a in 0..NODES, b in 0..NODES) {
            let (this, next) = (compose(tick, node_bits(a)), compose(tick + 1, node_bits(a)));
            prop_assert!(this < next);
            // Between nodes, times order.
            let later = compose(tick / IDS_PER_MS * IDS_PER_MS, node_bits(a));
            prop_assert!((tick / IDS_PER_MS == 0) || compose(tick / IDS_PER_MS * IDS_PER_MS - 1, node_bits(b)) < later);
        }
    }
}
