//! What the catalogue says of the tables that batches change: the types of their columns, and their indexes.

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
    /// The columns of each unique index over all rows.
    unique: Vec<Vec<Box<str>>>,
}

/// One column.
#[derive(Debug, Clone)]
pub(in crate::batch) struct Column {
    /// As a cast writes it.
    pub ty: Box<str>,
    /// The same with its length or scale: what is stored has it.
    pub whole: Box<str>,
    /// Whether two texts that differ are never equal there.
    pub exact: bool,
    /// Whether an index begins with it.
    pub leads: bool,
    /// Whether there is one row at most of each value.
    pub unique: bool,
    /// Whether a row that does not give it has something else than NULL there.
    pub defaults: bool,
}

/// What was read so far; forgotten by each flush and when a statement was refused, since the schema may have changed.
#[derive(Default)]
pub(in crate::batch) struct Tables(Mutex<HashMap<Box<str>, Arc<Table>>>);

const QUESTION: &str = "SELECT a.attname::text, format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod), \
     COALESCE(c.collisdeterministic, true), \
     EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum), \
     EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum \
     AND i.indisunique AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL \
     AND i.indcollation[0] = a.attcollation), \
     a.atthasdef \
     FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation \
     WHERE a.attrelid = to_regclass(?) AND a.attnum > 0 AND NOT a.attisdropped";

const UNIQUE: &str = "SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n) \
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts) \
     FROM pg_index i WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indisvalid AND i.indimmediate \
     AND i.indpred IS NULL AND i.indexprs IS NULL";

impl Table {
    /// Whether there is one row at most for values of these columns.
    pub(in crate::batch) fn is_unique(&self, columns: &[&str]) -> bool {
        self.unique.iter().any(|unique| unique.iter().all(|column| columns.contains(&&**column)))
    }

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
        let mut table = Table { columns: columns(store, name, deadline).await?, unique: Vec::new() };
        if !table.columns.is_empty() {
            let question = sql(UNIQUE, &[Value::text(name.quoted())])?;
            for row in store.query(&question, deadline).await? {
                if let [Value::List(names)] = &row.values[..] {
                    table.unique.push(names.iter().filter_map(text).collect());
                }
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

/// The columns by name; none if there is no such table.
async fn columns(store: &dyn Store, name: &Name, deadline: Deadline) -> Result<HashMap<Box<str>, Column>> {
    let question = sql(QUESTION, &[Value::text(name.quoted())])?;
    let rows = match store.query(&question, deadline).await {
        // The name is of another database, or of a schema that may not be looked into. Whoever uses it is told why.
        Err(error) if matches!(error.sqlstate(), Some("0A000" | "42501" | "42601" | "42602")) => Vec::new(),
        answer => answer?,
    };
    Ok(rows.iter().filter_map(|row| column(&row.values)).collect())
}

fn column(values: &[Value]) -> Option<(Box<str>, Column)> {
    match values {
        [
            name,
            ty,
            whole,
            Value::Bool(exact),
            Value::Bool(leads),
            Value::Bool(unique),
            Value::Bool(defaults),
        ] => {
            let (ty, whole, exact, leads) = (text(ty)?, text(whole)?, *exact, *leads);
            Some((text(name)?, Column { ty, whole, exact, leads, unique: *unique, defaults: *defaults }))
        }
        _ => None,
    }
}

fn text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::Text(text) => Some((&**text).into()),
        _ => None,
    }
}
