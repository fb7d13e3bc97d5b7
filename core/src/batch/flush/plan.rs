//! What a batch becomes: sets of rows that go out as one statement each, and cells that need one of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::tables::{Table, Tables};
use crate::base::Deadline;
use crate::batch::batch::{Batch, Slot};
use crate::batch::route::{Route, State, commute, read_values};
use crate::error::Result;
use crate::ops::{Form, Operation};
use crate::sql::Rendered;
use crate::sql::setwise::{InsertColumn, KeyColumn, Row, RowSet};
use crate::store::Store;

/// Rows of one statement; more gain little and hold their locks longer.
const SET_ROWS: usize = 1_000;
/// And their length: each is in memory as values, as parameters and as bytes on their way. A row may be longer than that.
const SET_BYTES: usize = 1 << 20;
/// Rows of one locking statement.
const LOCK_ROWS: usize = 10_000;
/// Operations of one cell in one statement, as builders have it.
const CELL_OPERATIONS: usize = 1_000;

/// The composed cells of one row that go out together: by number of the route and of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowAt {
    pub route: u32,
    pub row: u32,
}

impl RowAt {
    /// One cell of the row.
    pub(super) fn slot(self, column: u16) -> Slot {
        Slot { route: self.route, row: self.row, column }
    }
}

/// Rows of one route with the same columns changed.
pub(super) struct Set {
    pub route: u32,
    pub columns: SmallVec<[u16; 2]>,
    /// The one that was changed first. A row that is inserted for it has its DEFAULT in the others.
    pub first: u16,
    /// In the order of their keys.
    pub rows: Vec<u32>,
}

/// See the head of this file.
pub(super) struct Plan<'b> {
    batch: &'b Batch,
    tables: HashMap<u32, Arc<Table>>,
    pub sets: Vec<Set>,
    /// Cells that go out alone: row and column.
    pub singles: Vec<(RowAt, u16)>,
    /// Whether every set finds its rows by an index.
    pub by_key: bool,
}

impl<'b> Plan<'b> {
    /// Asks the catalogue what it does not know yet, and sorts the rows into sets.
    pub(super) async fn of(
        batch: &'b Batch,
        tables: &Tables,
        store: &dyn Store,
        deadline: Deadline,
    ) -> Result<Plan<'b>> {
        let mut plan =
            Plan { batch, tables: HashMap::new(), sets: Vec::new(), singles: Vec::new(), by_key: true };
        for (number, route) in (0..).zip(&batch.routes) {
            if route.ordered {
                continue;
            }
            if route.keys.is_some() {
                let table = tables.get(store, &route.table, deadline).await?;
                plan.tables.insert(number, table);
            }
            match plan.keys(number) {
                Some(_) => plan.add_sets(number),
                None => plan.add_singles(number),
            }
        }
        // Tables in one order for every process.
        plan.sets.sort_by(|a, b| plan_order(batch, a).cmp(&plan_order(batch, b)));
        Ok(plan)
    }

    pub(super) fn route(&self, number: u32) -> &'b Route {
        &self.batch.routes[number as usize]
    }

    /// The columns of the key with the types that their arrays have; `None` if the route cannot go out in sets.
    fn keys(&self, number: u32) -> Option<Vec<KeyColumn>> {
        let (route, table) = (self.route(number), self.tables.get(&number)?);
        let keys = route.keys.as_ref()?;
        let inserted = route.insert.iter().all(|column| table.column(column.last()).is_some());
        let key = |(column, cast): &(Box<str>, Box<str>)| {
            let known = table.column(column)?;
            let ty: Box<str> = cast.strip_prefix("::").unwrap_or(&known.ty).into();
            // An array of arrays cannot be told from one of more dimensions.
            (!ty.ends_with(']')).then(|| KeyColumn { column: column.clone(), ty })
        };
        keys.iter().map(key).collect::<Option<Vec<_>>>().filter(|_| inserted)
    }

    fn add_sets(&mut self, number: u32) {
        let route = self.route(number);
        let mut groups: BTreeMap<(SmallVec<[u16; 2]>, u16), Vec<u32>> = BTreeMap::new();
        for (at, row) in (0..).zip(&route.rows) {
            let composed = row.cells.iter().filter(|(_, state)| matches!(state, State::Composed(_)));
            let mut columns: SmallVec<[u16; 2]> = composed.map(|(column, _)| *column).collect();
            let Some(first) = columns.first().copied() else { continue };
            columns.sort_unstable();
            let differs = columns.iter().any(|column| self.has_default(number, *column));
            let first = if differs { first } else { columns[0] };
            groups.entry((columns, first)).or_default().push(at);
        }
        let keys = route.keys.iter().flatten();
        let leads = |column: &str| {
            self.tables.get(&number).and_then(|it| it.column(column)).is_some_and(|it| it.leads)
        };
        self.by_key &= keys.into_iter().any(|(column, _)| leads(column));
        for ((columns, first), mut rows) in groups {
            rows.sort_unstable_by(|a, b| route.rows[*a as usize].key.cmp(&route.rows[*b as usize].key));
            let held = |row: &u32| route.rows[*row as usize].held();
            self.sets.extend(portions(&rows, held).map(|rows| Set {
                route: number,
                columns: columns.clone(),
                first,
                rows: rows.into(),
            }));
        }
    }

    /// Whether a row that this route inserts has something else than NULL in a column that is not given.
    fn has_default(&self, number: u32, column: u16) -> bool {
        let route = self.route(number);
        let name = &route.columns[column as usize].name;
        let known = self.tables.get(&number).and_then(|it| it.column(name.last()));
        let given = route.insert.iter().any(|it| it.quoted() == name.quoted());
        !route.insert.is_empty() && !given && known.is_some_and(|it| it.defaults)
    }

    fn add_singles(&mut self, number: u32) {
        for (row, it) in (0..).zip(&self.route(number).rows) {
            let composed = it.cells.iter().filter(|(_, state)| matches!(state, State::Composed(_)));
            self.singles.extend(composed.map(|(column, _)| (RowAt { route: number, row }, *column)));
        }
    }

    /// Whether a column is not there, as far as the catalogue was asked.
    pub(super) fn lacks(&self, number: u32, column: u16) -> bool {
        let Some(table) = self.tables.get(&number) else { return false };
        let column = self.route(number).columns.get(column as usize);
        column.is_some_and(|column| table.column(column.name.last()).is_none())
    }

    /// The statements of a set, or of some of its rows: first the missing rows, then the change.
    pub(super) fn statements(&self, set: &Set, rows: &[u32]) -> (Option<Rendered>, Rendered) {
        let keys = self.keys(set.route).unwrap_or_default();
        let route = self.route(set.route);
        let columns: Vec<_> = set.columns.iter().map(|at| &route.columns[*at as usize]).collect();
        let columns: Vec<_> = columns.into_iter().map(|it| (it.name.clone(), it.kind)).collect();
        let insert = self.insert_columns(set.route);
        let left_out = set.columns.iter().filter(|it| **it != set.first && self.has_default(set.route, **it));
        let left_out: Vec<_> = left_out.map(|it| route.columns[*it as usize].name.clone()).collect();
        let rows = rows.iter().map(|row| self.row(set, *row)).collect();
        let rows = RowSet {
            table: &route.table,
            keys: &keys,
            columns: &columns,
            insert: &insert,
            left_out: &left_out,
            rows,
            one_each: self.one_each(set),
        };
        (rows.insert(), rows.update())
    }

    fn insert_columns(&self, number: u32) -> Vec<InsertColumn> {
        let (route, table) = (self.route(number), self.tables.get(&number));
        let column = |name: &Arc<crate::sql::Name>| {
            let ty = table?.column(name.last())?.ty.clone();
            Some(InsertColumn { column: name.clone(), ty })
        };
        route.insert.iter().filter_map(column).collect()
    }

    fn row(&self, set: &Set, row: u32) -> Row<'b> {
        let row = &self.route(set.route).rows[row as usize];
        let form = |column: &u16| row.cells.iter().find(|(at, _)| at == column).map(|(_, state)| state);
        let forms = set.columns.iter().filter_map(|column| match form(column) {
            Some(State::Composed(form)) => Some(form),
            _ => None,
        });
        Row { key: read_values(&row.key), insert: read_values(&row.insert), forms: forms.collect() }
    }

    /// Locks for every table that more than one statement changes, so that two batches meet its rows in one order.
    pub(super) fn locks(&self) -> Vec<Rendered> {
        let mut by_route: BTreeMap<u32, Vec<&Set>> = BTreeMap::new();
        let mut kinds: HashMap<&str, usize> = HashMap::new();
        let mut last = None;
        for set in &self.sets {
            by_route.entry(set.route).or_default().push(set);
            if last != Some((set.route, &set.columns)) {
                *kinds.entry(self.route(set.route).table.last()).or_default() += 1;
            }
            last = Some((set.route, &set.columns));
        }
        for (at, _) in &self.singles {
            *kinds.entry(self.route(at.route).table.last()).or_default() += 1;
        }
        let crowded = |route: u32| kinds.get(self.route(route).table.last()).is_some_and(|count| *count > 1);
        let crowded = by_route.into_iter().filter(|(route, _)| crowded(*route));
        crowded.flat_map(|(route, sets)| self.lock_route(route, &sets)).collect()
    }

    fn lock_route(&self, number: u32, sets: &[&Set]) -> Vec<Rendered> {
        let (route, keys) = (self.route(number), self.keys(number).unwrap_or_default());
        let mut rows: Vec<u32> = sets.iter().flat_map(|set| set.rows.iter().copied()).collect();
        rows.sort_unstable_by(|a, b| route.rows[*a as usize].key.cmp(&route.rows[*b as usize].key));
        let chunks = rows.chunks(LOCK_ROWS).map(|rows| {
            let key = |row: &u32| read_values(&route.rows[*row as usize].key);
            let rows =
                rows.iter().map(|row| Row { key: key(row), insert: Vec::new(), forms: SmallVec::new() });
            RowSet::of_keys(&route.table, &keys, rows.collect()).lock()
        });
        chunks.collect()
    }

    /// The statements of a cell that goes out alone.
    pub(super) fn single(&self, at: RowAt, column: u16) -> Result<Vec<Rendered>> {
        let route = self.route(at.route);
        let row = &route.rows[at.row as usize];
        match row.cells.iter().find(|(it, _)| *it == column) {
            Some((_, State::Composed(form))) => alone(route.cell(row, column), form),
            _ => Ok(Vec::new()),
        }
    }

    /// Whether the operations of a set commute with their like.
    pub(super) fn commutes(&self, set: &Set) -> bool {
        let route = self.route(set.route);
        set.columns.iter().all(|column| commute(route.columns[*column as usize].classes))
    }

    /// Whether a key of this set means one row at most, and no two keys the same.
    pub(super) fn one_each(&self, set: &Set) -> bool {
        let keys = self.route(set.route).keys.iter().flatten();
        let columns: Vec<&str> = keys.map(|(column, _)| &**column).collect();
        self.tells_apart(set.route)
            && self.tables.get(&set.route).is_some_and(|table| table.is_unique(&columns))
    }

    /// Whether the rows of a route are told apart by their keys for certain: the same row is never there twice.
    pub(super) fn tells_apart(&self, number: u32) -> bool {
        let (route, table) = (self.route(number), self.tables.get(&number));
        let keys = route.keys.iter().flatten();
        keys.zip(&route.types).all(|((column, cast), ty)| {
            let column = table.and_then(|it| it.column(column));
            cast.is_empty() && column.is_some_and(|it| it.tells_apart(ty))
        })
    }

    /// Names a table some rows of which are inserted by one route and changed by another, while nobody can tell from the
    /// keys which ones.
    ///
    /// # Errors
    /// That table.
    pub(super) fn check(&self) -> std::result::Result<(), Box<str>> {
        let mut tables: HashMap<&str, Vec<u32>> = HashMap::new();
        for (number, route) in (0..).zip(&self.batch.routes) {
            if !route.ordered {
                tables.entry(route.table.last()).or_default().push(number);
            }
        }
        let unclear = tables.into_iter().find(|(_, routes)| {
            let inserts = routes.iter().any(|it| !self.route(*it).insert.is_empty());
            inserts && routes.len() > 1 && !routes.iter().all(|it| self.tells_apart(*it))
        });
        unclear.map_or(Ok(()), |(table, _)| Err(table.into()))
    }

    /// Questions whether two keys of a route mean one row, where that is possible and matters, with the table's name. The
    /// rows that are not composed count as well: their operations have run in front of the sets.
    pub(super) fn collisions(&self) -> Vec<(&'b str, Rendered)> {
        let routes: BTreeSet<u32> = self.sets.iter().map(|set| set.route).collect();
        let doubtful = routes.into_iter().filter(|number| {
            self.route(*number).rows.len() > 1 && !self.tells_apart(*number) && !self.is_added_up(*number)
        });
        doubtful.map(|number| (self.route(number).table.last(), self.collision(number))).collect()
    }

    fn collision(&self, number: u32) -> Rendered {
        let (route, keys) = (self.route(number), self.keys(number).unwrap_or_default());
        let rows = route.rows.iter().map(|row| Row {
            key: read_values(&row.key),
            insert: Vec::new(),
            forms: SmallVec::new(),
        });
        RowSet::of_keys(&route.table, &keys, rows.collect()).collisions()
    }

    /// Whether each key finds one row at most, and what is done to it commutes: then an UPDATE that missed a row because
    /// another key meant it too is run again for the rest.
    fn is_added_up(&self, number: u32) -> bool {
        let (route, table) = (self.route(number), self.tables.get(&number));
        let unique = |column: &str| table.and_then(|it| it.column(column)).is_some_and(|it| it.unique);
        let commutes = route.columns.iter().all(|column| commute(column.classes));
        commutes && route.insert.is_empty() && route.keys.iter().flatten().any(|(column, _)| unique(column))
    }
}

/// Rows for one statement each.
fn portions(rows: &[u32], bytes: impl Fn(&u32) -> usize) -> impl Iterator<Item = &[u32]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut left = SET_BYTES;
        let fits = rest.iter().take(SET_ROWS).take_while(|row| {
            let fits = left > 0;
            left = left.saturating_sub(bytes(row));
            fits
        });
        let portion;
        (portion, rest) = rest.split_at(fits.count());
        (!portion.is_empty()).then_some(portion)
    })
}

/// The statements of one cell with a form.
pub(super) fn alone(cell: crate::sql::Cell, form: &Form) -> Result<Vec<Rendered>> {
    let with = |operations: &[Operation]| {
        let mut cell = cell.clone();
        operations.iter().for_each(|operation| cell.push_operation(operation));
        cell.statement()
    };
    form.operations().chunks(CELL_OPERATIONS).map(with).collect()
}

fn plan_order<'a>(batch: &'a Batch, set: &'a Set) -> (&'a str, u32, &'a [u16]) {
    (batch.routes[set.route as usize].table.quoted(), set.route, &set.columns)
}
