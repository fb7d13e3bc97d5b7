//! The engine's own figures.
//!
//! Every room may add to them, none may decide anything by them. Counters only grow and are read without stopping
//! anybody, so two figures of one reading may be a moment apart.

mod counters;
mod histogram;

pub use counters::{Counter, Counters};
pub(crate) use histogram::Histogram;
