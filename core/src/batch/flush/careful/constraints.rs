//! When deferred constraints speak. Left alone they do so at COMMIT, where one refusal takes the whole batch with it; asked
//! at every statement they refuse what is only right as a whole. So they are asked behind each group of statements, and
//! then put back to what they were.

use crate::base::Deadline;
use crate::error::Result;
use crate::sql::{Rendered, sql};
use crate::store::Store;
use crate::value::Value;

/// The constraints that can be deferred, and whether they are from the start.
const QUESTION: &str = "SELECT c.condeferred, quote_ident(n.nspname) || '.' || quote_ident(c.conname) \
     FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace \
     WHERE c.condeferrable AND NOT pg_is_other_temp_schema(n.oid) AND has_schema_privilege(n.oid, 'USAGE') GROUP BY 1, 2";

/// What asks them, followed by what puts them back; nothing where nothing is deferred.
#[derive(Default)]
pub(super) struct Constraints(Vec<Rendered>);

impl Constraints {
    pub(super) async fn of(store: &dyn Store, deadline: Deadline) -> Result<Constraints> {
        let rows = store.query(&sql(QUESTION, &[])?, deadline).await?;
        let (mut deferred, mut at_once) = (false, Vec::new());
        for row in &rows {
            match &row.values[..] {
                [Value::Bool(true), _] => deferred = true,
                [_, Value::Text(name)] => at_once.push(&**name),
                _ => {}
            }
        }
        if !deferred {
            return Ok(Constraints::default());
        }
        let say = |text: &str| Rendered { sql: text.into(), params: [].into() };
        let mut words = vec![say("SET CONSTRAINTS ALL IMMEDIATE"), say("SET CONSTRAINTS ALL DEFERRED")];
        if !at_once.is_empty() {
            words.push(say(&format!("SET CONSTRAINTS {} IMMEDIATE", at_once.join(", "))));
        }
        Ok(Constraints(words))
    }

    /// The statements, and behind them those that ask.
    pub(super) fn behind(&self, statements: &[Rendered]) -> Vec<Rendered> {
        statements.iter().chain(&self.0).cloned().collect()
    }

    /// Whether the statement of this index is one that puts them back: what it says is not about the statements.
    pub(super) fn is_putting_back(&self, index: usize, statements: usize) -> bool {
        index > statements && !self.0.is_empty()
    }
}
