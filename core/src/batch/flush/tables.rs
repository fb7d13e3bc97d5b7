//! What the catalogue says of the tables that batches change: the types of their columns, and what has an index.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::Deadline;
use crate::error::Result;
use crate::sql::{Name, sql};
use crate::store::Store;
use crate::value::Value;

/// Tables remembered; at the bound all are forgotten.
const MOST: usize = 1_024;

/// One table: its columns by name. Without columns it is not there.
#[derive(Debug, Default)]
pub(in crate::batch) struct Table {
    columns: HashMap<Box<str>, Column>,
}

/// One column.
#[derive(Debug, Clone)]
pub(in crate::batch) struct Column {
    /// As a cast writes it.
    pub ty: Box<str>,
    /// Whether two texts that differ are never equal there.
    pub exact: bool,
    /// Whether an index begins with it.
    pub leads: bool,
    /// Whether there is one row at most of each value.
    pub unique: bool,
    /// Whether a row that does not give it has something else than NULL there.
    pub defaults: bool,
}

/// What was read so far; forgotten when a statement was refused, since the schema may have changed.
#[derive(Default)]
pub(in crate::batch) struct Tables(Mutex<HashMap<Box<str>, Arc<Table>>>);

const QUESTION: &str = "SELECT a.attname::text, format_type(a.atttypid, -1), COALESCE(c.collisdeterministic, true), \
     EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum), \
     EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum \
     AND i.indisunique AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL \
     AND i.indcollation[0] = a.attcollation), \
     a.atthasdef \
     FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation \
     WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped";

impl Table {
    pub(in crate::batch) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }
}

impl Column {
    /// Whether different arguments of this type never mean the same row.
    pub(in crate::batch) fn tells_apart(&self, type_name: &str) -> bool {
        let ty = &*self.ty;
        match type_name {
            "int" => matches!(ty, "smallint" | "integer" | "bigint"),
            "text" => matches!(ty, "text" | "character varying") && self.exact,
            "uuid" => ty == "uuid",
            "bytes" => ty == "bytea",
            "date" => ty == "date",
            _ => false,
        }
    }
}

impl Tables {
    pub(in crate::batch) fn forget(&self) {
        self.0.lock().clear();
    }

    /// From memory, or asked now.
    pub(in crate::batch) async fn get(
        &self,
        store: &dyn Store,
        name: &Name,
        deadline: Deadline,
    ) -> Result<Arc<Table>> {
        if let Some(known) = self.0.lock().get(name.quoted()) {
            return Ok(known.clone());
        }
        let question = sql(QUESTION, &[Value::text(name.quoted())])?;
        let mut table = Table::default();
        let rows = match store.query(&question, deadline).await {
            // The name is of another database, or of a schema that may not be looked into. Whoever uses it is told why.
            Err(error) if matches!(error.sqlstate(), Some("0A000" | "42501" | "42601" | "42602")) => Vec::new(),
            answer => answer?,
        };
        for row in rows {
            if let [
                Value::Text(name),
                Value::Text(ty),
                Value::Bool(exact),
                Value::Bool(leads),
                Value::Bool(unique),
                Value::Bool(defaults),
            ] = &row.values[..]
            {
                let (ty, exact, leads) = ((&**ty).into(), *exact, *leads);
                let column = Column { ty, exact, leads, unique: *unique, defaults: *defaults };
                table.columns.insert((&**name).into(), column);
            }
        }
        let table = Arc::new(table);
        let mut known = self.0.lock();
        if known.len() >= MOST {
            known.clear();
        }
        // A table that is not there yet may be made any moment.
        if !table.columns.is_empty() {
            known.insert(name.quoted().into(), table.clone());
        }
        Ok(table)
    }
}
