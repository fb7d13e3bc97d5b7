//! What may touch the same rows, and so has to keep its order.
//!
//! All that is known of two WHERE texts is that they differ: they may find the same row. Operations of different routes
//! on one table are composed apart only if that cannot change the result:
//!
//! | on one table | is |
//! |---|---|
//! | one column, several routes, operations that commute (only `inc` and `dec`, or only `mul`) | composed |
//! | one column, several routes, anything else | ordered |
//! | one column as two kinds of cells | ordered |
//! | a WHERE that mentions a column which is written | ordered |
//! | a WHERE that is no key and mentions another table which is written | both ordered |
//! | a row with `or_insert` and the same row without, or with other values | ordered |
//! | `or_insert` where WHERE says more than the key, or where the key is NULL | ordered |
//! | SQL in the caller's words that mentions the table | ordered |
//!
//! The operations of an ordered domain run one by one, in the order in which they were accepted, from the journal. A
//! table is known by the last part of its name, so that `feeds` and `public.feeds` are one domain.

use std::collections::{HashMap, HashSet};

use super::route::{Route, commute};
use crate::sql::CellKind;

/// The routes of one table.
#[derive(Default)]
pub(super) struct Domain {
    pub routes: Vec<u32>,
    pub ordered: bool,
    columns: HashMap<Box<str>, Use>,
    mentioned: HashSet<Box<str>>,
    inserts: bool,
}

/// What happens to one column.
struct Use {
    kind: CellKind,
    classes: u8,
    route: u32,
    several: bool,
}

impl Domain {
    /// Takes note of a new route; whether the domain is ordered now.
    pub(super) fn add_route<'a>(
        &mut self,
        number: u32,
        route: &Route,
        mentions: impl Iterator<Item = &'a str>,
    ) {
        self.routes.push(number);
        self.mentioned.extend(mentions.map(Box::from));
        let inserts = !route.insert.is_empty();
        self.inserts |= inserts;
        // Of rows that are not found by a key nobody can tell whether they are the inserted ones. With a NULL in the key
        // every operation inserts a row, and what WHERE says beside the key counts only for a row that is there.
        let unclear = route.keys.is_none() || route.types.contains(&"null");
        self.ordered |= unclear && self.inserts && (inserts || self.routes.len() > 1);
        self.ordered |= self.columns.keys().any(|column| self.mentioned.contains(column));
    }

    /// Takes note of operations of these classes on a column.
    pub(super) fn add_use(&mut self, route: u32, column: &str, kind: CellKind, classes: u8) {
        let fresh = Use { kind, classes: 0, route, several: false };
        let it = self.columns.entry(column.into()).or_insert(fresh);
        it.classes |= classes;
        self.ordered |= it.kind != kind;
        it.several |= it.route != route;
        self.ordered |= it.several && !commute(it.classes);
        self.ordered |= self.mentioned.contains(column);
    }

    /// Whether rows of some routes are inserted and those of others are not.
    pub(super) fn mixes_inserts(&self) -> bool {
        self.inserts && self.routes.len() > 1
    }
}
