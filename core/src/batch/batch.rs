//! What was accepted since the last freeze, composed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::domain::Domain;
use super::done::Done;
use super::route::{COLUMN_OVERHEAD, Placing, ROUTE_OVERHEAD, Route, Row, State, class_bit};
use crate::ops::Operation;
use crate::sql::{ANYTHING, Cell};

const KEY_OVERHEAD: usize = 96;

/// SHA-1 of a value that was put into the caches with an operation.
pub(crate) type Digest = [u8; 20];

/// Where a cell is composed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot {
    pub route: u32,
    pub row: u32,
    pub column: u16,
}

/// A statement among those with its batch key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keyed {
    /// The number of its record.
    pub sequence: u64,
    /// Which one of that record's it is, as a list of tasks may have several; the first is 1.
    pub nth: u32,
}

/// Operations of one table per column set, composed; statements in the caller's words only by number.
pub(super) struct Batch {
    /// Tells batches of one accumulator apart.
    pub number: u64,
    /// The watermark it begins at: the sequence number of the last record before it.
    pub lo: u64,
    /// The sequence number of its last record.
    pub hi: u64,
    pub routes: Vec<Route>,
    by_name: HashMap<Box<[u8]>, u32, RandomState>,
    /// By the last part of the table's name.
    domains: HashMap<Box<str>, Domain>,
    /// What the statements in the caller's words mention.
    mentioned: HashSet<Box<str>>,
    /// By name in a WHERE that is no key, the tables whose rows it finds: the name may be another table's.
    readers: HashMap<Box<str>, HashSet<Box<str>>>,
    /// Tables whose operations run in order because an earlier try to apply this batch said so.
    pub expected: Vec<Box<str>>,
    /// Rows that are not composed, by route and row: a list of tasks that runs as a whole concerns them.
    pub apart: HashSet<(u32, u32)>,
    /// By batch key, the last statement; earlier ones do not run.
    pub coalesced: HashMap<Box<str>, Keyed>,
    /// Keys to drop from the caches after the COMMIT, unless they still hold the value of this digest.
    pub keys: HashMap<Arc<str>, Option<Digest>>,
    has_digests: bool,
    /// Whether something has to be read from the journal: statements, ordered domains, what does not compose.
    pub replays: bool,
    /// Operations and statements.
    pub operations: u64,
    /// Distinct rows, statements counted as one each.
    pub rows: usize,
    /// Memory held, estimated.
    pub bytes: usize,
    /// When its first operation was accepted, in monotonic milliseconds.
    pub since_ms: u64,
    pub done: Arc<Done>,
}

impl Batch {
    /// The keys that it changes.
    pub(super) fn keys_changed(&self) -> Vec<Arc<str>> {
        self.keys.keys().cloned().collect()
    }

    pub(super) fn new(number: u64, lo: u64) -> Batch {
        Batch {
            number,
            lo,
            hi: lo,
            routes: Vec::new(),
            by_name: HashMap::default(),
            domains: HashMap::new(),
            mentioned: HashSet::new(),
            readers: HashMap::new(),
            expected: Vec::new(),
            apart: HashSet::new(),
            coalesced: HashMap::new(),
            keys: HashMap::new(),
            has_digests: false,
            replays: false,
            operations: 0,
            rows: 0,
            bytes: 0,
            since_ms: 0,
            done: Arc::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hi == self.lo
    }

    /// Finds or makes the slot of a cell.
    pub(super) fn attach(&mut self, cell: &Cell) -> Slot {
        let placing = Placing::of(cell);
        let route = match self.by_name.get(&placing.route[..]) {
            Some(&route) => route,
            None => self.add_route(cell, placing.route.into()),
        };
        let Some((column, new)) = self.routes[route as usize].column(cell) else {
            // There is no such table. The database says so to each operation.
            self.put_in_order(cell.table().last());
            return Slot { route, row: 0, column: 0 };
        };
        let row = match self.routes[route as usize].index.get(&placing.key[..]) {
            Some(&row) => {
                let same = self.routes[route as usize].rows.get(row as usize);
                if same.is_some_and(|it| *it.insert != *placing.insert) {
                    self.put_in_order(cell.table().last());
                }
                row
            }
            None => self.add_row(route, placing.key.into(), placing.insert.into()),
        };
        if new {
            self.bytes += COLUMN_OVERHEAD;
        }
        Slot { route, row, column }
    }

    fn add_route(&mut self, cell: &Cell, name: Box<[u8]>) -> u32 {
        let number = self.routes.len() as u32;
        let mut route = Route::of(cell);
        let table: Box<str> = cell.table().last().into();
        let domain = self.domains.entry(table.clone()).or_default();
        domain.add_route(number, &route, cell.where_mentions());
        domain.ordered |= self.mentioned.contains(&table) || self.mentioned.contains(ANYTHING);
        let ordered = domain.ordered;
        route.ordered = ordered;
        self.routes.push(route);
        self.bytes += ROUTE_OVERHEAD + 2 * name.len();
        self.by_name.insert(name, number);
        if ordered {
            self.put_in_order(&table);
        }
        self.note_readers(cell, &table);
        number
    }

    /// A WHERE that looks into another table finds other rows once that one is changed.
    fn note_readers(&mut self, cell: &Cell, table: &str) {
        let mut in_order: Vec<Box<str>> = Vec::new();
        if cell.key().is_none() {
            for name in cell.where_mentions().filter(|name| *name != table) {
                if !self.readers.get(name).is_some_and(|it| it.contains(table)) {
                    self.bytes += KEY_OVERHEAD + name.len() + table.len();
                    self.readers.entry(name.into()).or_default().insert(table.into());
                }
                if self.domains.contains_key(name) {
                    in_order.extend([name.into(), table.into()]);
                }
            }
        }
        if let Some(readers) = self.readers.get(table) {
            in_order.extend(readers.iter().cloned().chain([table.into()]));
        }
        in_order.iter().for_each(|table| self.put_in_order(table));
    }

    fn add_row(&mut self, route: u32, key: Box<[u8]>, insert: Box<[u8]>) -> u32 {
        self.rows += 1;
        let it = &mut self.routes[route as usize];
        if it.ordered {
            return 0;
        }
        let row = it.rows.len() as u32;
        self.bytes += Row::overhead(&key, &insert);
        it.index.insert(key.clone(), row);
        it.rows.push(Row { key: key.clone(), insert, cells: SmallVec::new() });
        let table: Box<str> = it.table.last().into();
        let mixes = self.domains.get(&table).is_some_and(Domain::mixes_inserts);
        if mixes && self.is_elsewhere(&table, route, &key) {
            self.put_in_order(&table);
        }
        row
    }

    /// Whether another route may mean this row, and one of the two inserts it.
    fn is_elsewhere(&self, table: &str, route: u32, key: &[u8]) -> bool {
        let mine = &self.routes[route as usize];
        let Some(domain) = self.domains.get(table) else { return false };
        domain.routes.iter().filter(|&&other| other != route).any(|&other| {
            let other = &self.routes[other as usize];
            let inserts = !mine.insert.is_empty() || !other.insert.is_empty();
            // Arguments of different types may be one value of the column.
            let apart =
                mine.keys == other.keys && mine.types == other.types && !other.index.contains_key(key);
            inserts && !apart
        })
    }

    /// From now on the operations on this table run in order; what was composed of them is given up.
    fn put_in_order(&mut self, table: &str) {
        let Some(domain) = self.domains.get_mut(table) else { return };
        domain.ordered = true;
        self.replays = true;
        for &route in &domain.routes {
            let route = &mut self.routes[route as usize];
            route.ordered = true;
            let held: usize = route.rows.iter().map(Row::held).sum();
            self.bytes = self.bytes.saturating_sub(held);
            (route.rows, route.index) = (Vec::new(), HashMap::default());
        }
    }

    /// Composes one operation; `None` is one that has no exact form.
    #[inline]
    pub(super) fn compose(&mut self, slot: Slot, operation: Option<&Operation>) {
        self.operations += 1;
        let bit = operation.map_or(4, |it| class_bit(it.class()));
        let route = &mut self.routes[slot.route as usize];
        let column = &mut route.columns[slot.column as usize];
        if column.classes & bit == 0 {
            self.note_class(slot, bit);
        }
        let route = &mut self.routes[slot.route as usize];
        if route.ordered {
            return;
        }
        let kind = route.columns[slot.column as usize].kind;
        let Some(row) = route.rows.get_mut(slot.row as usize) else { return };
        let (state, more) = row.state(slot.column, kind);
        self.bytes += more;
        let State::Composed(form) = state else { return };
        let before = form.bytes();
        let composed = operation.is_some_and(|operation| form.then(operation).is_ok());
        self.bytes = (self.bytes + form.bytes()).saturating_sub(before);
        if !composed {
            *state = State::Replayed;
            self.replays = true;
        }
    }

    #[cold]
    fn note_class(&mut self, slot: Slot, bit: u8) {
        let route = &mut self.routes[slot.route as usize];
        let column = &mut route.columns[slot.column as usize];
        column.classes |= bit;
        let (name, kind, classes) = (column.name.clone(), column.kind, column.classes);
        let table: Box<str> = route.table.last().into();
        if let Some(domain) = self.domains.get_mut(&table) {
            let before = domain.ordered;
            domain.add_use(slot.route, name.last(), kind, classes);
            if domain.ordered && !before {
                self.put_in_order(&table);
            }
        }
    }

    /// The operations on this row run in order; what was composed of them is given up.
    pub(super) fn take_out(&mut self, slot: Slot) {
        if let Some(row) = self.routes[slot.route as usize].rows.get_mut(slot.row as usize) {
            row.cells.iter_mut().for_each(|(_, state)| *state = State::Replayed);
            self.replays = true;
            self.apart.insert((slot.route, slot.row));
        }
    }

    /// Takes note of a statement in the caller's words.
    pub(super) fn add_statement(&mut self, sequence: u64, mentions: &[Box<str>], batch_key: Option<&str>) {
        self.operations += 1;
        self.replays = true;
        match batch_key {
            Some(key) => match self.coalesced.get_mut(key) {
                Some(last) => {
                    let nth = if last.sequence == sequence { last.nth + 1 } else { 1 };
                    *last = Keyed { sequence, nth };
                }
                None => {
                    self.coalesced.insert(key.into(), Keyed { sequence, nth: 1 });
                    self.rows += 1;
                    self.bytes += KEY_OVERHEAD + key.len();
                }
            },
            None => self.rows += 1,
        }
        for name in mentions {
            if !self.mentioned.contains(name) {
                self.bytes += KEY_OVERHEAD + name.len();
                self.mentioned.insert(name.clone());
                if &**name == ANYTHING {
                    let all: Vec<Box<str>> = self.domains.keys().cloned().collect();
                    all.iter().for_each(|table| self.put_in_order(table));
                }
                self.put_in_order(name);
            }
        }
    }

    /// A key to drop after the COMMIT. `digest` is that of the value put into the caches with the operation.
    pub(super) fn add_key(&mut self, key: &str, digest: Option<Digest>) {
        self.has_digests |= digest.is_some();
        match self.keys.get_mut(key) {
            Some(last) => *last = digest,
            None => {
                self.bytes += KEY_OVERHEAD + key.len();
                self.keys.insert(key.into(), digest);
            }
        }
    }

    /// Whether [`Batch::add_key`] without a digest could change anything for keys that are there.
    #[inline]
    pub(super) fn has_digests(&self) -> bool {
        self.has_digests
    }

    /// Operations on these tables run one by one, in order.
    pub(super) fn expect_order(&mut self, tables: &[Box<str>]) {
        self.mentioned.extend(tables.iter().cloned());
        self.expected.extend(tables.iter().cloned());
    }

    /// The slot of a cell, if it was attached and its domain is composed.
    pub(super) fn locate(&self, cell: &Cell) -> Option<Slot> {
        let placing = Placing::of(cell);
        let number = *self.by_name.get(&placing.route[..])?;
        let route = &self.routes[number as usize];
        let row = *route.index.get(&placing.key[..])?;
        Some(Slot { route: number, row, column: route.find_column(cell)? })
    }

    /// What is composed of a cell; `None` if no operation on it was accepted.
    pub(super) fn find(&self, cell: &Cell) -> Option<&State> {
        let placing = Placing::of(cell);
        let route = &self.routes[*self.by_name.get(&placing.route[..])? as usize];
        if route.ordered {
            return Some(&State::Replayed);
        }
        let column = route.find_column(cell)?;
        let row = &route.rows[*route.index.get(&placing.key[..])? as usize];
        row.cells.iter().find(|(at, _)| *at == column).map(|(_, state)| state)
    }

    /// Whether rows of this cell's column may be changed through other routes than the cell's.
    pub(super) fn has_other_routes(&self, cell: &Cell) -> bool {
        let own = self.by_name.get(&Placing::of(cell).route[..]);
        let Some(domain) = self.domains.get(cell.table().last()) else { return false };
        domain.routes.iter().filter(|&route| Some(route) != own).any(|&route| {
            self.routes[route as usize].columns.iter().any(|it| it.name.quoted() == cell.column().quoted())
        })
    }

    /// Whether the operations on this table run in order.
    pub(super) fn is_ordered(&self, table: &str) -> bool {
        self.mentioned.contains(table)
            || self.mentioned.contains(ANYTHING)
            || self.domains.get(table).is_some_and(|domain| domain.ordered)
    }
}
