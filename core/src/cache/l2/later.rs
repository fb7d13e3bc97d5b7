//! The moves around a COMMIT that comes later than its write was accepted: what may stay, and what is kept out.

use std::time::Duration;

use super::{L2, millis};
use crate::base::Deadline;
use crate::cache::left_alone::Use;
use crate::error::Result;

/// What a write that commits later than it was cached leaves under its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stays {
    /// Nothing that is there now.
    Nothing,
    /// The value of this SHA-1.
    Digest([u8; 20]),
    /// The value of the accepted write with this sequence, or of a later one.
    Since(u64),
}

impl Stays {
    /// As the scripts have it: a digest in hexadecimal, a sequence in 8 bytes.
    fn args(self) -> (String, Vec<u8>) {
        match self {
            Stays::Nothing => Default::default(),
            Stays::Digest(digest) => (digest.iter().map(|byte| format!("{byte:02x}")).collect(), Vec::new()),
            Stays::Since(sequence) => (String::new(), sequence.to_be_bytes().to_vec()),
        }
    }
}

impl L2 {
    /// Fences a key for `life`, unless it holds what may stay; says whether it is fenced.
    pub(crate) async fn cover(
        &self,
        key: &str,
        stays: Stays,
        token: &str,
        life: Duration,
        deadline: Deadline,
    ) -> Result<bool> {
        let generation = self.known_generation(Use::Change, deadline).await?.to_be_bytes();
        let (digest, sequence) = stays.args();
        let args = [token.as_bytes(), &millis(life), digest.as_bytes(), &sequence, &generation];
        self.run_together(&self.scripts.cover, key, &args, deadline).await
    }

    /// Drops a key, or ends its cover, unless it holds what may stay; says whether it does.
    pub(crate) async fn drop_unless(
        &self,
        key: &str,
        stays: Stays,
        cover: &str,
        deadline: Deadline,
    ) -> Result<bool> {
        let generation = self.known_generation(Use::Change, deadline).await?.to_be_bytes();
        let (digest, sequence) = stays.args();
        let args = [digest.as_bytes(), &sequence, &generation, cover.as_bytes()];
        self.run_together(&self.scripts.drop_unless, key, &args, deadline).await
    }
}
