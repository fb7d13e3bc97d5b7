//! The core beside the raw crates, measured in one run. Prints a table and writes one JSON line per figure to the file
//! named by the first argument; a second one, `memory`, `aggregate`, `queue`, `coherence` or the name of a verb, leaves out the rest.
//!
//! Servers come from ZMSG_POSTGRES_DSN, ZMSG_REDIS_ADDR and ZMSG_QUEUE__ADDR; it works in a schema and a namespace of its own.

// A benchmark reads clocks and spawns by itself.
#![allow(clippy::disallowed_methods)]

mod aggregate;
mod coherence;
mod measure;
mod memory;
mod queue;
mod servers;

use std::io::Write;

use measure::Line;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), servers::Failure> {
    // As in a service: on a thread of the runtime, where its tasks and those of the drivers meet.
    tokio::spawn(run()).await?
}

async fn run() -> Result<(), servers::Failure> {
    let servers = servers::Servers::open().await?;
    let mut lines: Vec<Line> = Vec::new();
    let only = std::env::args().nth(2).unwrap_or_default();
    if only.is_empty() || only == "memory" {
        memory::measure(&servers.zmsg, &mut lines).await?;
    }
    if only.is_empty() || only == "aggregate" {
        aggregate::measure(&servers, &mut lines).await?;
    }
    if only.is_empty() || only == "queue" {
        queue::measure(&servers, &mut lines).await?;
    }
    if only.is_empty() || only == "coherence" {
        coherence::measure(&servers, &mut lines).await?;
    }
    servers.measure(&only, &mut lines).await?;
    println!("{:<38} {:>10}  {:<34} {:>7}  {:>10}", "operation", "zmsg", "raw", "ratio", "target");
    lines.iter().for_each(|line| println!("{}", line.show()));
    if let Some(path) = std::env::args().nth(1) {
        let mut file = std::fs::File::create(path)?;
        lines.iter().try_for_each(|line| writeln!(file, "{}", line.json()))?;
    }
    servers.close().await?;
    Ok(())
}
