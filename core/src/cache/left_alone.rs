//! Redis is left alone while its breaker is open, and taken back step by step.
//!
//! ```text
//! open ─ pause ─▶ half-open: a PING, then the outbox is relayed; changes go through, reads do not ─▶ closed
//! ```
//! A write that is not let through is as one that failed: it commits with its row in the outbox. So before anything is read
//! from Redis again, it hears of all that was committed meanwhile. What Redis is told is let through from the trial on, as
//! that can only make it newer.

use std::sync::Arc;

use crate::base::Deadline;
use crate::base::breaker::{Breaker, BreakerState};
use crate::base::service::StopSignal;
use crate::cache::bus::BeforeListening;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::Redis;
use crate::telemetry::Counters;

/// What a call does to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It believes what is there, or adds what it has read.
    Read,
    /// It says what has changed.
    Change,
}

/// The breaker of the cache's Redis.
pub(super) struct LeftAlone {
    breaker: Breaker,
    counters: Arc<Counters>,
}

impl LeftAlone {
    pub(super) fn new(breaker: Breaker, counters: Arc<Counters>) -> LeftAlone {
        LeftAlone { breaker, counters }
    }

    /// What it lets through now.
    pub(super) fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// `Cache` if it is not, with the time that is left.
    pub(super) fn enter(&self, what: Use) -> Result<()> {
        match self.breaker.state() {
            BreakerState::Closed => Ok(()),
            BreakerState::HalfOpen if what == Use::Change => Ok(()),
            state => Err(self.error(state)),
        }
    }

    /// The end of a call that asked Redis.
    pub(super) fn leave<T>(&self, done: Result<T>) -> Result<T> {
        if done.is_ok() {
            self.breaker.note(false);
        }
        self.note(done)
    }

    /// The end of a call that may have ended well without asking Redis, which says nothing of it then.
    pub(super) fn note<T>(&self, done: Result<T>) -> Result<T> {
        if done.as_ref().is_err_and(Error::is_away) && self.breaker.note(true) {
            self.counters.breaker_openings.inc();
            let (limit, pause) = (self.breaker.limit(), self.breaker.pause());
            log::warn!("Redis was away {limit} times in a row and is left alone for {pause:?}");
        }
        done
    }

    /// Takes Redis back whenever it was left alone; `relay` tells it of what was committed meanwhile.
    pub(super) async fn watch(
        self: Arc<LeftAlone>,
        redis: Redis,
        relay: Option<BeforeListening>,
        mut stop: StopSignal,
    ) {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = self.breaker.opened() => {}
            }
            while self.breaker.state() != BreakerState::Closed {
                tokio::select! {
                    () = stop.stopped() => return,
                    () = tokio::time::sleep(self.breaker.pause()) => {}
                }
                if self.breaker.try_again() {
                    let tried = self.try_redis(&redis, relay.as_ref()).await;
                    self.breaker.settle(tried.is_ok());
                    match tried {
                        Ok(()) => log::info!("Redis is there again"),
                        Err(error) => log::debug!("Redis is left alone for longer: {error}"),
                    }
                }
            }
        }
    }

    async fn try_redis(&self, redis: &Redis, relay: Option<&BeforeListening>) -> Result<()> {
        let deadline = Deadline::after(self.breaker.pause());
        redis.ping(deadline).await?;
        match relay {
            Some(relay) => relay(deadline).await,
            None => Ok(()),
        }
    }

    fn error(&self, state: BreakerState) -> Error {
        let limit = self.breaker.limit();
        let until = match state {
            BreakerState::Open(left) => format!("for {left:?} more"),
            _ => "until a trial has ended".to_owned(),
        };
        let why =
            format!("Redis is left alone {until}: it was away {limit} times in a row (breaker_failures)");
        Error::new(ErrorKind::Cache, why)
    }
}
