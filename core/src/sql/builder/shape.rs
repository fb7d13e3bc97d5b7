//! A builder's task without its arguments: what its statement's text depends on.

use std::sync::Arc;

use smallvec::SmallVec;

use super::operation::{Op, Role};
use super::render;
use crate::error::Result;
use crate::sql::cache::{Memo, TextCache};
use crate::sql::fragment::Fragment;
use crate::sql::ident::Name;

/// What kind of column a cell is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellKind {
    /// A number.
    Counter,
    /// A JSONB array.
    Slice,
    /// A JSONB object.
    Map,
}

/// A table and one of its columns.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub table: Arc<Name>,
    pub column: Arc<Name>,
}

/// Two tasks of the same shape have the same text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub kind: CellKind,
    pub place: Arc<Place>,
    pub ops: SmallVec<[Op; 2]>,
    /// One for each argument.
    pub roles: SmallVec<[Role; 16]>,
    pub wheres: SmallVec<[Where; 1]>,
    pub insert: Vec<Insert>,
    pub returning: Option<Arc<str>>,
}

/// A fragment, and the index of its first argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Where {
    pub fragment: Arc<Fragment>,
    pub first: u32,
}

/// A column of `or_insert`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Insert {
    pub column: Arc<Name>,
    pub slot: u32,
    /// If it is a part of the row's key: the parameter of WHERE that it equals, with the cast it has there.
    pub key: Option<Arc<str>>,
}

thread_local! {
    static PLACES: TextCache<Place> = const { TextCache::new() };
    static TEXTS: Memo<Shape, str> = const { Memo::new() };
}

impl Place {
    /// From the cache, or checked now.
    pub fn of(table: &str, column: &str) -> Result<Arc<Place>> {
        TextCache::get(&PLACES, &[table, column], || {
            Ok(Place { table: Name::of_table(table)?, column: Name::of_column(column)? })
        })
    }
}

impl Shape {
    pub fn new(kind: CellKind, place: Arc<Place>) -> Shape {
        Shape {
            kind,
            place,
            ops: SmallVec::new(),
            roles: SmallVec::new(),
            wheres: SmallVec::new(),
            insert: Vec::new(),
            returning: None,
        }
    }

    /// The arguments of one fragment.
    pub fn arguments_of(it: &Where) -> std::ops::Range<usize> {
        let first = it.first as usize;
        first..first + it.fragment.params()
    }

    /// The statement, written once per shape and thread.
    pub fn text(&self) -> Arc<str> {
        Memo::of(&TEXTS, self, |shape| render::statement(shape).into())
    }
}
