//! A batch from its records: of an adopted journal, or composed less than before.

use std::collections::HashSet;

use super::batch::Batch;
use super::records::{Item, Log, Records};
use crate::error::Result;
use crate::sql::names_in;

/// The newest position that the caches are known to have followed, as the records above `lo` say.
pub(super) fn settled(log: &dyn Log, lo: u64) -> Result<u64> {
    let mut settled = lo;
    Records::new(log, lo, u64::MAX).each(&mut |_, item, _| {
        if let Item::Settled(up_to) = item {
            settled = settled.max(up_to);
        }
        Ok(())
    })?;
    Ok(settled)
}

/// Composes the records in (lo, hi]. Operations on the tables of `in_order` run one by one, and so do those on the rows
/// that the records of `apart` concern.
pub(super) fn rebuild(
    log: &dyn Log,
    lo: u64,
    hi: u64,
    apart: &HashSet<u64>,
    in_order: &[Box<str>],
) -> Result<Batch> {
    let mut batch = Batch::new(0, lo);
    batch.expect_order(in_order);
    let mut records = Records::new(log, lo, hi);
    while next(&mut records, &mut batch)?.is_some() {}
    batch.hi = hi;
    if !apart.is_empty() {
        // Not before all cells of their rows are known.
        Records::new(log, lo, hi).each(&mut |sequence, item, _| {
            if let Item::Cell(cell) = item
                && apart.contains(&sequence)
                && let Some(slot) = batch.locate(cell)
            {
                batch.take_out(slot);
            }
            Ok(())
        })?;
    }
    Ok(batch)
}

/// Composes the records above `lo` until they take `most_bytes` of memory, and those up to `hi` at most.
pub(super) fn rebuild_piece(log: &dyn Log, lo: u64, hi: u64, most_bytes: usize) -> Result<Batch> {
    let mut batch = Batch::new(0, lo);
    let mut records = Records::new(log, lo, hi);
    while batch.bytes < most_bytes
        && let Some(sequence) = next(&mut records, &mut batch)?
    {
        batch.hi = sequence;
    }
    Ok(batch)
}

/// Composes the next record and gives its number.
fn next(records: &mut Records<'_>, batch: &mut Batch) -> Result<Option<u64>> {
    let next = records.next(&mut |sequence, item, keys| {
        add(batch, sequence, &item);
        keys.iter().for_each(|key| batch.add_key(key, None));
        Ok(())
    })?;
    Ok(next.map(|(sequence, _)| sequence))
}

fn add(batch: &mut Batch, sequence: u64, item: &Item<'_>) {
    match item {
        Item::Cell(cell) => {
            let slot = batch.attach(cell);
            match cell.operations() {
                Some(operations) => operations.iter().for_each(|it| batch.compose(slot, Some(it))),
                None => batch.compose(slot, None),
            }
        }
        Item::Statement { statement, batch_key } => {
            batch.add_statement(sequence, &names_in(&statement.sql), *batch_key);
        }
        Item::Settled(_) => {}
    }
}
