//! For the copies of hits that JavaScript keeps (`node/src/front.ts`), so that reading them again calls nothing here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::bindgen_prelude::{BufferSlice, External};
use napi::{Either, Env, Result};
use napi_derive::napi;
use zmsg_core::engine::Warrant;

use crate::engine::Engine;
use crate::errors::to_js;
use crate::replies::buffer;
use crate::words::Words;

/// The warrant of the last hit, where JavaScript finds it at no cost: an object would cost more than the hit. Three
/// floating-point numbers: the stripe, or -1 if there is no warrant; the lower half of the turn; the deadline.
#[derive(Default)]
pub struct Slip([AtomicU64; 3]);

impl Slip {
    fn write(&self, warrant: Option<Warrant>) {
        let [stripe, turn, deadline] = match warrant {
            Some(warrant) => {
                [f64::from(warrant.stripe), f64::from(warrant.turn as u32), warrant.deadline_ms as f64]
            }
            None => [-1.0, 0.0, 0.0],
        };
        for (word, number) in self.0.iter().zip([stripe, turn, deadline]) {
            // Read by the same thread.
            word.store(number.to_bits(), Ordering::Relaxed);
        }
    }
}

/// The words that JavaScript reads, to be made values of once per engine.
pub struct Shown {
    /// The turns, by stripe.
    pub turns: Words,
    /// Until when there is trust.
    pub trust: Words,
    /// The [`Slip`].
    pub slip: Words,
}

impl Engine {
    /// What JavaScript reads of this engine by itself.
    pub fn shown(&self) -> Shown {
        let words = Arc::new(self.zmsg().warrant_words());
        Shown {
            turns: Words::of(words.clone(), |words| words.turns()),
            trust: Words::of(words, |words| std::slice::from_ref(words.trust())),
            slip: Words::of(self.slip().clone(), |slip| &slip.0),
        }
    }
}

/// What L1 holds now: a Buffer, `false` for a cached absence, `null` for nothing. The slip has the warrant of a hit.
#[napi(catch_unwind)]
pub fn peek<'env>(
    env: &'env Env,
    engine: &External<Engine>,
    key: String,
) -> Result<Option<Either<BufferSlice<'env>, bool>>> {
    let Some((data, warrant)) = engine.zmsg().peek_warranted(&key).map_err(to_js)? else { return Ok(None) };
    engine.slip().write(warrant);
    match data {
        None => Ok(Some(Either::B(false))),
        Some(bytes) => Ok(Some(Either::A(buffer(env, &bytes)?))),
    }
}

/// The clock of deadlines and trust, in milliseconds.
#[napi(catch_unwind)]
pub fn front_clock(engine: &External<Engine>) -> Result<f64> {
    Ok(engine.zmsg().now_ms())
}

/// Adds hits that JavaScript served to the figures; `key` is one of theirs that was read often.
#[napi(catch_unwind)]
pub fn front_count(engine: &External<Engine>, hits: f64, absences: f64, key: Option<String>) -> Result<()> {
    engine.zmsg().count_warranted(hits as u64, absences as u64, key.as_deref());
    Ok(())
}
