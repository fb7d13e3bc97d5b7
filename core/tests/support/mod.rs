//! What the integration tests share: a database and a Redis namespace of its own for every test.
//!
//! The servers are named by `ZMSG_POSTGRES_DSN`, `ZMSG_REDIS_ADDR` and `ZMSG_QUEUE__ADDR`. A missing one fails the test that needs it.

// Each test program uses a part of this.
#![allow(dead_code, unused_imports, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use zmsg_core::base::Deadline;
use zmsg_core::sql::Task;
use zmsg_core::store::Store;
use zmsg_core::store::postgres::{PostgresSettings, PostgresStore};
use zmsg_core::value::Value;

pub mod engine;
pub mod history;
pub mod process;
pub mod proxy;
pub mod servers;

/// A database that is dropped with this, if it is on a server that others use.
pub struct TestDatabase {
    /// Reaches it.
    pub dsn: String,
    admin_dsn: String,
    name: String,
    dropped: bool,
}

/// A new, empty database.
pub async fn database() -> TestDatabase {
    let admin_dsn = server("ZMSG_POSTGRES_DSN", "postgresql://postgres@localhost/postgres");
    let name = unique("zmsg_test");
    admin(&admin_dsn, &format!("CREATE DATABASE {name}")).await;
    TestDatabase { dsn: with_database(&admin_dsn, &name), admin_dsn, name, dropped: true }
}

/// A new, empty database on a server of the test's own, which takes it along when it ends.
pub async fn database_on(server: &servers::PostgresServer) -> TestDatabase {
    let (admin_dsn, name) = (server.dsn.clone(), unique("zmsg_test"));
    admin(&admin_dsn, &format!("CREATE DATABASE {name}")).await;
    TestDatabase { dsn: with_database(&admin_dsn, &name), admin_dsn, name, dropped: false }
}

/// Where the Redis of the tests is.
pub fn redis_addr() -> String {
    server("ZMSG_REDIS_ADDR", "localhost:6379")
}

/// Where the Redis of the queue is.
pub fn queue_addr() -> String {
    server("ZMSG_QUEUE__ADDR", "localhost:6380")
}

/// A Redis namespace that no other test has.
pub fn namespace() -> String {
    unique("zmsg_test")
}

/// Time enough for anything that works.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A task that is known to be well-formed.
pub fn task(text: &str, params: &[Value]) -> Task {
    zmsg_core::sql::sql(text, params).expect("the test's SQL is well-formed")
}

impl TestDatabase {
    /// A store on it, with the engine's own tables.
    pub async fn store(&self) -> PostgresStore {
        self.store_with(|_| {}).await
    }

    /// The same, with other settings.
    pub async fn store_with(&self, change: impl FnOnce(&mut PostgresSettings)) -> PostgresStore {
        let mut settings = PostgresSettings::new(&self.dsn);
        change(&mut settings);
        let store = PostgresStore::connect(settings).await.expect("the server can be reached");
        store.open_own_tables(true, soon()).await.expect("the engine's own tables can be made");
        store
    }

    /// A copy as `CREATE DATABASE … TEMPLATE` makes it. Whoever is connected to the original is thrown out.
    pub async fn copy(&self) -> TestDatabase {
        let (admin_dsn, name) = (self.admin_dsn.clone(), unique("zmsg_copy"));
        let admin = connect(&admin_dsn).await;
        // With new connections forbidden nobody comes back in between.
        let alone = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name);
        admin.batch_execute(&alone).await.expect("alone");
        let throw_out = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        let copy = format!("CREATE DATABASE {name} TEMPLATE {}", self.name);
        while admin.query_one(&throw_out, &[]).await.expect("thrown out").get::<_, i64>(0) > 0 {}
        admin.batch_execute(&copy).await.expect("copied");
        for name in [&self.name, &name] {
            let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
            admin.batch_execute(&open).await.expect("open again");
        }
        TestDatabase { dsn: with_database(&admin_dsn, &name), admin_dsn, name, dropped: self.dropped }
    }

    /// A plain connection, to look from outside.
    pub async fn client(&self) -> Client {
        connect(&self.dsn).await
    }

    /// The same DSN with another `host:port`, and without TLS, so that a proxy can read along.
    pub fn dsn_through(&self, address: std::net::SocketAddr) -> String {
        let config: tokio_postgres::Config = self.dsn.parse().expect("a DSN");
        let user = config.get_user().unwrap_or("postgres");
        let password =
            config.get_password().map(|it| String::from_utf8_lossy(it).into_owned()).unwrap_or_default();
        let (host, port, name) = (address.ip(), address.port(), &self.name);
        let password = if password.is_empty() { password } else { format!("password='{password}'") };
        format!("host={host} port={port} user='{user}' {password} dbname={name} sslmode=disable")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if !self.dropped {
            return;
        }
        let (dsn, name) = (self.admin_dsn.clone(), self.name.clone());
        // The test's runtime may be the one that is ending, so this one is its own.
        let dropping = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let end = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
                );
                admin(&dsn, &end).await;
                admin(&dsn, &format!("DROP DATABASE IF EXISTS {name}")).await;
            });
        });
        let _ = dropping.join();
    }
}

fn server(variable: &str, example: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set; run the tests through `make test`, or name a server, e.g. {variable}={example}")
    })
}

fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{}_{number}_{:08x}", std::process::id(), fastrand::u32(..))
}

async fn connect(dsn: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(dsn, NoTls).await.expect("the test server can be reached");
    tokio::spawn(connection);
    client
}

async fn admin(dsn: &str, statement: &str) {
    connect(dsn)
        .await
        .batch_execute(statement)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}

/// The DSN with another database, in its own form.
fn with_database(dsn: &str, name: &str) -> String {
    let Some((scheme, rest)) = dsn.split_once("://") else { return format!("{dsn} dbname={name}") };
    let (place, query) =
        rest.split_once('?').map_or((rest, String::new()), |(it, query)| (it, format!("?{query}")));
    let server = place.split_once('/').map_or(place, |(server, _)| server);
    format!("{scheme}://{server}/{name}{query}")
}
