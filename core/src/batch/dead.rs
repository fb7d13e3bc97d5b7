//! The dead letters of batches: what was refused, read from the journal, and read again from a letter.

use std::collections::HashMap;

use super::entry::{Keys, write_define, write_identity, write_operations, write_raw_statement};
use super::flush::Stream;
use super::records::{Definitions, Item, Log, Records, is_unreadable};
use crate::base::Deadline;
use crate::batch::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{Cell, Rendered, sql};
use crate::store::Store;
use crate::store::dead_letters::{Letter, Tasks, insert};
use crate::value::Value;

/// Which way these letters came.
pub(crate) const PATH: &str = "batch";

/// Letters of one INSERT, and the length of their records.
const INSERT_ROWS: usize = 1_000;
const INSERT_BYTES: usize = 1 << 20;

const OF_STREAM: &str = "SELECT op_id, sqlstate, message FROM zmsg_dead WHERE starts_with(op_id, ?)";

/// Names an operation in receipts, logs and dead letters.
pub(crate) fn op_id(stream: Stream, sequence: u64) -> String {
    format!("{:032x}-{sequence}", u128::from_be_bytes(stream))
}

/// The statements that write the letters of the dead operations of a batch, which are read from the journal meanwhile.
pub(super) struct Letters<'a> {
    records: Records<'a>,
    stream: Stream,
    dead: &'a HashMap<u64, Error>,
    left: usize,
}

impl<'a> Letters<'a> {
    pub(super) fn of(
        log: &'a dyn Log,
        batch: &Batch,
        stream: Stream,
        dead: &'a HashMap<u64, Error>,
    ) -> Letters<'a> {
        Letters { records: Records::new(log, batch.lo, batch.hi), stream, dead, left: dead.len() }
    }

    /// The next one; `None` if there are no more letters.
    pub(super) fn next(&mut self) -> Result<Option<Rendered>> {
        let (mut letters, mut bytes): (Vec<Letter>, usize) = (Vec::new(), 0);
        while self.left > 0 && letters.len() < INSERT_ROWS && bytes < INSERT_BYTES {
            let (dead, stream) = (self.dead, self.stream);
            let mut letter: Option<Letter> = None;
            let next = self.records.next(&mut |sequence, item, keys| {
                if let Some(error) = dead.get(&sequence) {
                    let begun =
                        letter.get_or_insert_with(|| Letter::new(PATH, op_id(stream, sequence), error));
                    add(begun, &item, keys);
                }
                Ok(())
            })?;
            let Some((_, length)) = next else { break };
            if let Some(letter) = letter {
                letters.push(letter);
                bytes += length;
                self.left -= 1;
            }
        }
        Ok((!letters.is_empty()).then(|| insert(&letters)))
    }
}

/// Each cell is defined before its operations, so that the bytes stand for themselves.
fn add(letter: &mut Letter, item: &Item<'_>, keys: &[&str]) {
    let owned: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let all = Keys { key: None, invalidates: &owned };
    let shown = match item {
        Item::Cell(cell) => {
            let mut identity = Vec::new();
            write_identity(cell, all, &mut identity);
            write_define(0, &identity, &mut letter.tasks);
            write_operations(0, cell, &mut letter.tasks);
            Cell::clone(cell).statement().map(|it| it.sql.to_string()).unwrap_or_default()
        }
        Item::Statement { statement, .. } => {
            write_raw_statement(statement, None, all, &mut letter.tasks);
            statement.sql.to_string()
        }
        Item::Settled(_) => return,
    };
    letter.show(&shown, keys.first().copied());
}

/// What the database has refused of the records in (lo, hi], by number. For a batch that turns out to be committed by a
/// try whose answer was lost.
pub(super) async fn refused(
    store: &dyn Store,
    stream: Stream,
    (lo, hi): (u64, u64),
    deadline: Deadline,
) -> Result<HashMap<u64, Error>> {
    let prefix = format!("{:032x}-", u128::from_be_bytes(stream));
    let mut found = HashMap::new();
    for row in store.query(&sql(OF_STREAM, [Value::text(prefix.as_str())])?, deadline).await? {
        let [Value::Text(op_id), code, Value::Text(message)] = &row.values[..] else { continue };
        let sequence = op_id.strip_prefix(&prefix).and_then(|it| it.parse().ok());
        let Some(sequence) = sequence.filter(|it| *it > lo && *it <= hi) else { continue };
        let error = Error::new(ErrorKind::Store, message.to_string());
        let error = if let Value::Text(code) = code { error.with_sqlstate(&**code) } else { error };
        found.insert(sequence, error);
    }
    Ok(found)
}

/// Reads the tasks of a letter.
pub(crate) fn read_letter(tasks: &[u8]) -> Result<Tasks> {
    let (mut statements, mut all) = (Vec::new(), Vec::new());
    let read = Definitions::default().read(1, 1, tasks, &mut |_, item, keys| {
        statements.push(match item {
            Item::Cell(cell) => Cell::clone(cell).statement()?,
            Item::Statement { statement, .. } => statement,
            Item::Settled(_) => return Ok(()),
        });
        all.extend(keys.iter().map(|key| (*key).to_owned()));
        Ok(())
    });
    read.map_err(|error| match is_unreadable(&error) {
        true => Error::new(
            error.kind(),
            "the dead letter cannot be understood; was it written by another version?",
        ),
        false => error,
    })?;
    Ok(Tasks { statements, keys: all })
}
