//! The audited corner: what cannot be said in safe Rust.
//!
//! Only this room may hold `unsafe`, and every use of it says why it is sound. It knows nothing of the engine: it wraps
//! a call of the operating system and gives back something safe. Fork detection is all there is so far.

pub mod fork;
