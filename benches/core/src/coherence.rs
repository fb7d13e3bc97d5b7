//! What coherence costs, and how fast it is: hits beside an engine that hears nobody, hits while others write, a write until
//! it is gone elsewhere, and a cold key that everybody wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use zmsg_core::engine::{SourceOptions, WriteOptions, Zmsg};
use zmsg_core::sql::sql;

use crate::measure::{Line, Target, async_pair};
use crate::servers::{Failure, Servers};

/// Keys that are hit, and hits of one round.
const KEYS: usize = 1_000;
const HITS: u32 = 200_000;
/// Writes whose way is followed.
const WRITES: usize = 3_000;
/// Readers of a cold key.
const READERS: usize = 10_000;

pub async fn measure(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    hits(servers, lines).await?;
    visibility(servers, lines).await?;
    stampede(servers, lines).await
}

async fn fill(zm: &Zmsg, keys: &[String]) -> Result<(), Failure> {
    let value = Bytes::from(vec![b'x'; 230]);
    try_join_all(keys.iter().map(|key| zm.cache_only(key, value.clone(), WriteOptions::default()))).await?;
    Ok(())
}

async fn hit(zm: &Zmsg, keys: &[String]) {
    for n in 0..HITS as usize {
        std::hint::black_box(zm.get(&keys[n * 7 % KEYS]).await.expect("a hit"));
        if n % 1_000 == 0 {
            // A hit never waits, and whoever never waits lets nobody else in.
            tokio::task::yield_now().await;
        }
    }
}

async fn hits(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("hot_{n}")).collect();
    let coherent = servers.another(&[]).await?;
    let alone = servers.another(&[("redis_addr", serde_json::Value::Null)]).await?;
    fill(&coherent, &keys).await?;
    fill(&alone, &keys).await?;
    let (keys, ours, peer) = (&keys, &coherent, &alone);
    let (heard, deaf) = async_pair(HITS, || hit(ours, keys), || hit(peer, keys)).await;
    let peer = Some(("without Redis", deaf));
    lines.push(Line { name: "L1 hit, coherent", ours_ns: heard, peer, target: Target::Ratio(1.2) });

    // Another engine changes other keys as fast as Redis takes it.
    let writer = servers.another(&[]).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (before, began) = (coherent.stats().invalidations_received, Instant::now());
    let writing = tokio::spawn({
        let (writer, stop) = (writer.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let drops = (0..1_000).map(|n| format!("other_{n}"));
                join_all(drops.map(|key| {
                    let writer = writer.clone();
                    async move { writer.del(&key).await }
                }))
                .await;
            }
        }
    });
    let busy = crate::measure::asynchronous(HITS, || hit(ours, keys)).await;
    stop.store(true, Ordering::Relaxed);
    writing.await?;
    let each = began.elapsed().as_nanos() as f64 / (coherent.stats().invalidations_received - before) as f64;
    let peer = Some(("with nobody writing", heard));
    lines.push(Line { name: "L1 hit while others write", ours_ns: busy, peer, target: Target::Ratio(2.0) });
    let name = "an invalidation received, time between two";
    lines.push(Line { name, ours_ns: each, peer: None, target: Target::Nanoseconds(50_000.0) });
    try_join_all([&coherent, &alone, &writer].map(Zmsg::close)).await?;
    Ok(())
}

async fn visibility(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let (reader, writer) = (servers.another(&[]).await?, servers.another(&[]).await?);
    let mut took = Vec::with_capacity(WRITES);
    for n in 0..WRITES {
        let key = format!("seen_{}", n % 100);
        writer.cache_only(&key, Bytes::from(format!("{n}")), WriteOptions::default()).await?;
        let old = reader.get(&key).await?;
        let began = Instant::now();
        writer.cache_only(&key, Bytes::from(format!("{n}!")), WriteOptions::default()).await?;
        while reader.peek(&key)? == old {
            tokio::task::yield_now().await;
        }
        took.push(began.elapsed().as_nanos() as f64);
    }
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    let half = Line {
        name: "a write, until gone elsewhere, p50",
        ours_ns: at(0.5),
        peer: None,
        target: Target::Nanoseconds(1e6),
    };
    let most = Line {
        name: "a write, until gone elsewhere, p99.9",
        ours_ns: at(0.999),
        peer: None,
        target: Target::Nanoseconds(50e6),
    };
    lines.extend([half, most]);
    try_join_all([&reader, &writer].map(Zmsg::close)).await?;
    Ok(())
}

async fn stampede(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    servers
        .postgres
        .batch_execute("INSERT INTO rows SELECT 'cold_' || n, 'row' FROM generate_series(0, 100) n")
        .await?;
    let engines = [servers.another(&[]).await?, servers.another(&[]).await?, servers.another(&[]).await?];
    for zm in &engines {
        let query = sql("SELECT content FROM rows WHERE id = ?", ())?;
        zm.source("cold_*", query, SourceOptions::default())?;
    }
    let loads = || engines.iter().map(|zm| zm.stats().source_loads).sum::<u64>();
    let mut best = f64::INFINITY;
    for round in 0..7 {
        let (key, before) = (format!("cold_{round}"), loads());
        let began = Instant::now();
        join_all((0..READERS).map(|n| engines[n % engines.len()].get(&key))).await;
        best = best.min(began.elapsed().as_nanos() as f64);
        assert_eq!(loads() - before, 1, "round {round}: PostgreSQL is asked once");
    }
    let name = "10,000 reads of a cold key, all together";
    lines.push(Line { name, ours_ns: best, peer: None, target: Target::Nanoseconds(50e6) });
    try_join_all(engines.each_ref().map(Zmsg::close)).await?;
    Ok(())
}
