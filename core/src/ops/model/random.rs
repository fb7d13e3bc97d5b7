//! Chance with a seed, so that a failure can be repeated: SplitMix64 (Steele, Lea, Flood 2014).

pub(in crate::ops) struct Rng(u64);

impl Rng {
    pub(in crate::ops) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(in crate::ops) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(in crate::ops) fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound as u64) as usize
    }
}
