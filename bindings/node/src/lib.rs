//! The native half of the npm package `zmsg`. Private: its one caller is `node/src`, which has the types, the
//! documentation and everything that only JavaScript needs.
//!
//! A function here is conversion in, one call of `zmsg-core`, conversion out. Free functions over `External` handles,
//! because a call of a class method costs ten times as much. Errors cross as JSON text ([`errors`]); asynchronous calls
//! end through one queue per environment ([`completions`]), because a promise made by native code costs 25–40 µs.
//!
//! Invariants:
//! - A function returns `napi::Result` under that very name: the macro knows it by its spelling, and an alias of
//!   another name would return errors instead of throwing them.
//! - No panic leaves a function: each one has `catch_unwind` (a test counts them), and a panic in a task ends its call
//!   with an error.
//! - Nothing here waits: what does I/O runs on the runtime.
//! - Unsafe code is in [`words`] only.

// What JavaScript may call is documented where it is typed, in `node/src/native.ts`.
#![allow(missing_docs)]

mod calls;
mod completions;
mod delayed;
mod engine;
mod errors;
mod front;
mod loading;
mod lock;
mod logs;
mod periodic;
mod replies;
mod runtime;
mod tasks;
mod times;
mod toolbox;
mod values_in;
mod words;
