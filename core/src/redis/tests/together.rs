//! Runs of one script that come at once.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::{Redis, cluster_of, put, settings, soon};
use crate::base::{Deadline, clock, service};
use crate::error::ErrorKind;
use crate::redis::Together;
use crate::redis::testing::{PrivateRedis, connect, namespace};

/// Adds to a number; the argument that all share is the name of where the commands are counted.
const ONE: &str = "redis.call('INCR', ARGV[1]) return redis.call('INCRBY', KEYS[1], ARGV[2])";
const MANY: &str = "
    redis.call('INCR', ARGV[1])
    local results = {}
    for i, key in ipairs(KEYS) do
        local result = redis.pcall('INCRBY', key, ARGV[1 + i])
        results[i] = type(result) == 'table' and 'WRONGTYPE' or result
    end
    return results";

/// The same without a count: no key is named in its text.
fn each(at_most: usize) -> Arc<Together> {
    let one = "return redis.call('INCRBY', KEYS[1], ARGV[2])";
    let many = "local results = {}
        for i, key in ipairs(KEYS) do results[i] = redis.call('INCRBY', key, ARGV[1 + i]) end
        return results";
    Arc::new(Together::new(one, many, at_most))
}

const SHORT: Duration = Duration::from_millis(150);

fn adding(at_most: usize) -> Arc<Together> {
    Arc::new(Together::new(ONE, MANY, at_most))
}

/// The server knows both forms: else what it is sent would have no effect.
async fn known(redis: &Redis, script: &Arc<Together>) {
    let add =
        async |n: u64| redis.eval_together(script, &format!("known{n}"), b"commands", &[b"1"], soon()).await;
    while number(redis, "known0").await < 3 || number(redis, "known99").await < 3 {
        assert!(join_all((0..100).map(add)).await.into_iter().all(|sum| sum.is_ok()));
    }
}

async fn number(redis: &Redis, key: &str) -> u64 {
    let text = redis.get(key, soon()).await.unwrap();
    text.map_or(0, |text| std::str::from_utf8(&text).unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_has_its_own_answer_and_commands_are_fewer() {
    let (redis, space, script) = (connect().await, namespace(), adding(64));
    let commands = format!("{space}:commands");
    let add = async |n: u64| {
        let (key, by) = (format!("{space}:{n}"), n.to_string());
        redis.eval_together(&script, &key, commands.as_bytes(), &[by.as_bytes()], soon()).await
    };
    for n in 0..20 {
        assert_eq!(add(n).await.unwrap(), n as i64);
    }
    assert_eq!(number(&redis, &commands).await, 20, "alone each goes by itself");
    put(&redis, &format!("{space}:700"), b"text").await.unwrap();
    let sums = join_all((100..1_100).map(add)).await;
    for (n, sum) in (100..).zip(sums) {
        match sum {
            Ok(sum) => assert_eq!(sum, n),
            Err(error) => {
                assert_eq!((n, error.kind()), (700, ErrorKind::Cache));
                assert!(error.to_string().ends_with("WRONGTYPE"), "{error}");
            }
        }
    }
    let together = number(&redis, &commands).await - 20;
    assert!((16..200).contains(&together), "{together} commands for a thousand runs");
    for n in 0..20 {
        assert_eq!(add(n).await.unwrap(), 2 * n as i64);
    }
    assert_eq!(number(&redis, &commands).await, 40 + together, "by themselves again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_caller_who_stopped_polling() {
    let (redis, space, script) = (connect().await, namespace(), adding(4));
    let commands = format!("{space}:commands");
    let add =
        async |key: String| redis.eval_together(&script, &key, commands.as_bytes(), &[b"1"], soon()).await;
    let mut stuck: Vec<_> = (0..50).map(|n| Box::pin(add(format!("{space}:stuck:{n}")))).collect();
    // One that goes together may have its answer by the end of its first poll.
    stuck.retain_mut(|one| match one.poll_unpin(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => true,
        Poll::Ready(sum) => sum.unwrap() != 1,
    });
    assert!(stuck.len() >= 8, "{}", stuck.len());
    let others = join_all((0..100).map(|n| add(format!("{space}:{n}")))).await;
    assert!(others.into_iter().all(|sum| sum.unwrap() == 1));
    assert!(join_all(stuck).await.into_iter().all(|sum| sum.unwrap() == 1), "nor are theirs lost");
}

#[tokio::test]
async fn what_its_caller_gave_up_while_it_waited_is_never_sent() {
    let server = PrivateRedis::start(&[]).await;
    let (redis, script) = (server.connect(Duration::from_millis(400)).await.unwrap(), adding(256));
    known(&redis, &script).await;
    server.signal("-STOP");
    let add = |n: u64| {
        let (redis, script) = (redis.clone(), script.clone());
        service::detached(async move {
            redis.eval_together(&script, &format!("n{n}"), b"commands", &[b"1"], soon()).await
        })
    };
    let start = clock::now();
    for sum in join_all((0..2_000).map(add)).await {
        assert_eq!(sum.unwrap_err().kind(), ErrorKind::Cache);
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    server.signal("-CONT");
    super::recovered(&redis).await;
    // The first ones by themselves, and what two senders found when they began.
    let sent = join_all((0..2_000).map(async |n| number(&redis, &format!("n{n}")).await)).await;
    let arrived = sent.iter().sum::<u64>();
    assert!((8..=520).contains(&arrived), "{arrived} of 2,000 arrived");
    assert_eq!(sent[1_999], 0, "the last one");
    assert_eq!(add(5_000).await.unwrap(), 1);
}

#[tokio::test]
async fn a_caller_without_time_does_not_wait_for_his_turn() {
    let server = PrivateRedis::start(&[]).await;
    let (redis, script) = (server.connect(Duration::from_secs(5)).await.unwrap(), adding(256));
    server.signal("-STOP");
    let run = |deadline| {
        let (redis, script) = (redis.clone(), script.clone());
        async move { redis.eval_together(&script, "n", b"commands", &[b"1"], deadline).await }
    };
    // Two senders, each with a command under way.
    let mut others: Vec<_> = (0..2).map(|_| Box::pin(join_all((0..50).map(|_| run(soon()))))).collect();
    for wave in &mut others {
        assert!(wave.as_mut().now_or_never().is_none());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    let late = run(Deadline::after(Duration::from_millis(20))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    server.signal("-CONT");
    let mut sums: Vec<i64> = join_all(others).await.into_iter().flatten().map(|sum| sum.unwrap()).collect();
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..=100), "each once, and not that of the one who went away");
}

#[tokio::test]
async fn nobody_is_taken_along_while_there_is_no_connection() {
    let server = PrivateRedis::start(&[]).await;
    let admin = server.connect(Duration::from_secs(2)).await.unwrap();
    let (redis, script) = (server.connect(Duration::from_millis(400)).await.unwrap(), adding(4));
    known(&redis, &script).await;
    let add = async |n: u64| {
        redis.eval_together(&script, &format!("n{n}"), b"commands", &[b"1"], Deadline::after(2 * SHORT)).await
    };
    let mut cut = ::redis::cmd("CLIENT");
    cut.arg(&["KILL", "TYPE", "normal"]);
    admin.send(&cut, super::super::link::Repeat::Never, soon()).await.unwrap();
    // The way to a new connection leads as far as the handshake.
    server.signal("-STOP");
    assert!(redis.ping(Deadline::after(SHORT)).await.is_err());
    let failed = join_all((0..100).map(add)).await;
    assert!(failed.into_iter().all(|sum| sum.is_err()));
    server.signal("-CONT");
    super::recovered(&redis).await;
    // Behind everything that may still have been on its way.
    let late = join_all((0..100).map(async |n| number(&redis, &format!("n{n}")).await)).await;
    assert_eq!(late.iter().sum::<u64>(), 0, "{late:?}");
}

#[tokio::test]
async fn a_cluster_behind_one_address_gets_each_by_itself() {
    let server = PrivateRedis::start(&["--cluster-enabled", "yes"]).await;
    drop(cluster_of(&server, settings("unused")).await);
    let (redis, script) = (server.connect(Duration::from_secs(2)).await.unwrap(), each(64));
    for _ in 0..2 {
        let sums =
            join_all((0..100).map(async |n: u64| {
                redis.eval_together(&script, &format!("n{n}"), b"", &[b"3"], soon()).await
            }));
        let sums: Vec<i64> = sums.await.into_iter().map(|sum| sum.unwrap()).collect();
        assert!(sums.iter().all(|sum| *sum == sums[0]), "each once: {sums:?}");
    }
}

#[tokio::test]
async fn a_key_that_the_user_may_not_reach_fails_alone() {
    let server = PrivateRedis::start(&[]).await;
    let admin = server.connect(Duration::from_secs(2)).await.unwrap();
    let mut user = ::redis::cmd("ACL");
    user.arg(&["SETUSER", "some", "on", ">secret", "+@all", "~p:*"]);
    admin.send(&user, super::super::link::Repeat::Never, soon()).await.unwrap();
    let addr = format!("redis://some:secret@{}", server.addr());
    let (redis, script) = (Redis::connect(&settings(addr)).await.unwrap(), each(64));
    let sums = join_all((0..100).map(|n| {
        let (redis, script) = (&redis, &script);
        async move {
            let key = if n == 50 { "foreign".to_owned() } else { format!("p:{n}") };
            redis.eval_together(script, &key, b"", &[b"3"], soon()).await
        }
    }));
    for (n, sum) in sums.await.into_iter().enumerate() {
        assert_eq!(sum.as_ref().is_err(), n == 50, "{n}: {sum:?}");
    }
}

#[tokio::test]
async fn in_a_cluster_each_goes_by_itself() {
    let server = PrivateRedis::start(&["--cluster-enabled", "yes"]).await;
    let redis = cluster_of(&server, settings("unused")).await;
    let alone = Arc::new(Together::new("return redis.call('INCRBY', KEYS[1], ARGV[2])", "nothing", 64));
    let sums = join_all((0..200).map(async |n: u64| {
        let key = format!("n{n}");
        redis.eval_together(&alone, &key, b"", &[b"3"], soon()).await
    }));
    assert!(sums.await.into_iter().all(|sum| sum.unwrap() == 3));
}

#[tokio::test]
async fn a_whole_flight_is_under_way_at_once_however_few_a_command_may_have() {
    let server = PrivateRedis::start(&[]).await;
    let (redis, script) = (server.connect(Duration::from_millis(400)).await.unwrap(), adding(8));
    known(&redis, &script).await;
    server.signal("-STOP");
    let add = |n: u64| {
        let (redis, script) = (redis.clone(), script.clone());
        async move { redis.eval_together(&script, &format!("n{n}"), b"commands", &[b"1"], soon()).await }
    };
    // None is answered, and hardly one was left behind: what is on its way arrives.
    assert!(join_all((0..500).map(add)).await.into_iter().all(|sum| sum.is_err()));
    server.signal("-CONT");
    super::recovered(&redis).await;
    let sent = join_all((0..500).map(async |n| number(&redis, &format!("n{n}")).await)).await;
    let arrived = sent.iter().sum::<u64>();
    assert!(sent.iter().all(|&count| count <= 1) && arrived > 400, "{arrived} of 500 arrived");
}
