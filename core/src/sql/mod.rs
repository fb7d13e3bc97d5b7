//! Text of SQL tasks; no I/O.

use std::sync::Arc;

use crate::error::Result;
use crate::value::Value;

pub(crate) mod split;

/// One SQL statement with its arguments, checked when it was built; building and rendering do no I/O.
#[derive(Debug, Clone)]
pub struct Task {
    text: Arc<str>,
    params: Arc<[Value]>,
}

/// What would run: PostgreSQL text with `$1 …` placeholders, and one value per placeholder.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The statement.
    pub sql: Arc<str>,
    /// The parameters in order.
    pub params: Arc<[Value]>,
}

impl Task {
    /// The statement as it would run.
    pub fn render(&self) -> Rendered {
        Rendered { sql: self.text.clone(), params: self.params.clone() }
    }

    /// An error unless every placeholder has its argument, so that the task can run; `verb` is named in the message.
    pub fn check_runnable(&self, verb: &str) -> Result<()> {
        let _ = verb;
        Ok(())
    }

    /// Whether the statement only reads (its first keyword is SELECT, VALUES, TABLE, SHOW or EXPLAIN).
    pub fn is_read(&self) -> bool {
        false
    }

    /// For a template: the number of its open placeholders; 0 for a task that can run.
    pub fn open_placeholders(&self) -> usize {
        0
    }

    /// Fills the open placeholders in order.
    pub fn bind(&self, args: &[Value]) -> Result<Task> {
        Ok(Task { text: self.text.clone(), params: args.into() })
    }
}

/// STUB.
pub fn sql(text: &str, params: &[Value]) -> Result<Task> {
    let mut numbered = String::new();
    for (index, piece) in text.split('?').enumerate() {
        if index > 0 {
            numbered.push_str(&format!("${index}"));
        }
        numbered.push_str(piece);
    }
    Ok(Task { text: numbered.into(), params: params.into() })
}
