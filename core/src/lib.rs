//! A feed storage engine that lives inside a service: reads through process memory, Redis and PostgreSQL; writes that
//! reach PostgreSQL now, later or aggregated, as the caller picks.
//!
//! `docs/architecture.md` in the repository has the map of the rooms and the invariants.

#![deny(unsafe_code)]

pub mod base;
// Until the engine, the only caller of these two rooms, stands.
#[allow(dead_code, unused_imports)]
mod cache;
pub mod config;
pub mod engine;
pub mod error;
#[allow(dead_code, unused_imports)]
mod redis;
pub mod sql;
pub mod store;
pub mod telemetry;
pub mod value;
