//! The engine under faults: servers that go away, fall silent and come back, callers that vanish, calls that race.
//!
//! Every test holds the same promises: errors are typed and arrive in time, an acknowledged write is neither lost nor
//! hidden behind an older value, an aborted one is never seen, and nobody has to open the engine again.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod bounds;
mod breakers;
mod cancelled;
mod closing;
mod commit;
mod failsafe;
mod get_or_load;
mod opening;
mod postgres_away;
mod redis_away;
#[allow(dead_code)]
mod scene;
mod single_flight;
mod stale;
#[path = "../support/mod.rs"]
mod support;
