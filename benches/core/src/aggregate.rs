//! Aggregated writes: accepting them, what the journal adds, flushing them, and how both grow.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use zmsg_core::engine::{WriteOptions, Zmsg};
use zmsg_core::sql::{Counter, Task, counter};

use crate::measure::{Line, Target, async_pair, sync_pair};
use crate::servers::{Failure, Servers};

/// Rows that are hit again and again.
const HOT: u32 = 1_000;
/// Rows of one flush.
const FLUSHED: u32 = 20_000;
/// Rows of one raw statement.
const CHUNK: usize = 1_000;
const CALLS: u32 = 200_000;

fn likes() -> Counter {
    counter("cells", "likes").expect("names")
}

fn like(row: i64) -> Task {
    likes().inc(1).where_("id = ?", [row]).and_then(Counter::build).expect("a task")
}

fn accept(zm: &Zmsg, task: Task, options: &WriteOptions) {
    let receipt = zm.periodic_now(None, std::slice::from_ref(&task), options).expect("accepted");
    black_box(receipt.expect("there is room"));
}

pub async fn measure(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let rows = format!(
        "CREATE TABLE cells (id bigint PRIMARY KEY, likes bigint NOT NULL DEFAULT 0); \
         INSERT INTO cells (id) SELECT generate_series(0, {FLUSHED})"
    );
    servers.postgres.batch_execute(&rows).await?;
    let journal = servers.another(&[("journal", "journal".into())]).await?;
    accepting(&journal, lines);
    bytes(&journal, lines).await?;
    classes(servers, lines).await?;
    flushing(servers, &journal, lines).await?;
    journal.close().await?;
    growth(servers, lines).await
}

fn accepting(zm: &Zmsg, lines: &mut Vec<Line>) {
    let tasks: Vec<Task> = (0..HOT).map(|row| like(row.into())).collect();
    let options = WriteOptions::default();
    let mut sums: HashMap<u64, i64> = HashMap::new();
    let (ours, raw) = sync_pair(
        CALLS,
        |n| accept(zm, tasks[(n % HOT) as usize].clone(), &options),
        |n| *sums.entry(u64::from(n % HOT)).or_default() += 1,
    );
    let peer = Some(("HashMap::entry += 1", raw));
    let name = "counter, accepted (journal)";
    lines.push(Line { name, ours_ns: ours, peer, target: Target::Nanoseconds(300.0) });
    let (built, task) = sync_pair(
        CALLS,
        |n| accept(zm, like((n % HOT).into()), &options),
        |n| drop(black_box(like((n % HOT).into()))),
    );
    let (name, peer) = ("counter, built and accepted", Some(("the task alone", task)));
    lines.push(Line { name, ours_ns: built, peer, target: Target::Nanoseconds(400.0) });
}

/// What a repeated operation adds to the journal, from its growth over many.
async fn bytes(zm: &Zmsg, lines: &mut Vec<Line>) -> Result<(), Failure> {
    zm.flush().await?;
    let (tasks, options) =
        ((0..HOT).map(|row| like(row.into())).collect::<Vec<_>>(), WriteOptions::default());
    let before = zm.stats().journal_bytes;
    let operations = 4_000_000;
    for n in 0..operations {
        accept(zm, tasks[n % HOT as usize].clone(), &options);
    }
    let grown = zm.stats().journal_bytes - before;
    let name = "journal, per repeated operation";
    let each = grown as f64 / operations as f64;
    lines.push(Line { name, ours_ns: each, peer: None, target: Target::Bytes(24.0) });
    zm.flush().await?;
    Ok(())
}

/// The price of each class next to `memory`.
async fn classes(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let tasks: Vec<Task> = (0..HOT).map(|row| like(row.into())).collect();
    let (tasks, options) = (&tasks, WriteOptions::default());
    let memory = servers.another(&[("journal", "memory".into())]).await?;
    let journal = servers.another(&[("journal", "journal".into())]).await?;
    let task = |n: u32| tasks[(n % HOT) as usize].clone();
    let (ours, peer) =
        sync_pair(CALLS, |n| accept(&journal, task(n), &options), |n| accept(&memory, task(n), &options));
    lines.push(Line {
        name: "counter, class journal",
        ours_ns: ours,
        peer: Some(("class memory", peer)),
        target: Target::Ratio(1.5),
    });
    journal.close().await?;
    let fsync = servers.another(&[("journal", "journal_fsync".into())]).await?;
    let many = |zm: Zmsg| async move {
        let calls =
            (0..1_000).map(|n| zm.cache_and_periodic_store(None, None, task(n), WriteOptions::default()));
        futures_util::future::join_all(calls).await.into_iter().for_each(|it| drop(it.expect("accepted")));
    };
    let (ours, peer) = async_pair(1_000, || many(fsync.clone()), || many(memory.clone())).await;
    lines.push(Line {
        name: "counter, journal_fsync, 1,000 at once",
        ours_ns: ours,
        peer: Some(("class memory, 1,000 at once", peer)),
        target: Target::Nanoseconds(20_000.0),
    });
    fsync.close().await?;
    memory.close().await?;
    Ok(())
}

async fn flushing(servers: &Servers, zm: &Zmsg, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let text = "UPDATE cells SET likes = cells.likes + i.n FROM unnest($1::int8[], $2::int8[]) AS i (id, n) \
                WHERE cells.id = i.id";
    let statement = servers.postgres.prepare(text).await?;
    let options = WriteOptions::default();
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        (0..FLUSHED).for_each(|row| accept(zm, like(row.into()), &options));
        let began = Instant::now();
        let report = zm.flush().await?;
        ours.push(began.elapsed().as_nanos() as f64 / f64::from(FLUSHED));
        assert_eq!(report.rows, u64::from(FLUSHED), "every row was found");
        let (ids, ones): (Vec<i64>, Vec<i64>) = (0..i64::from(FLUSHED)).map(|row| (row, 1)).unzip();
        let began = Instant::now();
        servers.postgres.batch_execute("BEGIN").await?;
        for (ids, ones) in ids.chunks(CHUNK).zip(ones.chunks(CHUNK)) {
            servers.postgres.execute(&statement, &[&ids, &ones]).await?;
        }
        servers.postgres.batch_execute("COMMIT").await?;
        raw.push(began.elapsed().as_nanos() as f64 / f64::from(FLUSHED));
    }
    ours.sort_by(f64::total_cmp);
    raw.sort_by(f64::total_cmp);
    lines.push(Line {
        name: "flush, per row, 1,000-row chunks",
        ours_ns: ours[3],
        peer: Some(("UPDATE … FROM unnest", raw[3])),
        // At least 0.8 times the rows per second.
        target: Target::Ratio(1.0 / 0.8),
    });
    Ok(())
}

/// Per operation from a thousand cells on; each cell is met anew and then twice more at least. The peer is a map with as
/// many entries, so that what the memory of the machine costs is seen apart: ours may grow at most twice as much.
async fn growth(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let names = [
        "counter, 1,000 cells",
        "counter, 10,000 cells",
        "counter, 100,000 cells",
        "counter, 1,000,000 cells",
    ];
    let mut bound = None;
    for (name, cells) in names.into_iter().zip([1_000_i64, 10_000, 100_000, 1_000_000]) {
        let zm = servers.another(&[("journal", "memory".into())]).await?;
        let options = WriteOptions::default();
        let rounds = (3_000_000 / cells).max(3);
        // Another order each round: neighbours in memory would flatter.
        let order = |round: i64| (0..cells).map(move |n| n * (7_919 + 2 * round) % cells);
        let began = Instant::now();
        (0..rounds).for_each(|round| order(round).for_each(|row| accept(&zm, like(row), &options)));
        let ours = began.elapsed().as_nanos() as f64 / (rounds * cells) as f64;
        let mut map: HashMap<String, i64> = HashMap::new();
        let began = Instant::now();
        (0..rounds).for_each(|round| {
            order(round).for_each(|row| *map.entry(format!("cell {row}")).or_default() += 1)
        });
        let raw = began.elapsed().as_nanos() as f64 / (rounds * cells) as f64;
        let peer = Some(("HashMap<String, i64> of as many", raw));
        let target = Target::Ratio(*bound.get_or_insert(2.0 * ours / raw));
        lines.push(Line { name, ours_ns: ours, peer, target });
        discard(zm).await;
    }
    memory(servers, lines).await
}

/// What pending cells take of the process, beside what the engine counts against `batch_max_bytes`.
async fn memory(servers: &Servers, lines: &mut Vec<Line>) -> Result<(), Failure> {
    const CELLS: i64 = 1_000_000;
    // The journal is a file: only what is composed is in memory.
    let zm = servers.another(&[("journal", "journal".into())]).await?;
    let options = WriteOptions::default();
    let before = resident()?;
    (0..CELLS).for_each(|row| accept(&zm, like(row), &options));
    let (taken, counted) = (resident()? - before, zm.stats().pending_bytes as f64);
    lines.push(Line {
        name: "memory of a pending cell",
        ours_ns: taken / CELLS as f64,
        peer: Some(("counted as", counted / CELLS as f64)),
        // Resident memory stays below the bound and a tenth.
        target: Target::Bytes(1.1 * counted / CELLS as f64),
    });
    discard(zm).await;
    Ok(())
}

/// Bytes of this process in memory, without mapped files.
fn resident() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find(|line| line.starts_with("RssAnon:")).ok_or("no RssAnon in /proc/self/status")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("RssAnon has no figure")?.parse()?;
    Ok(kib * 1024.0)
}

/// Closes an engine whose operations nobody wants.
async fn discard(zm: Zmsg) {
    let closing = zm.with_timeout(Some(std::time::Duration::from_millis(1)));
    // It says what it could not flush; that is the point.
    drop(closing.close().await);
}
