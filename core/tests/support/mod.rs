//! What tests share: a database and a namespace of their own on real servers.
//!
//! Each test binary uses a part of it.
#![allow(dead_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::NoTls;

/// A database that only this test knows.
pub struct TestDatabase {
    /// Where it is.
    pub dsn: String,
    name: String,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run `make test-rust`, or first: eval \"$(python3 tools/servers.py env)\"")
    })
}

fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The server's address for Redis.
pub fn redis_addr() -> String {
    variable("ZMSG_REDIS_ADDR")
}

/// A Redis namespace that only this test knows.
pub fn namespace() -> String {
    unique("test")
}

/// Makes a database.
pub async fn database() -> TestDatabase {
    let server = variable("ZMSG_POSTGRES_DSN");
    let name = unique("zmsg_test");
    admin(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    admin(&format!("CREATE DATABASE {name}")).await;
    let (before_query, query) = server.split_once('?').map_or((server.as_str(), String::new()), |(url, query)| (url, format!("?{query}")));
    let authority = before_query.find("://").map_or(0, |at| at + 3);
    let path = before_query[authority..].find('/').map_or(before_query.len(), |at| authority + at);
    TestDatabase { dsn: format!("{}/{name}{query}", &before_query[..path]), name }
}

impl TestDatabase {
    /// Drops it, whoever is still connected.
    pub async fn drop(self) {
        admin(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await;
    }
}

async fn admin(sql: &str) {
    let dsn = variable("ZMSG_POSTGRES_DSN");
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.expect("the test server can be reached");
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
