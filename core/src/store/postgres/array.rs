//! Lists as PostgreSQL arrays and back: rectangular, of one element type, with NULLs.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::decode;
use super::encode::{Bytes, Param, Refuse, base_type, encode_as};
use crate::error::Result;
use crate::value::Value;

const MAX_DIMENSIONS: usize = 6;

/// Encodes a list: binary if its elements are, as a text literal if they are text.
pub(super) fn encode(items: &[Value], element: &Type, refuse: Refuse<'_>) -> Result<Param> {
    if let Some(plain) = integers(items, element) {
        return Ok(plain);
    }
    let mut dimensions = Vec::new();
    let mut flat = Vec::new();
    flatten(items, 0, &mut dimensions, &mut flat, refuse)?;
    let inner = base_type(element);
    let whole = |why: &str| {
        if why.is_empty() { refuse("an element of the list is of another type") } else { refuse(why) }
    };
    let params = flat.into_iter().map(|value| encode_as(value, inner, &whole)).collect::<Result<Vec<_>>>()?;
    if params.is_empty() {
        dimensions.clear();
    }
    let is_text = |param: &Param| param.bytes.as_slice().map(|_| param.text);
    match (params.iter().filter_map(is_text).any(|it| it), params.iter().filter_map(is_text).any(|it| !it)) {
        (true, true) => Err(refuse("the list mixes text with other values")),
        (true, false) => Ok(literal(&dimensions, &params)),
        (false, _) => binary(&dimensions, &params, element, refuse),
    }
}

/// What batches are made of goes without a parameter per element: integers, none of them NULL, as `int8[]`.
fn integers(items: &[Value], element: &Type) -> Option<Param> {
    let length = i32::try_from(items.len()).ok().filter(|length| *length > 0 && *element == Type::INT8)?;
    let mut out = Vec::with_capacity(20 + items.len() * 12);
    // One dimension, no NULL, the type; its length, from 1 on.
    let head = [1, 0, element.oid() as i32, length, 1];
    head.iter().for_each(|word| out.extend(word.to_be_bytes()));
    for item in items {
        let Value::Int(number) = item else { return None };
        out.extend(8_i32.to_be_bytes());
        out.extend(number.to_be_bytes());
    }
    Some(Param { bytes: Bytes::Owned(out), text: false })
}

/// Collects the elements of a rectangular list, and how long it is in each dimension.
fn flatten<'a>(
    items: &'a [Value],
    depth: usize,
    dimensions: &mut Vec<usize>,
    flat: &mut Vec<&'a Value>,
    refuse: Refuse<'_>,
) -> Result<()> {
    if depth == MAX_DIMENSIONS {
        return Err(refuse("the list is nested more than 6 deep"));
    }
    match dimensions.get(depth) {
        // A shorter path has already met elements at this depth.
        None if !flat.is_empty() => return Err(refuse("the nested lists are not rectangular")),
        None => dimensions.push(items.len()),
        Some(length) if *length != items.len() => return Err(refuse("the nested lists are not rectangular")),
        Some(_) => {}
    }
    for item in items {
        match item {
            Value::List(inner) => flatten(inner, depth + 1, dimensions, flat, refuse)?,
            _ if dimensions.len() > depth + 1 => return Err(refuse("the nested lists are not rectangular")),
            value => flat.push(value),
        }
    }
    Ok(())
}

/// Dimension count, NULL flag, element type, each dimension's length and lower bound, then each length and bytes.
fn binary(dimensions: &[usize], params: &[Param], element: &Type, refuse: Refuse<'_>) -> Result<Param> {
    let word = |length: usize| i32::try_from(length).map_err(|_| refuse("the list is too long"));
    let nulls = params.iter().any(|param| param.bytes.as_slice().is_none());
    let mut out = Vec::with_capacity(20 + params.len() * 12);
    out.extend(word(dimensions.len())?.to_be_bytes());
    out.extend(i32::from(nulls).to_be_bytes());
    out.extend(element.oid().to_be_bytes());
    for length in dimensions {
        out.extend(word(*length)?.to_be_bytes());
        out.extend(1_i32.to_be_bytes());
    }
    for param in params {
        match param.bytes.as_slice() {
            None => out.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                out.extend(word(bytes.len())?.to_be_bytes());
                out.extend_from_slice(bytes);
            }
        }
    }
    Ok(Param { bytes: Bytes::Owned(out), text: false })
}

/// `{"a",NULL}`: every element quoted, so that none is read as NULL or as syntax.
fn literal(dimensions: &[usize], params: &[Param]) -> Param {
    let mut out = Vec::new();
    push_literal(dimensions, params, &mut out);
    Param { bytes: Bytes::Owned(out), text: true }
}

fn push_literal(dimensions: &[usize], params: &[Param], out: &mut Vec<u8>) {
    let Some((length, inner)) = dimensions.split_first() else {
        match params.first().and_then(|param| param.bytes.as_slice()) {
            None => out.extend_from_slice(b"NULL"),
            Some(bytes) => {
                out.push(b'"');
                for byte in bytes {
                    if matches!(byte, b'"' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(*byte);
                }
                out.push(b'"');
            }
        }
        return;
    };
    out.push(b'{');
    for (index, part) in params.chunks((params.len() / length).max(1)).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_literal(inner, part, out);
    }
    out.push(b'}');
}

/// Decodes the binary form; `None` if the bytes are not an array.
pub(super) fn decode(raw: &[u8], element: &Type) -> Option<Value> {
    let mut raw = raw;
    let count = usize::try_from(take_i32(&mut raw)?).ok()?;
    take_i32(&mut raw)?;
    take_i32(&mut raw)?;
    if count > MAX_DIMENSIONS {
        return None;
    }
    let mut dimensions = Vec::with_capacity(count);
    for _ in 0..count {
        dimensions.push(usize::try_from(take_i32(&mut raw)?).ok()?);
        take_i32(&mut raw)?;
    }
    if dimensions.is_empty() {
        return Some(Value::List(Arc::new([])));
    }
    decode_level(&dimensions, &mut raw, element)
}

fn decode_level(dimensions: &[usize], raw: &mut &[u8], element: &Type) -> Option<Value> {
    let Some((length, inner)) = dimensions.split_first() else { return decode_element(raw, element) };
    let items = (0..*length).map(|_| decode_level(inner, raw, element)).collect::<Option<Vec<_>>>()?;
    Some(Value::List(items.into()))
}

fn decode_element(raw: &mut &[u8], element: &Type) -> Option<Value> {
    let length = take_i32(raw)?;
    let Ok(length) = usize::try_from(length) else { return Some(Value::Null) };
    let (bytes, rest) = raw.split_at_checked(length)?;
    *raw = rest;
    decode::value(element, bytes)
}

fn take_i32(raw: &mut &[u8]) -> Option<i32> {
    let (word, rest) = raw.split_first_chunk::<4>()?;
    *raw = rest;
    Some(i32::from_be_bytes(*word))
}
