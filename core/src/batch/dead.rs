//! The dead letters of batches: what was refused, read from the journal, and read again from a letter.

use super::entry::{Keys, write_define, write_identity, write_operations, write_raw_statement};
use super::flush::Stream;
use super::records::{Definitions, Item, Log, Records, is_unreadable};
use super::refusals::Refusals;
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

/// Some thousands at a time, in the order of their ids.
const OF_STREAM: &str = "SELECT id, op_id, sqlstate, message FROM zmsg_dead \
     WHERE id > ? AND path = 'batch' AND starts_with(op_id, ?) ORDER BY id LIMIT 5000";

/// Names an operation in receipts, logs and dead letters.
pub(crate) fn op_id(stream: Stream, sequence: u64) -> String {
    format!("{:032x}-{sequence}", u128::from_be_bytes(stream))
}

/// The statements that write the letters of dead operations, which are read from the journal again. Pass by pass over it:
/// the dead ones are given in the order of their numbers.
pub(super) struct Letters<'a> {
    records: Records<'a>,
    stream: Stream,
}

impl<'a> Letters<'a> {
    pub(super) fn new(log: &'a dyn Log, batch: &Batch, stream: Stream) -> Letters<'a> {
        Letters { records: Records::new(log, batch.lo, batch.hi), stream }
    }

    /// The next one, for the first ones of `dead`, which is shortened by them; `None` if there are no more.
    pub(super) fn next(&mut self, dead: &mut &[(u64, Error)]) -> Result<Option<Rendered>> {
        let (mut letters, mut bytes): (Vec<Letter>, usize) = (Vec::new(), 0);
        while letters.len() < INSERT_ROWS
            && bytes < INSERT_BYTES
            && let Some(((wanted, error), left)) = dead.split_first()
        {
            let stream = self.stream;
            let mut letter: Option<Letter> = None;
            let next = self.records.next(&mut |sequence, item, keys| {
                if sequence == *wanted {
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
                *dead = left;
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
) -> Result<Refusals> {
    let prefix = format!("{:032x}-", u128::from_be_bytes(stream));
    let (mut found, mut last) = (Refusals::default(), 0);
    loop {
        let question = sql(OF_STREAM, [Value::Int(last), Value::text(prefix.as_str())])?;
        let rows = store.query(&question, deadline).await?;
        if rows.is_empty() {
            found.sort();
            return Ok(found);
        }
        for row in &rows {
            let [Value::Int(id), Value::Text(op_id), code, Value::Text(message)] = &row.values[..] else {
                return Err(Error::new(ErrorKind::Internal, "a dead letter could not be read"));
            };
            last = *id;
            let sequence = op_id.strip_prefix(&prefix).and_then(|it| it.parse().ok());
            let Some(sequence) = sequence.filter(|it| *it > lo && *it <= hi) else { continue };
            let error = Error::new(ErrorKind::Store, message.to_string());
            let error = if let Value::Text(code) = code { error.with_sqlstate(&**code) } else { error };
            found.add(sequence, &error);
        }
    }
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
