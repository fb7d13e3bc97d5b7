//! Aggregated writes against real PostgreSQL and Redis: what composes, what is refused, what survives.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod basics;
mod bounds;
mod commit_cuts;
mod crashes;
mod interleavings;
mod law;
mod logs;
mod memory;
mod poison;
mod postgres;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod two_flushers;
mod watermarks;
mod writer;
