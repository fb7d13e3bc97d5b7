//! What a flush did, as far as it is known before its COMMIT.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::plan::{Plan, Set};
use super::replay::Step;
use crate::batch::batch::Batch;
use crate::batch::refusals::Refusals;
use crate::store::{Cover, ExecResult};
use crate::value::Value;

/// What one or several flushes did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FlushReport {
    /// Operations and statements that were accepted and are now applied, dead ones included.
    pub operations: u64,
    /// Rows changed by composed operations, and statements of the caller that ran.
    pub rows: u64,
    /// Statements sent that change data.
    pub statements: u64,
    /// Changes by builders that found no row: they are lost, as an UPDATE of a missing row is.
    pub zero_row_updates: u64,
    /// Operations that the database refused; see the dead letters.
    pub dead: u64,
    /// Milliseconds from the freeze to the end.
    pub duration_ms: f64,
}

impl FlushReport {
    pub(crate) fn add(&mut self, other: &FlushReport) {
        self.operations += other.operations;
        self.rows += other.rows;
        self.statements += other.statements;
        self.zero_row_updates += other.zero_row_updates;
        self.dead += other.dead;
        self.duration_ms += other.duration_ms;
    }
}

/// A batch that is applied once its COMMIT is.
pub(in crate::batch) struct Applied {
    pub report: FlushReport,
    pub dead: Refusals,
    /// Numbers the transaction among those that touch its rows.
    pub version: u64,
    /// Per table, changes that found no row.
    pub missed: BTreeMap<String, u64>,
    /// What keeps old values out of the caches until they are told; none if nobody knows of the transaction's end but
    /// the watermark.
    pub cover: Option<Box<dyn Cover>>,
}

/// Rows that an UPDATE did not find.
pub(super) enum Missed {
    /// They are missing, which ones does not matter.
    Count(u64),
    /// These, which may have been found under another spelling of their key.
    Rows(Vec<u32>),
}

impl Applied {
    pub(super) fn new(batch: &Batch) -> Applied {
        let report = FlushReport { operations: batch.operations, ..FlushReport::default() };
        Applied { report, dead: Refusals::default(), version: 0, missed: BTreeMap::new(), cover: None }
    }

    /// Statements for so many tasks that go out by themselves, the last of which says what they found. `table` is that of
    /// a cell; of a statement in the caller's words it is the caller's business what it finds.
    pub(super) fn count_alone(&mut self, tasks: u64, results: &[ExecResult], table: Option<&str>) {
        let Some(last) = results.last() else { return };
        self.report.statements += results.len() as u64;
        self.report.rows += tasks.min(last.rows_affected);
        if let Some(table) = table.filter(|_| last.rows_affected == 0) {
            self.miss(table, 1);
        }
    }

    /// Steps that went out as one.
    pub(super) fn count_steps(&mut self, steps: &[Step], results: &[ExecResult]) {
        let table = steps.first().and_then(Step::table);
        self.count_alone(steps.len() as u64, results, table);
    }

    /// The result of a set; gives the rows that were not found.
    pub(super) fn count_set(&mut self, plan: &Plan<'_>, set: &Set, result: &ExecResult) -> Missed {
        self.report.statements += 1 + u64::from(!plan.route(set.route).insert.is_empty());
        if plan.one_each(set) {
            self.report.rows += result.rows_affected;
            return Missed::Count((set.rows.len() as u64).saturating_sub(result.rows_affected));
        }
        let found = positions(Some(result));
        self.report.rows += found.len() as u64;
        let missed = (1_u64..).zip(&set.rows).filter(|(position, _)| !found.contains(position));
        Missed::Rows(missed.map(|(_, row)| *row).collect())
    }

    /// So many rows of a table that are not there.
    pub(super) fn miss(&mut self, table: &str, rows: u64) {
        if rows > 0 {
            self.report.zero_row_updates += rows;
            *self.missed.entry(table.to_owned()).or_default() += rows;
        }
    }
}

/// The positions that an UPDATE gives back.
pub(super) fn positions(result: Option<&ExecResult>) -> HashSet<u64> {
    let rows = result.iter().flat_map(|it| &it.rows);
    rows.filter_map(|row| match row.values.first() {
        Some(Value::Int(position)) => Some(position.unsigned_abs()),
        _ => None,
    })
    .collect()
}
