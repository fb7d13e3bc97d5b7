//! Migrations on PostgreSQL.
//!
//! They run on a connection of their own that holds a session-level advisory lock. The lock is polled outside of any
//! transaction: a session that waits inside one holds a snapshot, and CREATE INDEX CONCURRENTLY of the other process
//! would wait for that snapshot for ever.
//!
//! A database that has had everything is only read: no lock is asked for. The lock is given back by name and not only
//! with the connection, since behind a pooler the server's session goes on.
//!
//! The deadline bounds waiting for the lock, and as much time again is given to each step of the bookkeeping. The
//! statements of the files have no bound: a migration takes the time it takes, and one that was stopped half-way because
//! its caller asked for short calls would never end. A server that is gone is found out by the socket's keepalives.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::connect::Connection;
use super::error::{Failure, Stage, refused};
use crate::base::Deadline;
use crate::base::backoff::Backoff;
use crate::base::clock::now;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::split::line_of;
use crate::sql::sql;
use crate::store::migrations::{Migration, MigrationReport, refuse_twins};
use crate::store::{Store, own_tables};
use crate::value::Value;

/// "zmsg" and a number, read as a big-endian integer; advisory locks are per database.
const LOCK: i64 = 0x7a6d_7367_0000_0001;
const TABLE_DDL: &str = include_str!("../own/0000_migrations.sql");
/// What a file may have changed in the session is put back before it is recorded, and so before the next one.
const FRESH_SESSION: &str = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; SET statement_timeout = 0";

/// See [`crate::store::Store::migrate`].
pub(super) async fn migrate(
    store: &PostgresStore,
    migrations: &[Migration],
    deadline: Deadline,
) -> Result<MigrationReport> {
    refuse_twins(migrations)?;
    run(store, migrations, false, deadline).await
}

/// See [`crate::store::Store::open_own_tables`].
pub(super) async fn open_own_tables(
    store: &PostgresStore,
    may_migrate: bool,
    deadline: Deadline,
) -> Result<()> {
    let own = own_tables::own_migrations();
    let session = Session::open(store, deadline).await?;
    let applied = match session.table().await? {
        Some(table) => session.applied(&table).await?,
        None => HashMap::new(),
    };
    session.warn_of_others().await?;
    drop(session);
    let mut missing = Vec::new();
    for migration in &own {
        match applied.get(migration.name()) {
            Some(checksum) => migration.unchanged(checksum)?,
            None => missing.push(migration.name().to_owned()),
        }
    }
    match (missing.is_empty(), may_migrate) {
        (true, _) => {}
        (false, true) => drop(run(store, &own, true, deadline).await?),
        (false, false) => return Err(own_tables::missing(&missing)),
    }
    check_rights(store, deadline).await
}

/// A right that is missing would be noticed when something is written that was acknowledged before.
async fn check_rights(store: &PostgresStore, deadline: Deadline) -> Result<()> {
    let rows = store.query(&sql(own_tables::LACKING, &[])?, deadline).await?;
    let lacking = rows.iter().filter_map(|row| match row.values.first() {
        Some(Value::Text(right)) => Some(right.to_string()),
        _ => None,
    });
    let lacking: Vec<String> = lacking.collect();
    if lacking.is_empty() { Ok(()) } else { Err(own_tables::forbidden(&lacking)) }
}

async fn run(
    store: &PostgresStore,
    migrations: &[Migration],
    make_table: bool,
    deadline: Deadline,
) -> Result<MigrationReport> {
    let session = Session::open(store, deadline).await?;
    session.batch(FRESH_SESSION).await?;
    if let Some(report) = session.nothing_due(migrations).await? {
        return Ok(report);
    }
    session.lock(deadline).await?;
    let applied = session.apply_all(migrations, make_table).await;
    // Left open, a failed file's transaction would refuse the unlocking; without one this is a warning of the server's.
    let unlock = format!("ROLLBACK; SELECT pg_advisory_unlock({LOCK})");
    if let Err(error) = session.batch(&unlock).await {
        // The lock ends with the session, which ends here.
        log::debug!("the migration lock could not be given back: {error}");
    }
    applied
}

struct Session {
    connection: Connection,
    /// For one step of the bookkeeping; the deadline may have passed while a file ran.
    step: Duration,
}

impl Session {
    async fn open(store: &PostgresStore, deadline: Deadline) -> Result<Session> {
        let step = deadline.remaining();
        Ok(Session { connection: store.pool.connect(deadline).await?, step })
    }

    async fn lock(&self, deadline: Deadline) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(250));
        let question = format!("SELECT pg_try_advisory_lock({LOCK})");
        loop {
            let rows = self.query(&question).await?;
            if rows.first().and_then(|row| row.try_get::<_, bool>(0).ok()) == Some(true) {
                return Ok(());
            }
            let pause = tokio::time::sleep(backoff.next_delay());
            deadline.run("waiting for another process that runs migrations", pause).await?;
        }
    }

    /// The report, if this database has had all of them.
    async fn nothing_due(&self, migrations: &[Migration]) -> Result<Option<MigrationReport>> {
        let Some(table) = self.table().await? else { return Ok(None) };
        let applied = self.applied(&table).await?;
        let mut report = MigrationReport::default();
        for migration in migrations {
            let Some(checksum) = applied.get(migration.name()) else { return Ok(None) };
            migration.unchanged(checksum)?;
            report.skipped.push(migration.name().to_owned());
        }
        Ok(Some(report))
    }

    async fn apply_all(&self, migrations: &[Migration], make_table: bool) -> Result<MigrationReport> {
        let mut table = self.table().await?;
        if table.is_none() && make_table {
            self.batch(TABLE_DDL).await?;
            table = self.table().await?;
        }
        let table = table.ok_or_else(|| own_tables::missing(&["zmsg_migrations".to_owned()]))?;
        let applied = self.applied(&table).await?;
        // Every file is checked before the first one runs.
        for migration in migrations {
            applied.get(migration.name()).map_or(Ok(()), |checksum| migration.unchanged(checksum))?;
        }
        let mut report = MigrationReport::default();
        for migration in migrations {
            if applied.contains_key(migration.name()) {
                report.skipped.push(migration.name().to_owned());
                continue;
            }
            self.apply(migration, &table).await?;
            report.applied.push(migration.name().to_owned());
        }
        Ok(report)
    }

    async fn apply(&self, migration: &Migration, table: &str) -> Result<()> {
        let started = now();
        let record = |started: std::time::Instant| {
            let took = now().saturating_duration_since(started).as_millis() as i64;
            self.record(migration, table, took)
        };
        if migration.without_transaction() {
            for (statement, line) in migration.statements()? {
                self.send(migration, statement, line).await?;
            }
            self.batch(FRESH_SESSION).await?;
            record(started).await
        } else {
            self.batch("BEGIN").await?;
            self.send(migration, migration.text(), 1).await?;
            self.batch(FRESH_SESSION).await?;
            record(started).await?;
            self.send(migration, "COMMIT", 0).await
        }
    }

    /// Sends a piece of a file as it is; `first_line` is where it begins, 0 for what is not in the file.
    async fn send(&self, migration: &Migration, text: &str, first_line: usize) -> Result<()> {
        let name = migration.name();
        self.connection.client().batch_execute(text).await.map_err(|error| match error.as_db_error() {
            None => Failure::from(error).error.with("migration", name),
            Some(refusal) => {
                let line = match refusal.position() {
                    Some(ErrorPosition::Original(at)) => Some(first_line.max(1) - 1 + line_at(text, *at)),
                    // Without a position, a statement sent by itself is still known.
                    _ => Some(first_line).filter(|_| migration.without_transaction()),
                };
                let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
                let told = refused(refusal, "the statement", Stage::Text);
                Error::new(told.kind(), format!("migration {name}{line}: {told}"))
                    .with_retryable(told.retryable())
                    .with_sqlstate(refusal.code().code())
            }
        })
    }

    async fn record(&self, migration: &Migration, table: &str, took_ms: i64) -> Result<()> {
        let insert = format!("INSERT INTO {table} (name, checksum, duration_ms) VALUES ($1, $2, $3)");
        let (name, checksum) = (migration.name(), migration.checksum());
        let params: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&name, Type::TEXT), (&checksum, Type::TEXT), (&took_ms, Type::INT8)];
        let recording = self.connection.client().execute_typed(&insert, params);
        let recorded = Deadline::after(self.step).run("recording a migration", recording).await?;
        recorded.map(drop).map_err(|error| Failure::from(error).error.with("migration", name))
    }

    /// The table of applied migrations with its schema, so that a file may change the search path.
    async fn table(&self) -> Result<Option<String>> {
        let question = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
                        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                        WHERE c.oid = to_regclass('zmsg_migrations')";
        Ok(self.query(question).await?.first().and_then(|row| row.try_get(0).ok()))
    }

    /// Ids are unique among those who share one zmsg_nodes; a database with several of them makes equal ids.
    async fn warn_of_others(&self) -> Result<()> {
        let question = "SELECT n.nspname::text, coalesce(own.relnamespace::regnamespace::text, current_schema()) \
                        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                        LEFT JOIN pg_catalog.pg_class own ON own.oid = to_regclass('zmsg_nodes') \
                        WHERE c.relname = 'zmsg_nodes' AND c.relkind IN ('r', 'p') AND c.oid IS DISTINCT FROM own.oid \
                        ORDER BY 1 LIMIT 1";
        if let Some(row) = self.query(question).await?.first() {
            let name = |at: usize| row.try_get::<_, Option<String>>(at).ok().flatten().unwrap_or_default();
            log::warn!(
                "this database has zmsg_nodes in the schema {:?} too, and this engine uses the one in {:?} by its \
                 search_path; ids made with the two may be equal",
                name(0),
                name(1)
            );
        }
        Ok(())
    }

    /// Checksums by name.
    async fn applied(&self, table: &str) -> Result<HashMap<String, String>> {
        let rows = self.query(&format!("SELECT name, checksum FROM {table}")).await?;
        let pair = |row: &tokio_postgres::Row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?));
        rows.iter().map(pair).collect::<Option<_>>().ok_or_else(|| {
            Error::new(
                ErrorKind::Store,
                format!("the table {table} does not look like one of zmsg; is its name taken?"),
            )
        })
    }

    async fn query(&self, text: &str) -> Result<Vec<tokio_postgres::Row>> {
        let reading = self.connection.client().query_typed(text, &[]);
        let answer = Deadline::after(self.step).run("reading the migrations", reading).await?;
        answer.map_err(|error| Failure::at(Stage::Text, error, text).error)
    }

    async fn batch(&self, text: &str) -> Result<()> {
        let running = self.connection.client().batch_execute(text);
        let answer = Deadline::after(self.step).run("running migrations", running).await?;
        answer.map_err(|error| Failure::at(Stage::Text, error, text).error)
    }
}

/// The line of the server's position, which counts characters from 1.
fn line_at(text: &str, position: u32) -> usize {
    let offset =
        text.char_indices().nth(position.saturating_sub(1) as usize).map_or(text.len(), |(at, _)| at);
    line_of(text, offset)
}
