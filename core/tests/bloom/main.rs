//! Bloom filters against real servers: "no" means that no committed write has made such a row, through loss, growth,
//! partitions and crashes.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod apart;
mod basics;
mod builds;
mod cluster;
mod doubts;
mod flips;
mod pairs;
mod readings;
mod scene;
#[path = "../support/mod.rs"]
mod support;
