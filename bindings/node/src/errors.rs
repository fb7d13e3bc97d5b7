//! The engine's errors on their way to JavaScript.
//!
//! An error crosses as one JSON text: inside a completion for asynchronous calls, as the message of the exception for
//! synchronous ones. `node/src/errors.ts` makes the instance of the right class from it, so that all of them are made
//! in one place.

use std::error::Error as StdError;

use serde_json::{Value as Json, json};
use zmsg_core::error::{CATALOGUE, Error};

/// How deep a chain of causes is told.
const MAX_CAUSES: usize = 8;

/// The error as JSON text.
pub fn to_text(error: &Error) -> String {
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source.filter(|_| causes.len() < MAX_CAUSES) {
        causes.push(Json::from(cause.to_string()));
        source = cause.source();
    }
    json!({
        "code": error.code(),
        "message": error.to_string(),
        "retryable": error.retryable(),
        "sqlstate": error.sqlstate(),
        "opId": error.op_id(),
        "causes": causes,
    })
    .to_string()
}

/// The error as an exception.
pub fn to_js(error: Error) -> napi::Error {
    napi::Error::from_reason(to_text(&error))
}

/// The catalogue of kinds as JSON text; the classes in TypeScript are checked against it.
pub fn catalogue() -> String {
    let lines = CATALOGUE.iter().map(|info| {
        json!({ "code": info.code, "class": info.class, "parent": info.parent, "retryable": info.retryable })
    });
    Json::from_iter(lines).to_string()
}
