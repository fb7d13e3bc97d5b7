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
        ("zmsg:0003_queue.sql", include_str!("own/0003_queue.sql")),
        ("zmsg:0004_letters.sql", include_str!("own/0004_letters.sql")),
        ("zmsg:0005_bloom.sql", include_str!("own/0005_bloom.sql")),
        ("zmsg:0006_outbox.sql", include_str!("own/0006_outbox.sql")),
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

/// The rights that the role lacks at run time, as GRANT writes them.
pub(crate) const LACKING: &str = "SELECT right_of || ' ON ' || what || name FROM (VALUES \
     ('SELECT', '', 'zmsg_identity'), ('SELECT', '', 'zmsg_nodes'), ('UPDATE', '', 'zmsg_nodes'), \
     ('SELECT', '', 'zmsg_journals'), ('INSERT', '', 'zmsg_journals'), ('UPDATE', '', 'zmsg_journals'), \
     ('DELETE', '', 'zmsg_journals'), ('SELECT', '', 'zmsg_dead'), ('INSERT', '', 'zmsg_dead'), \
     ('DELETE', '', 'zmsg_dead'), ('SELECT', '', 'zmsg_done'), ('INSERT', '', 'zmsg_done'), \
     ('UPDATE', '', 'zmsg_done'), ('SELECT', '', 'zmsg_bloom'), ('INSERT', '', 'zmsg_bloom'), \
     ('UPDATE', '', 'zmsg_bloom'), \
     ('DELETE', '', 'zmsg_done'), ('SELECT', '', 'zmsg_outbox'), ('INSERT', '', 'zmsg_outbox'), \
     ('UPDATE', '', 'zmsg_outbox'), ('DELETE', '', 'zmsg_outbox'), ('USAGE', 'SEQUENCE ', 'zmsg_ver')) AS needed (right_of, what, name) \
     WHERE NOT CASE what WHEN '' THEN has_table_privilege(name, right_of) ELSE has_sequence_privilege(name, right_of) END";

/// What open says when the role may not use them.
pub(crate) fn forbidden(lacking: &[String]) -> Error {
    Error::config(format!(
        "the database role may not use the engine's own tables: it lacks {}; grant it SELECT, INSERT, UPDATE and DELETE on \
         the tables zmsg_* and USAGE on the sequence zmsg_ver",
        lacking.join(", ")
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
