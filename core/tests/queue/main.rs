//! The delay queue against real servers: what it does without faults, and through them.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod basics;
mod closing;
mod cluster;
mod crashes;
mod faults;
mod leases;
mod letters;
mod losses;
mod many;
mod redis;
mod scene;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
