//! Text of SQL tasks: statements with `?` placeholders, and builders for counters, JSONB arrays and JSONB maps.
//!
//! For everybody above: the engine and the store take a [`Task`], the bindings build one. Uses `value` and `error`.
//!
//! A task is checked in full when it is built and never fails later for its form: lexed, one statement, as many
//! arguments as placeholders, identifiers quoted, a WHERE for every change. The text of a builder's task is written
//! when it is first needed ([`Task::render`]); aggregation reads the [`Cell`] instead and never writes it.
//!
//! ```text
//! sql(text, args) ─┬─ as many args as ? ────────────► Task, can run ──► render
//!                  └─ no args, or BIND among them ──► Task, template ──► bind(values) ──► Task, can run
//! counter(…).inc(1).where_("id = ?", …) ── build ──► the same two
//! ```
//!
//! Invariants:
//! - No I/O, no clock, no randomness; nothing here panics on input.
//! - A caller's value is always a parameter. The text of a statement consists of what the programmer wrote
//!   (`sql`, WHERE), of quoted identifiers, and of this room's own words.
//! - A WHERE fragment cannot leave its parentheses.
//! - Generated parameters carry a cast, so that the server never guesses their type; the parameters of a text that
//!   the programmer wrote carry none, so that the server takes the type from the place.
//! - Messages name tables, columns and positions, never a value.
//!
//! What this room cannot do is make a text safe that was put together from input: pass values as arguments.

mod args;
mod builder;
mod cache;
mod clauses;
mod fragment;
mod ident;
mod lexer;
pub(crate) mod multi_row;
mod outline;
mod placeholder;
pub(crate) mod setwise;
pub(crate) mod split;
mod statement;
mod task;
#[cfg(test)]
mod tests;

pub use args::{Arg, BIND, IntoArgs, params};
pub use builder::{
    Builder, Cell, CellKind, Column, Counter, Map, Op, Slice, Table, counter, map, slice, table,
};
pub use clauses::OnConflict;
pub use ident::Name;
pub(crate) use statement::{ANYTHING, names_in};
pub(crate) use task::sql_of;
pub use task::{Rendered, Task, sql};
