//! Source queries while PostgreSQL keeps being away: refused at once, so that reads go on with what they have.
//!
//! Only reads of sources are refused. A write is asked for by somebody who would rather wait than not write, and the
//! transaction decides.

use std::sync::Arc;

use crate::base::breaker::{Breaker, BreakerState};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::Counters;

/// The breaker of source queries.
pub(super) struct SourceBreaker {
    breaker: Breaker,
    counters: Arc<Counters>,
}

/// A query that was let through.
pub(super) struct Pass {
    trial: bool,
}

impl SourceBreaker {
    pub(super) fn new(breaker: Breaker, counters: Arc<Counters>) -> SourceBreaker {
        SourceBreaker { breaker, counters }
    }

    /// What it lets through now.
    pub(super) fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Lets a query through.
    ///
    /// # Errors
    /// `Store`, to be tried again, with the time that is left.
    pub(super) fn enter(&self) -> Result<Pass> {
        let state = self.breaker.state();
        if state == BreakerState::Closed {
            return Ok(Pass { trial: false });
        }
        if self.breaker.try_again() {
            return Ok(Pass { trial: true });
        }
        let until = match state {
            BreakerState::Open(left) => format!("for {left:?} more"),
            _ => "until a trial has ended".to_owned(),
        };
        let limit = self.breaker.limit();
        let why = format!(
            "PostgreSQL is not asked for sources {until}: it was away {limit} times in a row (breaker_failures)"
        );
        Err(Error::new(ErrorKind::Store, why).with_retryable(true))
    }

    /// The end of a query: `None` is well.
    pub(super) fn leave(&self, pass: &Pass, failed: Option<&Error>) {
        let away = failed.is_some_and(Error::is_away);
        if pass.trial {
            self.breaker.settle(!away);
        } else if self.breaker.note(away) {
            self.counters.breaker_openings.inc();
            let pause = self.breaker.pause();
            log::warn!(
                "PostgreSQL was away several times in a row and is not asked for sources for {pause:?}"
            );
        }
    }
}
