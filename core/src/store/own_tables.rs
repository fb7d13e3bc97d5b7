//! The engine's own tables: which migrations they have, and whether a database is up to date.

use crate::error::{Error, Result};
use crate::store::migrations::Migration;

/// Names of the engine's own migrations begin with this; nobody else's may.
pub(crate) const PREFIX: &str = "zmsg:";

/// The engine's own migrations in order. An applied file is never changed; a new one is added.
pub(crate) fn own_migrations() -> Vec<Migration> {
    let files = [
        ("zmsg:0001_base.sql", include_str!("own/0001_base.sql")),
        ("zmsg:0002_batch.sql", include_str!("own/0002_batch.sql")),
    ];
    files.into_iter().map(|(name, text)| Migration::own(name, text)).collect()
}

/// What open says when the tables are not there and may not be made.
pub(crate) fn missing(names: &[String]) -> Error {
    Error::config(format!(
        "the engine's own tables are not up to date in this database; open once with auto_migrate: true as a role that \
         may create tables (missing: {})",
        names.join(", ")
    ))
}

/// Refuses a user's migration whose name would look like one of ours.
pub(crate) fn refuse_reserved(name: &str) -> Result<()> {
    if name.starts_with(PREFIX) {
        return Err(Error::config(format!(
            "the migration {name:?} has a reserved name; rename it so that it does not begin with {PREFIX:?}"
        )));
    }
    Ok(())
}
