//! The audited corner: what cannot be said in safe Rust, and the calls on files that come with it.
//!
//! Only this room may hold `unsafe`, and every use of it says why it is sound. It knows nothing of the engine: it wraps
//! a call of the operating system and gives back something safe: fork detection, mapped files, locks of files.

pub(crate) mod files;
pub mod fork;
pub(crate) mod mapping;
