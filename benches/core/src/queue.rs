//! Delayed writes: accepting them, from there to their effect, and how both grow with what waits.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use redis::AsyncCommands;
use zmsg_core::engine::{DelayOptions, Zmsg};
use zmsg_core::sql::{Task, params, sql};

use crate::measure::{Line, Target, async_pair};
use crate::servers::{Failure, Servers};

/// Writes of one round, and calls in flight at once.
const WRITES: u32 = 10_000;
const CALLERS: usize = 500;
/// Rows that random writes meet.
const ROWS: u32 = 1_000;
/// Rounds, of which the best counts: the machine's slow spells are not the queue's.
const ROUNDS: usize = 3;

fn after(delay: Duration) -> DelayOptions {
    DelayOptions { delay: Some(delay), ..DelayOptions::default() }
}

fn count(row: u32) -> Task {
    sql("UPDATE delayed SET n = n + 1 WHERE id = ?", params![row]).expect("a statement")
}

async fn accept(
    zm: &Zmsg,
    writes: u32,
    delay: Duration,
    row: impl Fn(u32) -> u32,
) -> Vec<zmsg_core::engine::Receipt> {
    let calls = (0..writes).map(|n| {
        let (key, task) = (format!("row {n}"), count(row(n)));
        async move { zm.cache_and_delay_store(Some(&key), None, task, after(delay)).await.expect("accepted") }
    });
    stream::iter(calls).buffer_unordered(CALLERS).collect().await
}

pub async fn measure(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let rows = format!(
        "CREATE TABLE delayed (id int PRIMARY KEY, n int NOT NULL DEFAULT 0) WITH (fillfactor = 50); \
         INSERT INTO delayed (id) SELECT generate_series(0, {WRITES})"
    );
    servers.postgres.batch_execute(&rows).await?;
    accepting(servers, lines).await?;
    for (name, spread, target) in [
        ("delayed write, to its effect, own rows", WRITES, 125_000.0),
        ("delayed write, to its effect, random rows", ROWS, 250_000.0),
    ] {
        let zm = servers.another(&[("namespace", format!("zmsg-bench-{spread}").into())]).await?;
        let mut best = f64::INFINITY;
        for round in 0..ROUNDS {
            let began = Instant::now();
            let scattered = |n: u32| n.wrapping_mul(2_654_435_761).wrapping_add(round as u32) % spread;
            let own = |n: u32| n;
            let receipts = if spread == WRITES {
                accept(&zm, WRITES, Duration::ZERO, own).await
            } else {
                accept(&zm, WRITES, Duration::ZERO, scattered).await
            };
            futures_util::future::try_join_all(receipts.iter().map(|receipt| receipt.done())).await?;
            best = best.min(began.elapsed().as_nanos() as f64 / f64::from(WRITES));
        }
        zm.close().await?;
        lines.push(Line { name, ours_ns: best, peer: None, target: Target::Nanoseconds(target) });
    }
    growth(servers, lines).await
}

/// Beside two commands to the same Redis, which is the least that a queue could do.
async fn accepting(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let redis = servers.queue().await?;
    let zm = servers.another(&[("queue", serde_json::json!({ "worker": false }))]).await?;
    let (ours, raw) = async_pair(
        WRITES,
        || async { drop(accept(&zm, WRITES, Duration::from_secs(3_600), |n| n).await) },
        || async {
            let calls = (0..WRITES).map(|n| {
                let mut redis = redis.clone();
                async move {
                    let id = format!("{n:032x}");
                    let _: () = redis.hset("zmsg-bench-raw-bodies", &id, "x".repeat(60)).await.expect("HSET");
                    let _: () = redis.zadd("zmsg-bench-raw-due", &id, n).await.expect("ZADD");
                }
            });
            stream::iter(calls).buffer_unordered(CALLERS).collect::<Vec<_>>().await;
        },
    )
    .await;
    zm.close().await?;
    let peer = Some(("HSET, ZADD", raw));
    lines.push(Line { name: "delayed write, accepted", ours_ns: ours, peer, target: Target::Ratio(1.5) });
    Ok(())
}

/// Accepting one more, and the memory of each, as the queue grows.
async fn growth(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let mut redis = servers.queue().await?;
    let settings =
        [("namespace", "zmsg-bench-deep".into()), ("queue", serde_json::json!({ "worker": false }))];
    let zm = servers.another(&settings).await?;
    let before = used_memory(&mut redis).await?;
    let (mut depth, mut first) = (0, 0.0);
    for (name, wanted) in [
        ("delayed write, accepted at depth 10^4", 10_000_u32),
        ("delayed write, accepted at depth 10^5", 100_000),
        ("delayed write, accepted at depth 10^6", 1_000_000),
    ] {
        while depth + WRITES < wanted {
            accept_more(&zm, &mut depth).await;
        }
        let began = Instant::now();
        accept_more(&zm, &mut depth).await;
        let each = began.elapsed().as_nanos() as f64 / f64::from(WRITES);
        first = if first == 0.0 { each } else { first };
        let peer = Some(("at depth 10^4", first));
        lines.push(Line { name, ours_ns: each, peer, target: Target::Ratio(2.0) });
    }
    let each = (used_memory(&mut redis).await? - before) / f64::from(depth);
    let name = "a waiting write, memory of Redis";
    lines.push(Line { name, ours_ns: each, peer: None, target: Target::Bytes(500.0) });
    let _: () = redis::cmd("FLUSHDB").query_async(&mut redis).await?;
    zm.close().await?;
    Ok(())
}

async fn accept_more(zm: &Zmsg, depth: &mut u32) {
    let from = *depth;
    let calls = (from..from + WRITES).map(|n| {
        let key = format!("row {n}");
        async move {
            let accepted =
                zm.cache_and_delay_store(Some(&key), None, count(n), after(Duration::from_secs(3_600)));
            accepted.await.expect("accepted");
        }
    });
    stream::iter(calls).buffer_unordered(CALLERS).collect::<Vec<_>>().await;
    *depth += WRITES;
}

async fn used_memory(redis: &mut redis::aio::MultiplexedConnection) -> Result<f64, Failure> {
    let info: String = redis::cmd("INFO").arg("memory").query_async(redis).await?;
    let line =
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).ok_or("INFO has no used_memory")?;
    Ok(line.trim().parse()?)
}
