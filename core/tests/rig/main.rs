//! What the fault tests stand on, tested itself: the proxy, the histories, processes that are killed, servers of a test's
//! own, the crash points.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod crash_points;
mod held;
mod history;
mod process;
mod proxy_postgres;
mod proxy_redis;
mod servers;
#[path = "../support/mod.rs"]
mod support;
