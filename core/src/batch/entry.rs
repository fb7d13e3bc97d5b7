//! What a record of the journal says: a list of entries, accepted together.
//!
//! ```text
//! 1 define      id, keys, the cell's identity      once per cell and segment, before its first use
//! 2 operations  id, the operations                 a few bytes for a repeated counter
//! 3 statement   SQL and parameters, batch key, keys
//! 9 settled     a sequence number                  everything up to it is applied and the caches know
//! ```
//! Records are untrusted input: what is none of these ends the reading with `None`.

use std::sync::Arc;

use crate::sql::{Cell, Rendered, Task};
use crate::value::Value;
use crate::value::codec::{Reader, write_bytes, write_value, write_varint};

const DEFINE: u8 = 1;
const OPERATIONS: u8 = 2;
const STATEMENT: u8 = 3;
const SETTLED: u8 = 9;

/// The cache keys that a task concerns: its own, and further ones that it changes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keys<'a> {
    pub(crate) key: Option<&'a str>,
    pub(crate) invalidates: &'a [String],
}

/// The same, read back.
pub(super) type KeyList<'a> = Vec<&'a str>;

/// One entry.
pub(super) enum Entry<'a> {
    Define { id: u32, keys: KeyList<'a>, identity: &'a [u8] },
    Operations { id: u32, operations: Reader<'a> },
    Statement { statement: Rendered, batch_key: Option<&'a str>, keys: KeyList<'a> },
    Settled(u64),
}

/// Appends what tells a cell from others, with the keys that go with it; the dictionary compares these bytes.
pub(super) fn write_identity(cell: &Cell, keys: Keys<'_>, out: &mut Vec<u8>) {
    write_keys(keys, out);
    cell.write_identity(out);
}

pub(super) fn write_define(id: u32, identity: &[u8], out: &mut Vec<u8>) {
    out.push(DEFINE);
    write_varint(u64::from(id), out);
    write_bytes(identity, out);
}

pub(super) fn write_operations(id: u32, cell: &Cell, out: &mut Vec<u8>) {
    out.push(OPERATIONS);
    write_varint(u64::from(id), out);
    cell.write_operations(out);
}

pub(super) fn write_statement(task: &Task, keys: Keys<'_>, out: &mut Vec<u8>) {
    write_raw_statement(&task.render(), task.batch_key(), keys, out);
}

pub(super) fn write_raw_statement(
    statement: &Rendered,
    batch_key: Option<&str>,
    keys: Keys<'_>,
    out: &mut Vec<u8>,
) {
    out.push(STATEMENT);
    write_keys(keys, out);
    match batch_key {
        Some(key) => {
            out.push(1);
            write_bytes(key.as_bytes(), out);
        }
        None => out.push(0),
    }
    write_bytes(statement.sql.as_bytes(), out);
    write_varint(statement.params.len() as u64, out);
    statement.params.iter().for_each(|value| write_value(value, out));
}

pub(super) fn write_settled(up_to: u64, out: &mut Vec<u8>) {
    out.push(SETTLED);
    write_varint(up_to, out);
}

fn write_keys(keys: Keys<'_>, out: &mut Vec<u8>) {
    write_varint(keys.key.iter().len() as u64 + keys.invalidates.len() as u64, out);
    let all = keys.key.into_iter().chain(keys.invalidates.iter().map(String::as_str));
    all.for_each(|key| write_bytes(key.as_bytes(), out));
}

/// Splits what [`write_identity`] wrote.
pub(super) fn read_keys<'a>(reader: &mut Reader<'a>) -> Option<KeyList<'a>> {
    (0..reader.count()?).map(|_| reader.text()).collect()
}

/// The entries of one record, in order; an `Err` if the record says something else.
pub(super) struct Entries<'a>(Reader<'a>);

/// The record is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotAnEntry;

impl<'a> Entries<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Entries<'a> {
        Entries(Reader::new(payload))
    }

    fn read(&mut self) -> Option<Entry<'a>> {
        let reader = &mut self.0;
        Some(match reader.byte()? {
            DEFINE => {
                let id = u32::try_from(reader.varint()?).ok()?;
                let mut definition = Reader::new(reader.bytes()?);
                let keys = read_keys(&mut definition)?;
                Entry::Define { id, keys, identity: definition.rest() }
            }
            OPERATIONS => {
                let id = u32::try_from(reader.varint()?).ok()?;
                let operations = reader.clone();
                skip_operations(reader)?;
                Entry::Operations { id, operations }
            }
            STATEMENT => {
                let keys = read_keys(reader)?;
                let batch_key = match reader.byte()? {
                    0 => None,
                    _ => Some(reader.text()?),
                };
                let sql: Arc<str> = reader.text()?.into();
                let count = reader.count()?;
                let params: Option<Arc<[Value]>> = (0..count).map(|_| reader.value()).collect();
                Entry::Statement { statement: Rendered { sql, params: params? }, batch_key, keys }
            }
            SETTLED => Entry::Settled(reader.varint()?),
            _ => return None,
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, NotAnEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.read().ok_or(NotAnEntry);
        if entry.is_err() {
            self.0 = Reader::new(&[]);
        }
        Some(entry)
    }
}

/// Operations carry no length of their own, to stay small.
fn skip_operations(reader: &mut Reader<'_>) -> Option<()> {
    for _ in 0..reader.count()? {
        let values = match reader.byte()? {
            4 => 0,
            7 => 2,
            _ => 1,
        };
        for _ in 0..values {
            reader.value()?;
        }
    }
    Some(())
}
