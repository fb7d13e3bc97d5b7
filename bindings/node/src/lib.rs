#![allow(missing_docs)]
mod completions;
mod engine;
mod errors;
mod logs;
mod replies;
mod runtime;
mod values_in;
