//! What is composed, in the careful way: sets of rows, halved where they are refused, and cells that go out alone. Refused
//! cells are looked at operation by operation later.

use std::ops::Range;

use super::Surgery;
use super::halves::{Part, Tried};
use crate::batch::flush::apply::{Again, Failure};
use crate::batch::flush::plan::{RowAt, Set};
use crate::store::ExecResult;

impl Surgery<'_> {
    pub(super) async fn sets(&mut self) -> Result<(), Failure> {
        let plan = self.plan;
        for set in &plan.sets {
            self.set(set).await?;
        }
        Ok(())
    }

    async fn set(&mut self, set: &Set) -> Result<(), Failure> {
        let plan = self.plan;
        if set.columns.iter().any(|column| plan.lacks(set.route, *column)) {
            self.refuse_rows(set, &set.rows);
            return Ok(());
        }
        let say = |items: Range<usize>| {
            let (insert, update) = plan.statements(set, &set.rows[items.clone()]);
            Ok(vec![Part { items, statements: insert.into_iter().chain([update]).collect() }])
        };
        for tried in self.tried((set.rows.len(), set.rows.len()), &say, |_| false).await? {
            match tried {
                Tried::Done(items, results) => self.count_rows(set, &set.rows[items], &results).await?,
                Tried::Refused(item, _) => self.refuse_rows(set, &set.rows[item..=item]),
            }
        }
        Ok(())
    }

    fn refuse_rows(&mut self, set: &Set, rows: &[u32]) {
        let at = rows.iter().map(|row| RowAt { route: set.route, row: *row });
        self.refused_cells.extend(at.flat_map(|at| set.columns.iter().map(move |column| at.slot(*column))));
    }

    async fn count_rows(&mut self, set: &Set, rows: &[u32], results: &[ExecResult]) -> Result<(), Failure> {
        let Some(result) = results.last() else { return Ok(()) };
        let part =
            Set { route: set.route, columns: set.columns.clone(), first: set.first, rows: rows.to_vec() };
        let missed = self.applied.count_set(self.plan, &part, result);
        let mut again = Again::of(self.plan, set, missed);
        while let Some(update) = again.next() {
            match self.attempt(&[update]).await? {
                Ok(results) => again.found(&results, &mut self.applied)?,
                Err(_) => {
                    let rows = again.left();
                    self.refuse_rows(set, &rows);
                }
            }
        }
        again.end(&mut self.applied);
        Ok(())
    }

    pub(super) async fn singles(&mut self) -> Result<(), Failure> {
        for (at, column) in self.plan.singles.clone() {
            let outcome = match self.plan.single(at, column) {
                Ok(statements) => self.attempt(&statements).await?,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(results) => {
                    let table = self.plan.route(at.route).table.quoted();
                    self.applied.count_alone(1, &results, Some(table));
                }
                Err(_) => drop(self.refused_cells.insert(at.slot(column))),
            }
        }
        Ok(())
    }
}
