//! What the engine gives back, as JavaScript values.
//!
//! Rows cross as groups: the column names once, one letter per column that says what its values are, and all values in
//! one flat array. `node/src/values.ts` makes the objects, and what needs a JavaScript constructor, from that.

use bytes::Bytes;
use napi::bindgen_prelude::{Array, BufferSlice, External, Null, Object, i64n};
use napi::{Env, Result};
use zmsg_core::engine::{Begun, DeadLetter, Lock, Receipt, Zmsg};
use zmsg_core::store::ExecResult;
use zmsg_core::value::{Row, Value, value_to_json};

use crate::errors::to_js;
use crate::front::Shown;
use crate::loading::Load;
use crate::lock::Held;
use crate::periodic::Accepted;

/// Whether the configuration wants timestamps as text.
type Texts = bool;

/// The result of an asynchronous call.
pub enum Reply {
    /// Nothing to tell.
    Unit,
    /// A value, or its absence.
    Data(Option<Bytes>),
    /// One per key.
    Many(Vec<Option<Bytes>>),
    /// A value, or the duty to load it.
    Begun(Box<Begun>),
    /// The last good value, if there is one.
    LastGood(Option<Option<Bytes>>),
    /// Rows of a read.
    Rows(Vec<Row>, Texts),
    /// What statements did.
    Exec(ExecResult, Texts),
    /// What a write did.
    Receipt(Receipt, Texts),
    /// A write that is applied later.
    Accepted(Receipt),
    /// Yes or no.
    Bool(bool),
    /// One of a few words.
    Word(&'static str),
    /// A number that is exact.
    Number(f64),
    /// Several texts.
    Texts(Vec<String>),
    /// A lock that was taken.
    Lock(Lock),
    /// One value, or its absence.
    Value(Option<Value>, Texts),
    /// What the database refused.
    Letters(Vec<DeadLetter>),
    /// A report as JSON text.
    Json(String),
    /// An engine that was opened, how it wants int8 and timestamps, and the class of its journal.
    Opened { engine: Zmsg, int8: &'static str, timestamps: &'static str, journal: &'static str },
}

/// Bytes as a Buffer of the caller's own.
pub fn buffer<'env>(env: &'env Env, bytes: &[u8]) -> Result<BufferSlice<'env>> {
    BufferSlice::copy_from(env, bytes)
}

impl Reply {
    /// Puts the reply into place `index` of `into`.
    pub fn put(
        self,
        env: &Env,
        into: &mut Array<'_>,
        index: u32,
        wrap: impl Fn(Zmsg) -> crate::engine::Engine,
    ) -> Result<()> {
        match self {
            Reply::Unit | Reply::Data(None) | Reply::Value(None, _) => into.set(index, ()),
            Reply::Data(Some(bytes)) => into.set(index, buffer(env, &bytes)?),
            Reply::Many(found) => into.set(index, many(env, &found)?),
            Reply::Begun(begun) => into.set(index, begun_of(env, *begun)?),
            Reply::LastGood(found) => {
                let mut object = Object::new(env)?;
                object.set("found", found.is_some())?;
                put_bytes(env, &mut object, found.flatten())?;
                into.set(index, object)
            }
            Reply::Rows(rows, texts) => into.set(index, groups(env, &rows, texts)?),
            Reply::Value(Some(value), texts) => into.set(index, single(env, &value, texts)?),
            Reply::Letters(letters) => into.set(index, letters_of(env, &letters)?),
            Reply::Json(text) => into.set(index, text),
            Reply::Bool(answer) => into.set(index, answer),
            Reply::Word(word) => into.set(index, word),
            Reply::Number(number) => into.set(index, number),
            Reply::Texts(texts) => into.set(index, texts),
            Reply::Lock(lock) => into.set(index, Held::handle(lock)),
            Reply::Exec(result, texts) => {
                let mut object = Object::new(env)?;
                object.set("rowsAffected", result.rows_affected as f64)?;
                object.set("rows", groups(env, &result.rows, texts)?)?;
                into.set(index, object)
            }
            Reply::Receipt(receipt, texts) => {
                let mut object = Object::new(env)?;
                object.set("opId", receipt.op_id())?;
                object.set("durability", receipt.durability)?;
                object.set("rowsAffected", receipt.rows_affected as f64)?;
                object.set("rows", groups(env, &receipt.rows, texts)?)?;
                object.set("cached", receipt.cached)?;
                into.set(index, object)
            }
            Reply::Accepted(receipt) => {
                let mut object = Object::new(env)?;
                object.set("durability", receipt.durability)?;
                object.set("cached", receipt.cached)?;
                object.set("accepted", Accepted::handle(receipt))?;
                into.set(index, object)
            }
            Reply::Opened { engine, int8, timestamps, journal } => {
                let mut object = Object::new(env)?;
                let engine = wrap(engine);
                let Shown { turns, trust, slip } = engine.shown();
                object.set("turns", turns)?;
                object.set("trust", trust)?;
                object.set("slip", slip)?;
                object.set("l1MaxCost", engine.zmsg().config().l1_max_cost as f64)?;
                object.set("engine", External::new(engine))?;
                object.set("int8", int8)?;
                object.set("timestamps", timestamps)?;
                object.set("journal", journal)?;
                into.set(index, object)
            }
        }
    }
}

fn begun_of<'env>(env: &'env Env, begun: Begun) -> Result<Object<'env>> {
    let mut object = Object::new(env)?;
    let (found, data, guard) = match begun {
        Begun::Found(data) => (true, data, None),
        Begun::Refresh(data, guard) => (true, data, Some(guard)),
        Begun::Load(guard) => (false, None, Some(guard)),
    };
    object.set("found", found)?;
    put_bytes(env, &mut object, data)?;
    if let Some(guard) = guard {
        if let Some(soft) = guard.soft_timeout() {
            object.set("softMs", soft.as_secs_f64() * 1e3)?;
        }
        object.set("load", Load::handle(guard))?;
    }
    Ok(object)
}

fn put_bytes(env: &Env, object: &mut Object<'_>, data: Option<Bytes>) -> Result<()> {
    match data {
        Some(bytes) => object.set("value", buffer(env, &bytes)?),
        None => Ok(()),
    }
}

fn many<'env>(env: &'env Env, found: &[Option<Bytes>]) -> Result<Array<'env>> {
    let mut array = env.create_array(found.len() as u32)?;
    for (index, bytes) in found.iter().enumerate() {
        if let Some(bytes) = bytes {
            array.set(index as u32, buffer(env, bytes)?)?;
        }
    }
    Ok(array)
}

fn letters_of<'env>(env: &'env Env, letters: &[DeadLetter]) -> Result<Array<'env>> {
    let mut array = env.create_array(letters.len() as u32)?;
    for (index, letter) in letters.iter().enumerate() {
        let mut object = Object::new(env)?;
        object.set("id", i64n(letter.id))?;
        object.set("path", letter.path.as_str())?;
        object.set("opId", letter.op_id.as_str())?;
        put_text(&mut object, "key", letter.key.as_deref())?;
        object.set("statement", letter.statement.as_str())?;
        put_text(&mut object, "sqlstate", letter.sqlstate.as_deref())?;
        object.set("message", letter.message.as_str())?;
        object.set("deadAt", letter.dead_at.as_str())?;
        array.set(index as u32, object)?;
    }
    Ok(array)
}

/// A text or null, as reports have it; napi would leave the property out.
fn put_text(object: &mut Object<'_>, name: &str, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) => object.set(name, text),
        None => object.set(name, Null),
    }
}

/// Parameters as `{ kinds, values }`, each with a letter of its own.
pub fn parameters<'env>(env: &'env Env, parameters: &[Value]) -> Result<Object<'env>> {
    kinds_and_values(env, parameters, false, false)
}

/// One value in the form of parameters. Nothing says how wide the column of an integer is, so that each counts as wide.
fn single<'env>(env: &'env Env, value: &Value, texts: bool) -> Result<Object<'env>> {
    kinds_and_values(env, std::slice::from_ref(value), true, texts)
}

fn kinds_and_values<'env>(env: &'env Env, list: &[Value], wide: bool, texts: bool) -> Result<Object<'env>> {
    let mut values = env.create_array(list.len() as u32)?;
    for (index, value) in list.iter().enumerate() {
        put_value(env, &mut values, index as u32, value, texts)?;
    }
    let kinds: String = list.iter().map(|value| kind_of(value, wide).unwrap_or('-')).collect();
    let mut object = Object::new(env)?;
    object.set("kinds", kinds)?;
    object.set("values", values)?;
    Ok(object)
}

/// Rows with the same columns and the same kinds of values, one after another.
struct Group<'rows> {
    rows: &'rows [Row],
    kinds: Vec<Option<char>>,
}

/// Rows as an array of `{ columns, kinds, values }`.
fn groups<'env>(env: &'env Env, rows: &[Row], texts: bool) -> Result<Array<'env>> {
    let mut array = env.create_array(0)?;
    let mut rest = rows;
    let mut index = 0;
    while !rest.is_empty() {
        let group = Group::first_of(rest);
        rest = &rest[group.rows.len()..];
        array.set(index, group.to_js(env, texts)?)?;
        index += 1;
    }
    Ok(array)
}

impl<'rows> Group<'rows> {
    fn first_of(rows: &'rows [Row]) -> Group<'rows> {
        let wide = rows[0].wide.clone();
        let mut kinds = vec![None; rows[0].values.len()];
        let fitting = rows
            .iter()
            .take_while(|row| row.columns == rows[0].columns && merge(&mut kinds, row, &wide))
            .count();
        Group { rows: &rows[..fitting], kinds }
    }

    fn to_js<'env>(&self, env: &'env Env, texts: bool) -> Result<Object<'env>> {
        let names = &self.rows[0].columns;
        let mut columns = env.create_array(names.len() as u32)?;
        for (index, name) in names.iter().enumerate() {
            columns.set(index as u32, &**name)?;
        }
        let mut values = env.create_array((self.rows.len() * names.len()) as u32)?;
        for (index, value) in self.rows.iter().flat_map(|row| &row.values).enumerate() {
            put_value(env, &mut values, index as u32, value, texts)?;
        }
        let mut object = Object::new(env)?;
        object.set("columns", columns)?;
        object.set("kinds", self.kinds.iter().map(|kind| kind.unwrap_or('-')).collect::<String>())?;
        object.set("values", values)?;
        Ok(object)
    }
}

/// Adds a row to the kinds if it fits; a null fits anything.
fn merge(kinds: &mut [Option<char>], row: &Row, wide: &[bool]) -> bool {
    let found = |index: usize| kind_of(&row.values[index], wide.get(index).copied().unwrap_or(true));
    let fits = kinds.iter().enumerate().all(|(index, kind)| match (kind, found(index)) {
        (Some(kind), Some(found)) => *kind == found,
        _ => true,
    });
    if fits {
        for (index, kind) in kinds.iter_mut().enumerate().filter(|(_, kind)| kind.is_none()) {
            *kind = found(index);
        }
    }
    fits
}

/// The letter that `values.ts` decodes by; a list has that of its elements.
fn kind_of(value: &Value, wide: bool) -> Option<char> {
    Some(match value {
        Value::Null => return None,
        Value::Int(_) if wide => 'w',
        Value::Int(_) => 'v',
        Value::Bool(_) | Value::Float(_) | Value::Decimal(_) | Value::Text(_) | Value::Bytes(_) => 'v',
        Value::Uuid(_) | Value::Date(_) | Value::Time(_) | Value::Interval { .. } => 'v',
        Value::Timestamp(_) | Value::TimestampTz(_) => 't',
        Value::List(items) => return items.iter().find_map(|item| kind_of(item, wide)),
        Value::Json(_) => 'j',
    })
}

/// `texts`: timestamps as text; else as microseconds.
fn put_value(env: &Env, into: &mut Array<'_>, index: u32, value: &Value, texts: bool) -> Result<()> {
    match value {
        Value::Null => into.set(index, Null),
        Value::Bool(it) => into.set(index, *it),
        Value::Int(it) => put_int(into, index, *it),
        Value::Timestamp(it) | Value::TimestampTz(it) if !texts => put_int(into, index, *it),
        Value::Float(it) => into.set(index, *it),
        Value::Decimal(it) => into.set(index, it.as_str()),
        Value::Text(it) | Value::Json(it) => into.set(index, &**it),
        Value::Bytes(it) => into.set(index, buffer(env, it)?),
        Value::List(items) => {
            let mut array = env.create_array(items.len() as u32)?;
            for (place, item) in items.iter().enumerate() {
                put_value(env, &mut array, place as u32, item, texts)?;
            }
            into.set(index, array)
        }
        // Dates, times, uuids and the like: their ISO text, which the core writes in quotes for JSON.
        other => into.set(index, value_to_json(other).map_err(to_js)?.trim_matches('"')),
    }
}

/// A number where it is exact, else a bigint; `values.ts` makes what the configuration asks for.
fn put_int(into: &mut Array<'_>, index: u32, value: i64) -> Result<()> {
    const MAX_SAFE: i64 = 9_007_199_254_740_991;
    if (-MAX_SAFE..=MAX_SAFE).contains(&value) {
        into.set(index, value as f64)
    } else {
        into.set(index, i64n(value))
    }
}
