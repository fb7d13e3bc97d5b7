//! Servers of a test's own come back at their address with what they had.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::engine::{until, within};
use crate::support::process::{Start, answer, in_role, orders};
use crate::support::servers::{PostgresServer, RedisServer};
use crate::support::{database_on, soon, task};
use zmsg_core::store::Store;

#[tokio::test]
async fn a_killed_postgresql_comes_back_with_what_was_committed() {
    let mut server = PostgresServer::start().await;
    let database = database_on(&server).await;
    let client = database.client().await;
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.unwrap();
    let open = database.client().await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    for kill in [true, false] {
        if kill {
            server.kill()
        } else {
            server.stop_immediate().await
        }
        assert!(tokio_postgres::connect(&database.dsn, tokio_postgres::NoTls).await.is_err());
        server.start_again().await;
        let row = database.client().await.query_one("SELECT sum(n) FROM t", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 1);
    }
    assert!(client.batch_execute("SELECT 1").await.is_err(), "its connection died with the server");
}

#[tokio::test]
async fn a_frozen_postgresql_answers_when_it_thaws() {
    let mut server = PostgresServer::start().await;
    let database = database_on(&server).await;
    let store = database.store().await;
    let one = task("SELECT 1", &[]);
    let ask = || store.query(&one, soon());
    ask().await.unwrap();
    server.freeze();
    let silent = tokio::time::timeout(Duration::from_millis(100), ask()).await;
    assert!(silent.is_err(), "nobody answers");
    server.thaw();
    within(Duration::from_secs(10), "an answer after the thaw", async { ask().await.unwrap() }).await;
}

#[tokio::test]
async fn a_killed_redis_comes_back_with_what_it_was_told_to_keep() {
    for (settings, kept) in
        [(vec!["--appendonly", "yes", "--appendfsync", "always"], "$1\r\nv\r\n"), (vec![], "$-1\r\n")]
    {
        let mut server = RedisServer::start_with(&settings).await;
        assert_eq!(say(&server.addr, "SET k v").await, "+OK\r\n");
        server.kill();
        assert!(TcpStream::connect(&server.addr).await.is_err());
        server.start_again().await;
        assert_eq!(say(&server.addr, "GET k").await, kept);
        server.freeze();
        let silent = tokio::time::timeout(Duration::from_millis(50), say(&server.addr, "PING")).await;
        assert!(silent.is_err(), "nobody answers");
        server.thaw();
        assert_eq!(say(&server.addr, "PING").await, "+PONG\r\n");
    }
}

const ROLE: &str = "servers::has_servers";

/// Not a test: a process that has servers of its own.
#[test]
fn has_servers() {
    if !in_role(ROLE) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (postgres, redis) =
        runtime.block_on(async { (PostgresServer::start().await, RedisServer::start().await) });
    answer(&format!("{} {}", postgres.address(), redis.addr));
    answer(redis.folder().to_str().unwrap());
    orders().last();
}

#[tokio::test]
async fn servers_do_not_outlive_a_test_program_that_is_killed() {
    let mut process = Start::role(ROLE).start();
    let (addresses, folder) = (process.answer(), process.answer());
    let (postgres, redis) = addresses.split_once(' ').unwrap();
    for addr in [postgres, redis] {
        TcpStream::connect(addr).await.unwrap();
    }
    process.kill();
    for addr in [postgres, redis] {
        until("the server has ended", async || TcpStream::connect(addr).await.is_err()).await;
    }
    until("its files are gone", async || !std::path::Path::new(&folder).exists()).await;
}

async fn say(addr: &str, command: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 256];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
