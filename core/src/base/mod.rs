//! The one door to the ambient world: clock, randomness, spawning.
//!
//! Every other room takes time and chance from here (`clippy.toml` bans the rest), so that each timing rule can
//! be tested with a clock that the test moves. Background services share one life-cycle: they start, they drain
//! when asked to stop, and stopping twice is the same as stopping once.

pub(crate) mod backoff;
pub(crate) mod breaker;
pub(crate) mod clock;
#[cfg(feature = "crash-points")]
pub mod crash;
#[cfg(not(feature = "crash-points"))]
pub(crate) mod crash;
pub(crate) mod deadline;
pub(crate) mod random;
pub(crate) mod service;

pub use clock::Clock;
pub use deadline::Deadline;
