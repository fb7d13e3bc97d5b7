//! A feed storage engine that lives inside a service: reads through process memory, Redis and PostgreSQL; writes that
//! reach PostgreSQL now, later or aggregated, as the caller picks.
//!
//! `docs/architecture.md` in the repository has the map of the rooms and the invariants.

#![deny(unsafe_code)]
// `json!` takes a step for each word of a long object, such as that of the settings.
#![recursion_limit = "256"]

pub mod base;
mod batch;
mod cache;
pub mod config;
pub mod engine;
pub mod error;
mod id;
mod ops;
mod queue;
mod redis;
pub mod sql;
pub mod store;
pub mod sys;
pub mod telemetry;
pub mod value;

/// The Rust programs of the README and the guides, which `cargo test --doc` compiles and runs.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/guides/errors.md")]
    struct Errors;
}
