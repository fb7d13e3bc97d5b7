//! Aggregated writes against real PostgreSQL and Redis: what composes, what is refused, what survives.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod basics;
mod law;
mod scene;
#[path = "../support/mod.rs"]
mod support;
