//! JavaScript values as SQL parameters.
//!
//! `node/src/values.ts` has sorted out what a value is: primitives come as they are, arrays as arrays, everything else
//! as `{ t, v }` with a tag, and the marker `bind` as a symbol.

use napi::bindgen_prelude::{Array, BigInt, FromNapiValue, Object, Uint8Array, Unknown};
use napi::{JsValue, Result, ValueType};
use zmsg_core::error::{Error, Result as CoreResult};
use zmsg_core::sql::Arg;
use zmsg_core::value::Value;

use crate::errors::to_js;

/// Largest integer that a JavaScript number holds exactly.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// The array's elements.
pub fn values(array: &Array<'_>) -> Result<Vec<Value>> {
    (0..array.len())
        .map(|index| match array.get::<Unknown<'_>>(index)? {
            Some(element) => value(element),
            None => Ok(Value::Null),
        })
        .collect()
}

/// The array's elements, some of which may be the marker `bind`.
pub fn args(array: &Array<'_>) -> Result<Vec<Arg>> {
    (0..array.len())
        .map(|index| match array.get::<Unknown<'_>>(index)? {
            Some(element) if element.get_type()? == ValueType::Symbol => Ok(Arg::Open),
            Some(element) => value(element).map(Arg::Value),
            None => Ok(Arg::Value(Value::Null)),
        })
        .collect()
}

/// One value.
pub fn value(given: Unknown<'_>) -> Result<Value> {
    Ok(match given.get_type()? {
        ValueType::Null => Value::Null,
        ValueType::Boolean => Value::Bool(bool::from_unknown(given)?),
        ValueType::Number => number(f64::from_unknown(given)?).map_err(to_js)?,
        ValueType::BigInt => big(&BigInt::from_unknown(given)?).map_err(to_js)?,
        ValueType::String => Value::text(String::from_unknown(given)?),
        ValueType::Object => return object(given),
        other => return Err(to_js(Error::task(format!("a {other} cannot be an SQL argument")))),
    })
}

fn object(given: Unknown<'_>) -> Result<Value> {
    let object = Object::from_unknown(given)?;
    if object.is_array()? {
        return Ok(Value::List(values(&Array::from_unknown(given)?)?.into()));
    }
    let tag: String = object.get("t")?.unwrap_or_default();
    let missing = || to_js(Error::task("an SQL argument has no value"));
    match tag.as_str() {
        "json" => Ok(Value::Json(object.get::<String>("v")?.ok_or_else(missing)?.into())),
        "bytes" => {
            let bytes: Uint8Array = object.get("v")?.ok_or_else(missing)?;
            Ok(Value::bytes(bytes.as_ref()))
        }
        "date" => {
            let ms: f64 = object.get("v")?.ok_or_else(missing)?;
            Ok(Value::TimestampTz(ms as i64 * 1_000))
        }
        _ => Err(to_js(Error::task("an SQL argument is of no known type"))),
    }
}

fn number(given: f64) -> CoreResult<Value> {
    if given.fract() != 0.0 || !given.is_finite() {
        return Ok(Value::Float(given));
    }
    if given.abs() > MAX_SAFE {
        return Err(Error::task(
            "a number is beyond the integers that it holds exactly; give a bigint or a string",
        ));
    }
    Ok(Value::Int(given as i64))
}

fn big(given: &BigInt) -> CoreResult<Value> {
    match given.get_i64() {
        (value, true) => Ok(Value::Int(value)),
        _ => Err(Error::task(
            "a bigint argument does not fit into 64 bits; give a string for a numeric column",
        )),
    }
}
