//! Opening when a server is away: an error in time that names the place and no secret, or a degraded start that heals.

use std::net::TcpListener;
use std::time::Duration;

use zmsg_core::error::{Error, ErrorKind};

use crate::scene::{Scene, declare, some, write};
use crate::support::engine::{Setup, until, within};
use crate::support::proxy::Proxy;
use crate::support::redis_addr;

/// `connect_timeout` here is 300 ms.
const SOON: Duration = Duration::from_millis(2_500);

async fn refused(setup: &Setup, what: &str) -> Error {
    let setup = setup.clone().with("connect_timeout", "300ms");
    within(SOON, what, setup.try_open()).await.err().unwrap_or_else(|| panic!("{what} should fail"))
}

fn check(error: &Error, kind: ErrorKind, port: u16) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.retryable(), "{error}");
    let everything = format!("{error} {error:?} {:?}", std::error::Error::source(error));
    assert!(everything.contains(&format!("127.0.0.1:{port}")), "{everything}");
    assert!(!everything.contains("canary"), "{everything}");
}

fn postgres(port: u16) -> String {
    format!("postgresql://me:canary@127.0.0.1:{port}/feeds?sslmode=disable")
}

fn redis(port: u16) -> String {
    format!("redis://me:canary@127.0.0.1:{port}")
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let scene = Scene::new().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = refused(&scene.setup.clone().with("postgres_dsn", postgres(port)), "no PostgreSQL").await;
    check(&error, ErrorKind::Store, port);
    let error = refused(&scene.setup.clone().with("redis_addr", redis(port)), "no Redis").await;
    check(&error, ErrorKind::Cache, port);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let scene = Scene::new().await;
    // Accepts by the kernel's backlog and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let error =
        refused(&scene.setup.clone().with("postgres_dsn", postgres(port)), "a silent PostgreSQL").await;
    check(&error, ErrorKind::Store, port);
    let error = refused(&scene.setup.clone().with("redis_addr", redis(port)), "a silent Redis").await;
    check(&error, ErrorKind::Cache, port);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_degraded_start_works_once_the_servers_are_there() {
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.database.dsn).await;
    let redis = Proxy::to_redis(&redis_addr()).await;
    proxy.down().await;
    redis.down().await;
    let setup = scene.setup.clone().postgres_behind(&proxy, &scene.database).redis_behind(&redis);
    let setup = setup.with("start_degraded", true).with("connect_timeout", "300ms");
    let zmsg = within(SOON, "a degraded start", setup.open()).await;
    declare(&zmsg);
    assert!(!zmsg.health().await.unwrap().ok);
    let error = within(SOON, "a get", zmsg.get("feed_1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    let error = within(SOON, "a write", write(&zmsg, "feed_1", "v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert_eq!(zmsg.next_id("feed").unwrap_err().kind(), ErrorKind::Id);

    // On a database that has none of the engine's own tables yet.
    proxy.up().await;
    redis.up().await;
    until("a write", async || match write(&zmsg, "feed_1", "v").await {
        Ok(_) => true,
        Err(error) => {
            assert!(error.retryable(), "whoever waits should know that waiting helps: {error}");
            false
        }
    })
    .await;
    assert_eq!(zmsg.get("feed_1").await.unwrap(), some("v"));
    until("ids", async || zmsg.next_id("feed").is_ok()).await;
    until("health", async || zmsg.health().await.unwrap().ok).await;
    assert_eq!(scene.row("feed_1").await.as_deref(), Some("v"));
    zmsg.close().await.unwrap();
}

#[tokio::test]
async fn a_degraded_start_can_be_closed() {
    let scene = Scene::new().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let setup = scene.setup.clone().with("start_degraded", true).with("connect_timeout", "300ms");
    let zmsg = setup.with("postgres_dsn", postgres(port)).with("redis_addr", redis(port)).open().await;
    within(SOON, "close", zmsg.close()).await.unwrap();
    assert_eq!(zmsg.get("feed_1").await.unwrap_err().kind(), ErrorKind::Closed);
}
