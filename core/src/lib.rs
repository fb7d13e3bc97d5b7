//! A feed storage engine that lives inside a service: reads through process memory, Redis and PostgreSQL; writes that
//! reach PostgreSQL now, later or aggregated, as the caller picks.
//!
//! `docs/architecture.md` in the repository has the map of the rooms and the invariants.

#![deny(unsafe_code)]

pub mod base;
pub mod config;
pub mod engine;
pub mod error;
pub(crate) mod id;
pub mod sql;
pub mod store;
pub mod sys;
pub mod value;
