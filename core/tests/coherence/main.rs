//! Several engines on the same servers, as processes would have them: nobody serves what another one has overwritten.

// Tests may spawn, read the clock, and end at the first surprise.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod away;
mod bus;
mod cluster;
mod covers;
mod loads;
mod locks;
mod repairs;
#[path = "../faults/scene.rs"]
#[allow(dead_code)]
mod scene;
mod signal;
#[path = "../support/mod.rs"]
mod support;
mod tags;
mod toolbox;

use std::time::Duration;

use zmsg_core::engine::Zmsg;

use crate::scene::some;
use crate::support::engine::until;

/// Waits until another process's write is seen; every read until then is one of the two.
async fn sees(zmsg: &Zmsg, key: &str, old: &str, new: Option<&str>) {
    let (old, new) = (some(old), new.and_then(some));
    let what = format!("{key} to become {new:?}");
    until(&what, async || {
        let found = zmsg.get(key).await.unwrap();
        assert!(found == old || found == new, "{found:?}");
        found == new
    })
    .await;
}

/// The longest time that a cut off process serves what it has, in these tests.
const BOUND: Duration = Duration::from_millis(600);
