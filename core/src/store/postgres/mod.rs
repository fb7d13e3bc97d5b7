//! PostgreSQL, version 12 and newer: tokio-postgres under a deadpool.
//!
//! | file | what it knows |
//! |---|---|
//! | `dsn`, `tls`, `connect` | how to reach a server, and what a session must be like |
//! | `pool` | who has which connection, and which ones nobody may have any more |
//! | `statement` | prepare, bind, run, several in one flight |
//! | `encode`, `array`, `decode`, `numeric` | values to parameters and columns to values |
//! | `single`, `transact`, `fate`, `tries` | what is tried again, and what became of a COMMIT |
//! | `session` | a transaction that its holder steps through |
//! | `migrate` | migrations |
//! | `listen` | LISTEN and NOTIFY |
//! | `error` | the driver's errors as ours |
//!
//! Invariants:
//! - No session state outlives a call (SET LOCAL only; a task that would change the session is refused, as far as its
//!   text shows it), so that PgBouncer may switch servers between transactions. A LISTEN does, and nothing leans on it.
//!   Prepared statements do outlive one: PgBouncer in transaction mode needs `max_prepared_statements` (1.21 or newer);
//!   an older one would run another client's statement of the same name.
//! - A connection that something was left running on, or that a cancel request was sent for, is closed, not pooled.
//! - Neither a DSN nor a parameter nor a server's DETAIL reaches a message or a log.
//!
//! A connection's life:
//! ```text
//! opened ─▶ idle ─ begin ─▶ in doubt ─ end ─▶ idle ─▶ …
//!                              ╰─ dropped, lost, late, cancelled ─▶ closed
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::base::Deadline;
use crate::base::clock::now;
use crate::config::{Config, Secret};
use crate::error::{Error, Result};
use crate::sql::Task;
use crate::store::migrations::{Migration, MigrationReport};
use crate::store::{
    Access, CommitHooks, Committed, ExecResult, Gone, PoolStats, StepFailure, Store, Transaction,
};
use crate::value::Row;

mod array;
mod connect;
mod decode;
mod dsn;
mod encode;
mod error;
mod fate;
mod listen;
mod migrate;
mod numeric;
mod pool;
mod session;
mod single;
mod statement;
mod tls;
mod transact;
mod tries;

pub(crate) use listen::Listening;
use single::Repeat;

/// How to reach a PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// URL or key=value words.
    pub dsn: Secret,
    /// Connections at most; at least 1.
    pub pool_size: usize,
    /// Time to open a connection, TLS and login included.
    pub connect_timeout: Duration,
    /// PEM file of the CA; the DSN's `sslrootcert` wins. Default: the system's.
    pub tls_ca: Option<PathBuf>,
    /// PEM file of the client certificate; the DSN's `sslcert` wins.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the client key; the DSN's `sslkey` wins.
    pub tls_key: Option<PathBuf>,
    /// Whether to succeed without having reached the server.
    pub lazy: bool,
}

impl PostgresSettings {
    /// A DSN and the defaults: 10 connections, 5 s.
    pub fn new(dsn: impl Into<String>) -> PostgresSettings {
        PostgresSettings {
            dsn: Secret::new(dsn),
            pool_size: 10,
            connect_timeout: Duration::from_secs(5),
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            lazy: false,
        }
    }
}

impl From<&Config> for PostgresSettings {
    fn from(config: &Config) -> PostgresSettings {
        PostgresSettings {
            dsn: config.postgres_dsn.clone(),
            pool_size: config.pool_size,
            connect_timeout: config.connect_timeout,
            tls_ca: config.tls_ca.clone(),
            tls_cert: config.tls_cert.clone(),
            tls_key: config.tls_key.clone(),
            lazy: config.start_degraded,
        }
    }
}

/// Which database a DSN means, without reaching it: its name, and `host:port/name` of all its servers.
///
/// # Errors
/// `Config` for a DSN that cannot be read.
pub(crate) fn database_of(dsn: &Secret) -> Result<(String, String)> {
    let parsed = dsn::parse(dsn.expose(), dsn::TlsFiles::default())?;
    let name = parsed.config.get_dbname().or(parsed.config.get_user()).unwrap_or("postgres").to_owned();
    let place = format!("{}/{name}", dsn::place(&parsed.config));
    Ok((name, place))
}

/// A [`Store`] on PostgreSQL.
pub struct PostgresStore {
    pool: pool::Pool,
}

impl PostgresStore {
    /// Reads the settings and, unless `lazy`, reaches the server once.
    ///
    /// Errors: `Config` for what cannot be read (never showing the DSN); `Store` naming host and port if the server
    /// cannot be reached within `connect_timeout`, or refuses.
    pub async fn connect(settings: PostgresSettings) -> Result<PostgresStore> {
        if settings.pool_size == 0 {
            return Err(Error::config("pool_size must be at least 1"));
        }
        let connector = connect::Connector::new(&settings)?;
        let store = PostgresStore { pool: pool::Pool::new(connector, settings.pool_size)? };
        if !settings.lazy {
            // The connector ends first and knows the server's name.
            store.pool.take(Deadline::after(settings.connect_timeout + Duration::from_secs(1))).await?;
        }
        Ok(store)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn execute_if(
        &self,
        task: &Task,
        wanted: &(dyn Fn() -> bool + Send + Sync),
        deadline: Deadline,
    ) -> Result<ExecResult> {
        single::run(self, task, Repeat::Never, wanted, Box::pin(std::future::pending()), deadline).await
    }

    async fn query_until(&self, task: &Task, gone: Gone<'_>, deadline: Deadline) -> Result<Vec<Row>> {
        Ok(single::run(self, task, Repeat::Freely, &|| true, gone, deadline).await?.rows)
    }

    async fn query_many(&self, tasks: &[Task], deadline: Deadline) -> Vec<Result<Vec<Row>>> {
        let answers = single::query_many(self, tasks, deadline).await;
        answers.into_iter().map(|answer| answer.map(|it| it.rows)).collect()
    }

    async fn transact(
        &self,
        tasks: &[Task],
        hooks: Arc<dyn CommitHooks>,
        deadline: Deadline,
    ) -> Result<Committed> {
        transact::transact(self, tasks, hooks, deadline).await
    }

    async fn begin(&self, access: Access, deadline: Deadline) -> Result<Box<dyn Transaction>, StepFailure> {
        session::begin(self, access, deadline).await
    }

    async fn ping(&self, deadline: Deadline) -> Result<Duration> {
        let mut lease = self.pool.take(deadline).await?;
        let started: Instant = now();
        deadline.run("waiting for PostgreSQL", lease.check()).await?.map_err(|failure| failure.error)?;
        Ok(now().saturating_duration_since(started))
    }

    fn pool_stats(&self) -> PoolStats {
        self.pool.stats()
    }

    async fn open_own_tables(&self, migrate: bool, deadline: Deadline) -> Result<()> {
        migrate::open_own_tables(self, migrate, deadline).await
    }

    async fn migrate(&self, migrations: &[Migration], deadline: Deadline) -> Result<MigrationReport> {
        migrate::migrate(self, migrations, deadline).await
    }

    async fn close(&self) {
        self.pool.close();
    }
}
