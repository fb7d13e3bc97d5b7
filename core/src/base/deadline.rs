//! When a call gives up.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::base::clock::now;
use crate::error::{Error, ErrorKind, Result};

/// The end of one call's time, set once and passed down through every tier.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// A deadline `allowed` from now.
    pub fn after(allowed: Duration) -> Deadline {
        // A century stands for "never": adding more could overflow the clock.
        let allowed = allowed.min(Duration::from_secs(100 * 365 * 86_400));
        Deadline { at: now() + allowed, allowed }
    }

    /// The time left; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(now())
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The earlier of this deadline and `allowed` from now.
    pub fn at_most(&self, allowed: Duration) -> Deadline {
        let other = Deadline::after(allowed);
        if other.at < self.at { other } else { *self }
    }

    /// Runs `work` until it ends or the deadline passes; `waiting_for` completes "timed out after 5s …".
    pub async fn run<T>(&self, waiting_for: &str, work: impl Future<Output = T>) -> Result<T> {
        match tokio::time::timeout_at(self.at.into(), work).await {
            Ok(done) => Ok(done),
            Err(_) => Err(self.error(waiting_for)),
        }
    }

    /// The error of a call that ran past this deadline.
    pub fn error(&self, waiting_for: &str) -> Error {
        Error::new(ErrorKind::Timeout, format!("timed out after {:?} {waiting_for}", self.allowed))
    }
}
