//! The room against real servers, some of which are killed.

mod together;

use std::time::{Duration, Instant};

use crate::base::{Deadline, clock};
use crate::config::{RedisAddr, Secret};
use crate::error::{ErrorKind, Result};
use crate::redis::testing::SetOptions;
use crate::redis::testing::{PrivateRedis, connect, namespace, settings};
use crate::redis::{Redis, RedisSettings, Script};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

async fn put(redis: &Redis, key: &str, value: &[u8]) -> Result<bool> {
    redis.set(key, value, SetOptions::default(), soon()).await
}

/// Tries until it works; gives how long it took.
async fn recovered(redis: &Redis) -> Duration {
    let start = clock::now();
    while let Err(error) = redis.ping(soon()).await {
        assert_eq!(error.kind(), ErrorKind::Cache);
        assert!(start.elapsed() < Duration::from_secs(10), "it did not recover: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

fn elapsed_since(start: Instant) -> Duration {
    clock::now().duration_since(start)
}

#[tokio::test]
async fn strings_go_in_and_come_out() {
    let redis = connect().await;
    let space = namespace();
    let [a, b, list] = ["a", "b", "list"].map(|name| format!("{space}:{name}"));
    assert!(put(&redis, &a, b"\0\r\nbinary\xff").await.unwrap());
    let only_new = SetOptions { px: Some(60_000), only_new: true };
    assert!(!redis.set(&a, b"other", only_new, soon()).await.unwrap());
    assert!(redis.set(&b, b"", only_new, soon()).await.unwrap());
    let push = Script::new("return redis.call('RPUSH', KEYS[1], ARGV[1])");
    assert_eq!(redis.eval_int(&push, &[&list], &[b"x"], soon()).await.unwrap(), 1);
    let keys = [a.clone(), format!("{space}:none"), b.clone(), list.clone()];
    let found = redis.get_many(keys.iter(), soon()).await.unwrap();
    assert_eq!(
        found,
        [Some("\0\r\nbinary".as_bytes().iter().copied().chain([255]).collect()), None, Some("".into()), None]
    );
    assert_eq!(redis.get(&list, soon()).await.unwrap(), None, "a list is no string");
    assert_eq!(redis.delete(&keys, soon()).await.unwrap(), 3);
    assert_eq!(redis.get(&a, soon()).await.unwrap(), None);
    assert!(redis.get_many([""; 0].iter(), soon()).await.unwrap().is_empty());
    assert_eq!(redis.delete(&[], soon()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_refusal_is_a_cache_error_that_quotes_nothing() {
    let redis = connect().await;
    let key = namespace();
    let push = Script::new("return redis.call('RPUSH', KEYS[1], ARGV[1])");
    put(&redis, &key, b"text").await.unwrap();
    let error = redis.eval_int(&push, &[&key], &[b"canary"], soon()).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (ErrorKind::Cache, true));
    assert!(!error.to_string().contains("canary"), "{error}");
    redis.delete(&[key], soon()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    drop(server);
    let start = clock::now();
    let mut unreachable = settings(format!("redis://user:canary@127.0.0.1:{port}"));
    let error = Redis::connect(&unreachable).await.err().unwrap();
    assert!(elapsed_since(start) < Duration::from_secs(2));
    assert_eq!(error.kind(), ErrorKind::Cache);
    let text = format!("{error} {error:?}");
    assert!(text.contains(&format!("127.0.0.1:{port}")) && !text.contains("canary"), "{text}");

    unreachable.start_degraded = true;
    let redis = Redis::connect(&unreachable).await.unwrap();
    assert_eq!(redis.ping(soon()).await.unwrap_err().kind(), ErrorKind::Cache);
}

#[tokio::test]
async fn a_server_that_never_answers_fails_within_connect_timeout() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let start = clock::now();
    let patient = RedisSettings { connect_timeout: Duration::from_millis(200), ..settings(addr) };
    let error = Redis::connect(&patient).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cache);
    assert!(elapsed_since(start) < Duration::from_secs(1), "{error}");
}

#[tokio::test]
async fn tls_where_none_is_spoken_or_without_its_files_is_a_typed_error() {
    let server = PrivateRedis::start(&[]).await;
    let plain = settings(format!("rediss://{}", server.addr()));
    let error = Redis::connect(&plain).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
    let missing = RedisSettings { tls_ca: Some("/no/such/file.pem".into()), ..plain.clone() };
    let error = Redis::connect(&missing).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("tls_ca") && error.to_string().contains("/no/such/file.pem"),
        "{error}"
    );
    let half = RedisSettings { tls_cert: Some("cert.pem".into()), ..plain };
    assert!(Redis::connect(&half).await.err().unwrap().to_string().contains("go together"));
}

#[tokio::test]
async fn a_wrong_password_is_a_matter_of_configuration() {
    let server = PrivateRedis::start(&["--requirepass", "right"]).await;
    for addr in [server.addr(), format!("redis://:canary@{}", server.addr())] {
        let error = Redis::connect(&settings(addr)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let right = settings(format!("redis://:right@{}/3", server.addr()));
    assert!(Redis::connect(&right).await.is_ok());
}

#[tokio::test]
async fn a_right_that_the_user_lacks_is_named() {
    let server = PrivateRedis::start(&[
        "--user",
        "reader",
        "on",
        ">pw",
        "~*",
        "&t:*",
        "+@all",
        "-set",
        "--user",
        "deaf",
        "on",
        ">pw",
        "~*",
        "+@all",
        "-subscribe",
    ])
    .await;
    let as_user = |name: &str| settings(format!("redis://{name}:pw@{}", server.addr()));
    let reader = Redis::connect(&as_user("reader")).await.unwrap();
    let set = Script::new("return redis.call('SET', KEYS[1], 'canary')");
    let in_script = reader.eval_int(&set, &["k"], &[], soon()).await.unwrap_err().to_string();
    assert!(in_script.contains("may not run a command, or reach a key, of a script"), "{in_script}");
    let alone = put(&reader, "k", b"canary").await.unwrap_err().to_string();
    assert!(alone.contains("may not run this command") && !alone.contains("canary"), "{alone}");
    let deaf = Redis::connect(&as_user("deaf")).await.unwrap();
    for (redis, channel) in [(&deaf, "t:1"), (&reader, "other:1")] {
        let error = redis.subscribe(channel, soon()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(&format!("grant +subscribe and &{channel}")), "{error}");
    }
}

#[tokio::test]
async fn a_killed_server_fails_fast_and_comes_back_by_itself() {
    let mut server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_millis(500)).await.unwrap();
    put(&redis, "k", b"v").await.unwrap();
    for _ in 0..3 {
        server.kill();
        for _ in 0..5 {
            let start = clock::now();
            let error = redis.get("k", soon()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
            assert!(error.to_string().contains(&server.addr()), "{error}");
            assert!(
                elapsed_since(start) < Duration::from_millis(450),
                "a refused connection needs no waiting"
            );
        }
        server.restart().await;
        // The very first command works, a write too: nothing of it was sent on the lost connection.
        put(&redis, "k", b"v").await.unwrap();
    }
}

#[tokio::test]
async fn many_callers_of_a_killed_server_all_fail_typed() {
    let mut server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_millis(500)).await.unwrap();
    server.signal("-STOP");
    let callers = (0..200).map(|n| redis.get(if n % 2 == 0 { "a" } else { "b" }, soon()));
    let kill = async { server.kill() };
    let (results, ()) = futures_util::future::join(futures_util::future::join_all(callers), kill).await;
    for result in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cache);
    }
    server.restart().await;
    redis.ping(soon()).await.unwrap();
}

#[tokio::test]
async fn a_stopped_server_times_out_and_goes_on() {
    let server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_millis(200)).await.unwrap();
    server.signal("-STOP");
    let start = clock::now();
    let error = redis.get("k", soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache, "Redis was slow: {error}");
    let late = redis.get("k", Deadline::after(Duration::from_millis(20))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "the caller had no time: {late}");
    assert!(elapsed_since(start) < Duration::from_secs(2));
    server.signal("-CONT");
    recovered(&redis).await;
}

#[tokio::test]
async fn a_degraded_start_recovers_when_the_server_comes() {
    let mut server = PrivateRedis::start(&[]).await;
    server.kill();
    let redis =
        Redis::connect(&RedisSettings { start_degraded: true, ..settings(server.addr()) }).await.unwrap();
    assert!(redis.ping(soon()).await.is_err());
    server.restart().await;
    redis.ping(soon()).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_was_refused_is_tried_again() {
    let mut server = PrivateRedis::start(&[]).await;
    let redis = server.connect(Duration::from_millis(500)).await.unwrap();
    server.kill();
    server.extra(&["--requirepass", "secret"]);
    server.restart().await;
    let error = redis.ping(soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
    assert!(error.to_string().contains(&server.addr()));
    // The password goes away without the server going away, so that nothing but a new handshake helps.
    let admin = Redis::connect(&settings(format!("redis://:secret@{}", server.addr()))).await.unwrap();
    admin
        .send(
            ::redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(""),
            super::link::Repeat::Never,
            soon(),
        )
        .await
        .unwrap();
    recovered(&redis).await;
}

/// A cluster of one node.
async fn cluster_of(server: &PrivateRedis, patience: RedisSettings) -> Redis {
    let admin = Redis::connect(&settings(server.addr())).await.unwrap();
    let mut own = ::redis::cmd("CLUSTER");
    own.arg("ADDSLOTS").arg((0..16_384).collect::<Vec<u16>>());
    admin.send(&own, super::link::Repeat::Never, soon()).await.unwrap();
    let addr = RedisAddr::Cluster(vec![Secret::new(server.addr())]);
    let cluster = RedisSettings { addr, ..patience };
    loop {
        match Redis::connect(&cluster).await {
            Ok(redis) if put(&redis, "probe", b"1").await.is_ok() => return redis,
            // The node needs a moment to find its cluster whole.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn a_cluster_that_answers_nothing_is_connected_to_anew() {
    let server = PrivateRedis::start(&["--cluster-enabled", "yes"]).await;
    let time = Duration::from_millis(100);
    let patience = RedisSettings { connect_timeout: time, command_timeout: time, ..settings("unused") };
    let redis = cluster_of(&server, patience).await;
    let before = redis.connection();
    server.signal("-STOP");
    let deadline = soon();
    while redis.connection() == before {
        assert!(put(&redis, "k", b"lost").await.is_err() && !deadline.passed());
    }
    server.signal("-CONT");
    recovered(&redis).await;
}

#[tokio::test]
async fn a_cluster_takes_the_same_commands() {
    let server = PrivateRedis::start(&["--cluster-enabled", "yes"]).await;
    let redis = cluster_of(&server, settings("unused")).await;
    let keys: Vec<String> = (0..50).map(|n| format!("n:v:{{.{n}}}")).collect();
    for key in &keys {
        put(&redis, key, key.as_bytes()).await.unwrap();
    }
    let found = redis.get_many(keys.iter(), soon()).await.unwrap();
    assert!(found.iter().zip(&keys).all(|(value, key)| value.as_deref() == Some(key.as_bytes())));
    assert!(redis.time_us(soon()).await.unwrap() > 0);
    let script = Script::new("return #redis.call('GET', KEYS[1])");
    assert_eq!(redis.eval_int(&script, &[&keys[7]], &[], soon()).await.unwrap(), 8);
    let mut scan = redis.scan("n:*".to_owned(), 10, soon()).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(found) = redis.scan_on(&mut scan, soon()).await.unwrap() {
        seen.extend(found);
    }
    assert!(seen.len() == 50 && keys.iter().all(|key| seen.contains(key.as_bytes())));
    assert_eq!(redis.delete(&keys, soon()).await.unwrap(), 50);
}
